"""The drift pipeline on this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.drift.config import DriftConfig
from components.drift.window import WindowConfig
from foundation.errors import InvalidInput
from inference_graph.control.drift_state import DriftState, read_state
from pipelines.drift.pipeline import monitoring_pipeline
from pipelines.local import StepEvent, run_locally
from pipelines.options import to_json
from pipelines.placement import PlacementConfig
from pipelines.versions import code_version


@dataclass(frozen=True)
class WatchedLog:
    """What is watched, and what a challenger needs.

    Attributes:
        log: folder or bucket of the prediction log.
        reference: reference.parquet of the policy's training run, its folder, or a log.
        champion: the policy in use, an ONNX file.
        data: what it was trained on; empty where it lies in the folder of its run.
        ladder: folder of the rungs' weights; empty takes the sample ladder.
        retrain: options of the retraining, where they differ from the defaults.
        training: options of the training pipeline by stage, likewise.
    """

    log: str
    reference: str
    champion: str = ""
    data: str = ""
    ladder: str = ""
    retrain: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class MonitoringRun:
    """What a run came to: a sentence, whether drift hurts, and what the check left."""

    outcome: str
    harmful: bool
    state: DriftState


def run_monitoring(
    watched: WatchedLog,
    window: WindowConfig,
    drift: DriftConfig,
    out: Path,
    on_event: Callable[[StepEvent], None] = lambda event: None,
) -> MonitoringRun:
    """Run the drift pipeline: read, compare, and retrain if drift hurts.

    Args:
        watched: log, reference, champion and its data.
        window: which answers are examined.
        drift: how.
        out: results folder; state and reports lie in it, artifacts and logs below it.
        on_event: called when a step starts, progresses or ends.

    Raises:
        StepFailed: a step failed; names it and its error.
        InvalidInput: the run left no state.
    """
    arguments = {
        "log": _absolute(watched.log),
        "reference": _absolute(watched.reference),
        "champion": _absolute(watched.champion),
        "data": _absolute(watched.data),
        "ladder": _absolute(watched.ladder),
        "retrain": to_json(watched.retrain),
        "training": to_json(watched.training),
        "results_folder": str(out.resolve()),
        "code_version": code_version(),
        "window": to_json(window),
        "drift": to_json(drift),
    }
    run = run_locally(
        monitoring_pipeline(PlacementConfig(retries=0)),
        arguments,
        out / "work",
        out / "logs",
        on_event,
        reuse=False,
    )
    state = read_state(out)
    if state is None:
        raise InvalidInput(f"the run left no state in {out}; see the logs of its steps there")
    return MonitoringRun(str(run.outputs["outcome"]), bool(run.outputs["harmful"]), state)


def _absolute(place: str) -> str:
    """A path for steps, which run in folders of their own; urls stay as they are."""
    return str(Path(place).expanduser().resolve()) if place and "://" not in place else place
