"""Scoring: the sealed expectation against the report, by the machine, once the run is evaluated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from components.experiments.attempt import Attempt
from components.experiments.outcome import PARENT, Expectation, Score, metrics_of
from components.experiments.records import Records
from components.experiments.seal import Seal, opened
from foundation.errors import InvalidInput, SealBroken
from foundation.storage import atomic_path

SCORE_FILE = "score.json"


def read_report(file: Path) -> dict[str, float]:
    """The metrics of a ``report.json``.

    Raises:
        InvalidInput: it is missing or broken.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{file} is missing or broken; run evaluate again") from error
    return metrics_of(content)


def score(sealed: Seal, figures: Mapping[str, float | None]) -> Score:
    """Compare figures with what a seal promises; void where a figure is missing."""
    of_parent = {f"{PARENT}{name}": value for name, value in sealed.parent_figures.items()}
    return Expectation.read(sealed.contract.expected).score({**figures, **of_parent})


def score_run(parameter: Mapping[str, Any], report: Path, out: Path) -> Score:
    """Score a run of the pipeline, as its last step but one.

    Where the attempt's MLflow is a server, the figures and the verdict go there from here, for
    whoever launched the run need not be there any more. A broken seal makes the outcome void.

    Args:
        parameter: the pipeline's parameter ``contract``.
        report: folder of the evaluate stage.
        out: file to write: verdict, reason and figures as JSON.

    Raises:
        InvalidInput: the report is missing or broken.
        StorageError: the MLflow server cannot be written to.
    """
    figures = read_report(report / "report.json")
    try:
        found = score(opened(parameter.get("content"), str(parameter.get("sha256"))), figures)
    except SealBroken as error:
        found = Score("void", str(error), {})
    with atomic_path(out) as partial:
        partial.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")
    uri = str(parameter.get("tracking_uri") or "")
    if uri and not uri.startswith("sqlite:"):
        records = Records(uri, out.parent)
        attempt = scored(records.get(str(parameter["run_id"])), found, figures)
        records.update(replace(attempt, state="succeeded"))
        records.attach(attempt, (report / "report.json", report / "report.html", out))
    return found


def scored(attempt: Attempt, found: Score, figures: Mapping[str, float]) -> Attempt:
    """The attempt with its outcome."""
    return replace(attempt, verdict=found.verdict, reason=found.reason, figures=dict(figures))
