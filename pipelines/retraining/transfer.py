"""A policy for a new camera, ladder or task from an older one, and what that saves in labels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.policy.clone import CloneConfig
from components.policy.files import POLICY_FILE
from components.policy.learning_curve import CurveConfig, LearningPoint, learning_curves
from components.policy.older_policy import network_of
from foundation.errors import ConfigurationError
from foundation.storage import atomic_path, sha256_file
from pipelines.local import StepEvent
from pipelines.training.run import TrainingRun, run_training

TRANSFER_FILE = "transfer.json"

_NO_SAVING = (
    "no saving can be measured: on the test clips the labels win nothing over the best fixed rung"
)

Bar = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]
Display = Callable[[], AbstractContextManager[Callable[[StepEvent], None]]]


@dataclass(frozen=True)
class Transfer:
    """A policy that began as another one.

    Attributes:
        out: results folder.
        outcome: one sentence: registered as what, or refused and why.
        policy: the new policy.
        start: revision of the older one.
        unchanged: share of the labels' gain that the older policy has on the new data as it is.
        curve: what both ways reach by labelled frames.
        saving: the same in a sentence for each number of frames.
        run: the training pipeline's run.
    """

    out: Path
    outcome: str
    policy: Path
    start: str
    unchanged: float
    curve: tuple[LearningPoint, ...]
    saving: tuple[str, ...]
    run: TrainingRun


def transfer(
    start: Path,
    data: str,
    out: Path,
    ladder: str,
    settings: Mapping[str, Mapping[str, Any]],
    bar: Bar,
    display: Display,
) -> Transfer:
    """Train on new data from an older policy, and measure how many labelled frames that saves.

    Args:
        start: the older policy's ONNX file.
        data: the new data: COCO-format folder, zip or URL.
        out: results folder.
        ladder: folder of the new rungs' weights; empty takes the sample ladder.
        settings: options of the training pipeline's stages, where they differ from the defaults.
        bar: makes a progress bar with a label.
        display: makes a display of the pipeline's steps.

    Raises:
        ConfigurationError: no data is named, or a setting is wrong.
        InvalidInput: there is no such policy.
        ModelError: it is none.
        StepFailed: a step of the training pipeline failed.
        StorageError: something could not be written.
    """
    if not data:
        raise ConfigurationError("which data the new policy is for is not known; give --data")
    network_of(start)  # before an hour of training
    digest = sha256_file(start)
    # A name of its content, so that results of another older policy are not taken for these.
    kept = (out / f"start-{digest[:12]}.onnx").resolve()
    if not kept.is_file():
        with atomic_path(kept) as partial:
            shutil.copyfile(start, partial)
    recipe = {**settings.get("clone", {}), "start": str(kept)}
    with display() as on_event:
        run = run_training(
            data, ladder, out, {**settings, "clone": recipe}, on_event, kind="retraining"
        )
    with bar("learning curves") as progress:
        curves = learning_curves(
            out / "replay", kept, CloneConfig(**recipe), CurveConfig(), progress
        )
    with atomic_path(out / TRANSFER_FILE) as partial:
        content = {"start": digest, **asdict(curves)}
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Transfer(
        out=out,
        outcome=run.outcome if curves.points else f"{run.outcome}; {_NO_SAVING}",
        policy=out / POLICY_FILE,
        start=digest[:12],
        unchanged=curves.unchanged,
        curve=curves.points,
        saving=tuple(saving(point) for point in curves.points),
        run=run,
    )


def saving(point: LearningPoint) -> str:
    """One point of the learning curve."""
    low, high = point.gain_interval
    from_nothing = point.frames_from_scratch
    needed = "more than there are" if from_nothing is None else f"{from_nothing:,}"
    return (
        f"{point.frames:,} labelled frames: {point.started:.1%} of the labels' gain from the older "
        f"policy, {point.scratch:.1%} from nothing ({point.gain:+.1%}, 95 % interval {low:+.1%} "
        f"to {high:+.1%}); from nothing {needed} are needed for the same"
    )
