"""The demo of a task other than detection: a sample from a seed, the training pipeline, its report.

The policy reads the input's own numbers (``clone.uses_frame``): those of these tasks tell how hard
it is, and a first input has no look before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from components.parallel import Progress
from components.tasks.ocr.documents import DocumentsConfig, write_documents
from components.tasks.speech.utterances import UtterancesConfig, write_utterances
from inference_graph.tasks.ocr.reader import OCR
from inference_graph.tasks.speech.listener import SPEECH
from pipelines.options import merge
from pipelines.training.demo import Bar, DemoConfig, DemoResult, Display, trained, write_once
from pipelines.training.run import run_training


@dataclass(frozen=True)
class Sample:
    """A task's sample.

    Attributes:
        folder: name of the folder that it is written to.
        config: what to write: a class that takes clips, clip_frames and seed.
        write: writes the sample.
        clip_frames: inputs of a clip. Where they are alike, more clips teach and judge more than
            longer ones.
    """

    folder: str
    config: Callable[..., Any]
    write: Callable[[Any, Path, Progress], None]
    clip_frames: int


SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        OCR: Sample("documents", DocumentsConfig, write_documents, clip_frames=2),
        SPEECH: Sample("utterances", UtterancesConfig, write_utterances, clip_frames=2),
    }
)
"""By the name of the task, which is also its ladder's."""
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "clone": {"uses_frame": True},
    "time": {"images": 40, "repeats": 3},
    "compare_rungs": {"frames": 24},
    "spot_check": {"images": 16},
}


def run_task_demo(
    config: DemoConfig,
    out: Path,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
) -> DemoResult:
    """Write the sample of a task, and train and judge a policy for the engines of its ladder.

    Args:
        config: the task, clips to learn from and to judge by, and the seed; what concerns scenes
            and video is not used.
        out: results folder.
        settings: options by stage, where they differ from the demo's.
        bar: makes a progress bar with a label.
        display: makes a display of the pipeline's steps.
    """
    sample = SAMPLES[config.task]
    data = out / sample.folder
    clips = config.learn_clips + config.held_out_clips
    chosen = sample.config(clips=clips, clip_frames=sample.clip_frames, seed=config.seed)
    with bar(sample.folder) as progress:
        write_once(asdict(chosen), data, lambda: sample.write(chosen, data, progress))
    merged = merge(merge(_SETTINGS, {"split": config.split}), settings)
    with display() as on_event:
        run = run_training(str(data), config.task, out, merged, on_event, kind="demo")
    return trained(out, run)
