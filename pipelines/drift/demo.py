"""Drift from its beginning to its end, on this machine: day, rain, a retraining, recovery.

A policy learns from day scenes. Every service is started and one camera streams day, then rain,
without a pause. The drift check reads the prediction log. When it finds drift that hurts, a
challenger is trained on the day's data and the log's new frames *while the stream goes on*, and
takes over in the running gateway. Last, the same rain clips that the champion had answered are
streamed again, so before and after are compared on the same frames. Nothing is prepared: where
no harm is found, or the challenger is refused, the demo reports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from components.data.dataset import Dataset, load_dataset
from components.drift.check import Compared, check_drift
from components.drift.config import DriftConfig
from components.drift.reference import REFERENCE_FILE
from components.drift.window import WindowConfig
from components.scenes.conditions import CONDITIONS
from components.scenes.writer import ScenesConfig
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from inference_graph.control.drift_state import DriftState
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.embedded.supervisor import ready_of
from pipelines.drift.traffic import DriftTraffic, Sent, Shot
from pipelines.ladder_files import ladder_folder
from pipelines.local import StepEvent
from pipelines.options import merge
from pipelines.retraining.retrain import RetrainConfig, Retraining, retrain
from pipelines.training.demo import render_scenes
from pipelines.training.run import run_training

DAY, DRIFT, BEFORE, TRAINING, AFTER = ("day", "drift", "before", "training", "after")
"""Phases of the stream: day; the new condition until it is found; clips that
the champion answers; what goes on during the training; those clips once more."""
_STREET, _NEW, _JUDGED = "street", "new", "judged"
_SESSION = "drift-demo"
_ANY_LATENCY = 1.0
"""The budget is what bounds latency here; the gate and the comparison judge accuracy."""
_ANY_MARGIN = -1.0
"""On so few clips every interval of a lift includes chance."""
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "split": {"train": 0.5, "validation": 0.15, "test": 0.35},
    "time": {"images": 40, "repeats": 3},
    "clone": {"seeds": 3},
    "refine": {"timesteps": 40_000, "enough": 1.0},
    "gate": {
        "latency_ratio": _ANY_LATENCY,
        "hull_margin": _ANY_MARGIN,
        "rule_margin": _ANY_MARGIN,
        "gear_gain": _ANY_MARGIN,
    },
    "evaluate": {"points": 8, "bootstrap": 60, "fleet_sizes": (1, 4)},
}
"""Options of the training pipeline where minutes count; ``--set`` has the last word."""

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
Display = Callable[[], AbstractContextManager[Callable[[StepEvent], None]]]


@configuration
class DriftDemoConfig:
    """What is streamed, and how drift is looked for.

    Attributes:
        learn_clips: day clips that the champion learns from and is judged by.
        day_clips: day clips that are streamed first.
        new_clips: clips of the new condition, streamed until drift is found; what the challenger
            learns from.
        judged_clips: clips of the new condition that both policies answer; none learns from them.
        clip_frames: frames of each clip.
        condition: what comes after day: night, fog, rain or blur. Rain is where a policy that has
            only seen day loses accuracy with the sample ladder: it takes the frames for easy ones.
        latency_budget: mean latency that a policy may have, over large's: a fleet that wants
            accuracy first. With little to spend, a cheap rung answers everything before and after.
        fps: frames per second of the stream; slow enough for large to look at most of them too.
        training_fps: frames per second while the challenger is trained on the same cores.
        check_frames: frames of the new condition between two drift checks.
        window_frames: answers that a check reads, the newest.
        seed: entropy of the scenes.
    """

    learn_clips: Annotated[int, Field(ge=10, le=10_000)] = 70
    day_clips: Annotated[int, Field(ge=1, le=10_000)] = 14
    new_clips: Annotated[int, Field(ge=10, le=10_000)] = 50
    judged_clips: Annotated[int, Field(ge=1, le=10_000)] = 24
    clip_frames: Annotated[int, Field(ge=1, le=10_000)] = 12
    condition: str = "rain"
    latency_budget: Annotated[float, Field(ge=0.01, le=1)] = 0.75
    fps: Annotated[float, Field(ge=0.1, le=240)] = 8.0
    training_fps: Annotated[float, Field(ge=0.1, le=240)] = 2.0
    check_frames: Annotated[int, Field(ge=20, le=10**6)] = 120
    window_frames: Annotated[int, Field(ge=20, le=10**6)] = 360
    seed: int = 11

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value is out of range."""
        if self.condition not in CONDITIONS or self.condition == "day":
            others = ", ".join(name for name in CONDITIONS if name != "day")
            raise ConfigurationError(f"condition is {self.condition!r}; give one of {others}")

    def scenes(self, clips: int, condition: str, offset: int) -> ScenesConfig:
        """A street of its own."""
        return ScenesConfig(
            clips=clips,
            clip_frames=self.clip_frames,
            condition=condition,
            seed=self.seed + offset,
        )


@dataclass(frozen=True, eq=False)
class DriftDemo:
    """What happened.

    Attributes:
        out: results folder.
        champion: revision of the first policy.
        sent: the fate of every frame.
        scenes: what was streamed, by name.
        log: the prediction log.
        began: when the first frame of the new condition was answered, seconds since 1970.
        found: when harmful drift was found; None where it was not.
        swapped: when the challenger took over; None where it did not.
        checks: every drift check, in order.
        retraining: the retraining; None where none was called for.
        seconds: wall time in all.
    """

    out: Path
    champion: str
    sent: Sequence[Sent]
    scenes: Mapping[str, Dataset]
    log: str
    began: float
    found: float | None
    swapped: float | None
    checks: Sequence[DriftState]
    retraining: Retraining | None
    seconds: float


def run_drift_demo(
    config: DriftDemoConfig,
    out: Path,
    ladder: str,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
    say: Callable[[str], None],
) -> DriftDemo:
    """Stream day, then another condition; find the drift, retrain, swap, and stream again.

    A second call reuses what is unchanged: the scenes, and the champion.

    Args:
        config: what to stream.
        out: results folder.
        ladder: folder of the rungs' weights; empty takes the sample ladder.
        settings: options of the training pipeline's stages, where they differ from the demo's.
        bar: makes a progress bar with a label.
        display: makes a display of a pipeline's steps.
        say: called with each event, as text.
    """
    started = time.monotonic()
    scenes = _render_all(config, out, bar)
    budget = {"refine": {"latency_budget": config.latency_budget}}
    chosen = merge(merge(_QUICK, budget), settings)
    say("a champion learns from day scenes")
    with display() as on_event:
        champion = run_training(
            str(out / "scenes"), ladder, out / "champion", chosen, on_event, kind="demo"
        )
    say(champion.outcome)
    up = UpConfig(
        policy=champion.out / "policy.onnx",
        ladder=ladder_folder(ladder),
        state=out / "up",
        log=str(_fresh_log(out)),
        port=0,
        graph_port=0,
        open_access=True,
        deadline_ms=5000.0,
        shadow_share=1.0,
        image_share=1.0,
    )
    with Platform(up) as platform:
        with bar("start") as progress:
            platform.start(lambda states: progress(ready_of(states), len(states)))
        with DriftTraffic(platform.gateway, _SESSION, config.fps) as traffic:
            story = _Story(config, out, platform, traffic, scenes, bar, say)
            story.stream_day()
            story.stream_until_found()
            retraining = story.retrain(ladder, chosen, display)
            story.stream_again()
        sent = list(traffic.sent)
    return DriftDemo(
        out=out,
        champion=story.champion,
        sent=sent,
        scenes=scenes,
        log=up.log or "",
        began=story.began,
        found=story.found,
        swapped=story.swapped,
        checks=story.checks,
        retraining=retraining,
        seconds=time.monotonic() - started,
    )


class _Story:
    """The phases of the stream, in order."""

    def __init__(
        self,
        config: DriftDemoConfig,
        out: Path,
        platform: Platform,
        traffic: DriftTraffic,
        scenes: Mapping[str, Dataset],
        bar: Bar,
        say: Callable[[str], None],
    ) -> None:
        self.began = 0.0
        self.found: float | None = None
        self.swapped: float | None = None
        self.checks: list[DriftState] = []
        self.champion = ""
        self._config, self._out, self._platform = config, out, platform
        self._traffic, self._scenes, self._bar, self._say = traffic, scenes, bar, say
        self._first = 0

    def stream_day(self) -> None:
        """Day, and a check that shall find nothing."""
        self._play(DAY, _STREET)
        state = self._check()
        self._say(f"day: {state.sentence}")

    def stream_until_found(self) -> None:
        """The new condition, a check after every few frames, until drift is found to hurt."""
        shots = _shots(DRIFT, _NEW, self._scenes[_NEW])
        self.began = time.time()
        self._first = len(self._traffic.sent)
        step = self._config.check_frames
        for at in range(0, len(shots), step):
            with self._bar(f"stream {self._config.condition}") as progress:
                self._traffic.play(shots[at : at + step])
                progress(min(at + step, len(shots)), len(shots))
            state = self._check()
            self._say(f"{self._config.condition}: {state.sentence}")
            if state.decision == "retrain":
                self.found = time.time()
                return

    def retrain(
        self, ladder: str, settings: Mapping[str, Mapping[str, Any]], display: Display
    ) -> Retraining | None:
        """The champion answers the judged clips; then a challenger is trained as they go on."""
        since = datetime.fromtimestamp(self._traffic.sent[self._first].time - 1, UTC)
        until = datetime.now(UTC)
        self._play(BEFORE, _JUDGED)
        if self.found is None:
            return None
        self._traffic.fps = self._config.training_fps
        self._traffic.between(_shots(TRAINING, _NEW, self._scenes[_NEW]))
        wanted = RetrainConfig(
            champion=self._out / "champion" / "policy.onnx",
            log=self._platform.log_url,
            since=since.isoformat(),
            until=until.isoformat(),
            feedback=self._out / "feedback",
            clip_frames=self._config.clip_frames,
            swap=self._platform.gateway,
            latency_ratio=_ANY_LATENCY,
        )
        result = retrain(wanted, self._out / "retrain", ladder, settings, self._bar, display)
        if result.swapped:
            self.swapped = time.time()
        self._traffic.check()
        self._traffic.between(())
        self._traffic.fps = self._config.fps
        self._say(result.outcome)
        return result

    def stream_again(self) -> None:
        """The clips that the champion answered, answered by who decides now."""
        if self.swapped is not None:
            self._play(AFTER, _JUDGED)

    def _play(self, phase: str, folder: str) -> None:
        shots = _shots(phase, folder, self._scenes[folder])
        with self._bar(f"stream {phase}") as progress:
            for at in range(0, len(shots), self._config.clip_frames):
                self._traffic.play(shots[at : at + self._config.clip_frames])
                progress(min(at + self._config.clip_frames, len(shots)), len(shots))

    def _check(self) -> DriftState:
        """The newest answers against what the champion was trained on."""
        sent = [one for one in self._traffic.sent if one.answered_by]
        first = sent[-min(len(sent), self._config.window_frames)]
        time.sleep(1.5)  # the log stores what was answered within a second
        since = datetime.fromtimestamp(first.time - 0.001, UTC).isoformat()
        state = check_drift(
            self._platform.log_url,
            Compared(str(self._out / "champion" / REFERENCE_FILE)),
            WindowConfig(since=since),
            self._out / "drift",
            DriftConfig(tabular=False, embedding="numpy"),
        )
        self.champion = self.champion or state.policy_revision
        self.checks.append(state)
        return state


def _render_all(config: DriftDemoConfig, out: Path, bar: Bar) -> dict[str, Dataset]:
    """Render the champion's scenes and the streets to stream; returns the streets."""
    with bar("scenes") as progress:
        render_scenes(config.scenes(config.learn_clips, "day", 0), out / "scenes", progress)
    streets = {
        _STREET: config.scenes(config.day_clips, "day", 1),
        _NEW: config.scenes(config.new_clips, config.condition, 2),
        _JUDGED: config.scenes(config.judged_clips, config.condition, 3),
    }
    for name, street in streets.items():
        with bar(name) as progress:
            render_scenes(street, out / "streets" / name, progress)
    return {name: load_dataset(out / "streets" / name) for name in streets}


def _fresh_log(out: Path) -> Path:
    """A log of its own for every call, so that no earlier night is in the window."""
    return (out / "logs" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}").resolve()


def _shots(phase: str, name: str, data: Dataset) -> list[Shot]:
    """Every frame of a street, clip after clip."""
    return [
        Shot(phase, name, int(index), data.path_of(int(index)))
        for clip in data.clips
        for index in clip.indexes
    ]
