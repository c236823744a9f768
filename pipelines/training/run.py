"""The training pipeline for whoever has no experiment of their own: under the baseline's contract.

Every run of the pipeline has a sealed contract. With the shipped defaults on the sample scenes it
is a launch of the baseline. The demo, a retraining and ``gearshift pipeline run`` with own data or
options are launches of a child of the baseline, under its contract: what comes of them is no
outcome of the baseline. Who believes that a change is better makes an experiment of it, with a
hypothesis of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.experiments.ledger import LedgerConfig
from components.experiments.resolve import plain, same
from pipelines.experiments.launch import launch_here, seal_launch
from pipelines.experiments.schema import open_ledger
from pipelines.local import StepEvent
from pipelines.training.sealed_run import RUN_FILE, TrainingRun, inputs_here, local_source
from pipelines.training.stages import stage_options

__all__ = ["BASELINE", "RUN_FILE", "TrainingRun", "ledger_beside", "run_training"]

BASELINE = "baseline"


def ledger_beside(out: Path, tracking_uri: str = "") -> LedgerConfig:
    """The ledger of a run: beside its results folder, where `gearshift experiment` looks too.

    Args:
        out: the results folder.
        tracking_uri: of MLflow, if the run registers its policy in one; seals go there as well.
    """
    return LedgerConfig(ledger=out.resolve().parent / "experiments", tracking_uri=tracking_uri)


def run_training(
    source: str,
    ladder: str,
    out: Path,
    settings: Mapping[str, Mapping[str, Any]],
    on_event: Callable[[StepEvent], None] = lambda event: None,
    reuse: bool = True,
    ledger: LedgerConfig | None = None,
    kind: str = "run",
) -> TrainingRun:
    """Run the training pipeline as a launch of the baseline or of a child; collect its results.

    Args:
        source: COCO-format folder, zip or URL, or ``coco2017``; empty renders the sample scenes.
        ladder: folder of the rungs' weights, or ``coco``; empty takes the sample ladder.
        out: results folder; artifacts, cache and logs lie below it too.
        settings: options by stage, where they differ from the defaults.
        on_event: called when a step starts, progresses or ends.
        reuse: whether results of an earlier run in ``out`` may stand in for a step.
        ledger: where the launch is written down; beside ``out`` without it.
        kind: tag of a child of the baseline, which is named like ``out``.

    Raises:
        ConfigurationError: an unknown option, a value out of range, or no such ladder.
        InvalidInput: Ultralytics' weights were asked for and cannot be fetched.
        StepFailed: a step failed; names it and its error.
        StorageError: the results cannot be written.
    """
    options = stage_options(settings)
    opened = open_ledger(ledger or ledger_beside(out, options["register"]["tracking_uri"]))
    try:
        source = local_source(source)
        inputs = inputs_here(source, ladder, options["ingest"]["annotations"])
        own = plain(opened.resolved(BASELINE))
        given = opened.schema.flat({**options, "inputs": {"data": source, "ladder": ladder}})
        changed = {path: value for path, value in given.items() if not same(own[path], value)}
        # Where results are registered changes nothing of what is tried.
        places = {path: value for path, value in changed.items() if path.startswith("register.")}
        changes = {path: value for path, value in changed.items() if path not in places}
        name = opened.child_for(BASELINE, out.name, changes, [kind]).name if changes else BASELINE
        attempt = seal_launch(opened, name, places, out=out, inputs=inputs)
        return launch_here(opened, attempt, on_event, reuse)
    finally:
        opened.close()
