"""The whole chain on the sample: scenes, the training pipeline, a routed and a streamed video."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from components.evaluation.report_schema import REPORT_FILE, REPORT_PAGE, load_report
from components.scenes.writer import CLIPS_FOLDER, ScenesConfig, write_scenes
from foundation.configuration import configuration
from foundation.storage import atomic_path
from inference_graph.clients.gateway import StreamOptions, StreamSummary
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.supervisor import ready_of
from inference_graph.local_video.route import RouteVideoConfig, VideoSummary, route_video
from pipelines.cli.platform_display import stream_to
from pipelines.ladder_files import ladder_files, ladder_folder
from pipelines.local import StepEvent
from pipelines.options import merge
from pipelines.training.run import TrainingRun, run_training
from pipelines.versions import code_version

SHOWN = ("always-large", "always-small", "always-nano", "gearshift", "oracle")
"""Rows of the report that the demo prints."""

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "time": {"images": 40, "repeats": 3},
    "compare_rungs": {"frames": 40},
}
"""Measured on fewer frames than in a run of one's own: a demo is waited for."""

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
Display = Callable[[], AbstractContextManager[Callable[[StepEvent], None]]]


@configuration
class DemoConfig:
    """What the demo learns from and is judged by.

    Attributes:
        learn_clips: clips to learn from; a fifth of them choose between policies.
        held_out_clips: clips that only the report sees.
        clip_frames: frames of each clip. Frames of a clip are alike, so many short clips teach,
            and judge, more than a few long ones.
        video_frames: frames of the video that is routed; nothing was learned from it.
        condition: light and weather: day, night, fog, rain, blur, or mixed (mostly day).
        seed: entropy of the scenes.
        task: detection; ocr, which draws receipts, signs and labels and reads them; or speech,
            which speaks commands and talk and writes them down.
    """

    learn_clips: Annotated[int, Field(ge=2)] = 100
    held_out_clips: Annotated[int, Field(ge=1)] = 80
    clip_frames: int = 15
    video_frames: int = 120
    condition: str = "mixed"
    seed: int = 1
    task: Literal["detection", "ocr", "speech"] = "detection"

    @property
    def scenes(self) -> ScenesConfig:
        """What to render."""
        return ScenesConfig(
            clips=self.learn_clips + self.held_out_clips,
            clip_frames=self.clip_frames,
            condition=self.condition,
            seed=self.seed,
        )

    @property
    def video(self) -> ScenesConfig:
        """The video to route: a street of its own."""
        return replace(self.scenes, clips=1, clip_frames=self.video_frames, seed=self.seed + 1)

    @property
    def split(self) -> dict[str, float]:
        """Shares of the split stage, so that exactly the held-out clips are judged by."""
        clips = self.learn_clips + self.held_out_clips
        chosen_by = max(1, self.learn_clips // 5)
        return {
            "train": (self.learn_clips - chosen_by) / clips,
            "validation": chosen_by / clips,
            "test": self.held_out_clips / clips,
        }


@dataclass(frozen=True)
class DemoResult:
    """What the demo leaves behind.

    Attributes:
        rows: the report's rows to show, in the order of SHOWN.
        measure: name of their accuracy.
        run: the pipeline's run.
        report: the report as a page.
        video: the routed video; None where no video is routed, as is all that follows.
        summary: what routing it came to.
        streamed: what streaming the same street through the running platform came to.
    """

    rows: tuple[Mapping[str, Any], ...]
    measure: str
    run: TrainingRun
    report: Path
    video: Path | None = None
    summary: VideoSummary | None = None
    streamed: StreamSummary | None = None


def run_demo(
    config: DemoConfig,
    out: Path,
    ladder: str,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
) -> DemoResult:
    """Render the sample, run the pipeline on it, route a video of a street it has not seen.

    Last, every service is started and the same street is streamed to the gateway.

    A second call reuses what is unchanged: the scenes, and every step's results.

    Args:
        config: what to learn from.
        out: results folder.
        ladder: folder of the rungs' weights; empty takes the sample ladder.
        settings: options by stage, where they differ from the demo's.
        bar: makes a progress bar with a label.
        display: makes a display of the pipeline's steps.
    """
    scenes, street = out / "scenes", out / "street"
    with bar("scenes") as progress:
        render_scenes(config.scenes, scenes, progress)
    chosen = merge(merge(_SETTINGS, {"split": config.split}), settings)
    with display() as on_event:
        run = run_training(str(scenes), ladder, out, chosen, on_event, kind="demo")
    with bar("street") as progress:
        render_scenes(config.video, street, progress)
    video = out / "routed.mp4"
    source = str(next((street / CLIPS_FOLDER).glob("*.mp4")))
    with bar("route") as progress:
        summary = route_video(
            source,
            out / "policy.onnx",
            ladder_files(ladder),
            video,
            RouteVideoConfig(records=out / "routed.jsonl"),
            progress,
        )
    streamed = _stream(source, out, ladder_folder(ladder), bar)
    return replace(trained(out, run), video=video, summary=summary, streamed=streamed)


def trained(out: Path, run: TrainingRun) -> DemoResult:
    """What the training pipeline left in the results folder."""
    report = load_report(out / REPORT_FILE)
    rows = tuple(report.row(name).model_dump() for name in SHOWN)
    return DemoResult(rows, report.measure, run, out / REPORT_PAGE)


def _stream(source: str, out: Path, ladder: Path, bar: Bar) -> StreamSummary:
    """Stream a video through the whole platform, at the speed at which it answers."""
    config = UpConfig(
        policy=out / "policy.onnx",
        ladder=ladder,
        state=out / "up",
        port=0,
        graph_port=0,
        open_access=True,
    )
    with Platform(config) as platform:
        with bar("start") as progress:
            platform.start(lambda states: progress(ready_of(states), len(states)))
        return stream_to(
            source, platform.gateway, None, StreamOptions(), (), out / "streamed.jsonl"
        )


def render_scenes(
    config: ScenesConfig, scenes: Path, progress: Callable[[int, int | None], None]
) -> None:
    """Render scenes, unless these very ones lie there."""
    if not write_once(asdict(config), scenes, lambda: write_scenes(config, scenes, progress)):
        frames = config.frames + config.clips * config.clip_frames
        progress(frames, frames)


def write_once(recipe: Mapping[str, Any], folder: Path, write: Callable[[], object]) -> bool:
    """Write a folder and a note of its recipe beside it; False where that very one lies there."""
    text = json.dumps({folder.name: recipe, "code": code_version()}, indent=1)
    note = folder.with_name(f"{folder.name}.json")
    if folder.is_dir() and note.is_file() and note.read_text(encoding="utf-8") == text:
        return False
    write()
    with atomic_path(note) as partial:
        partial.write_text(text, encoding="utf-8")
    return True
