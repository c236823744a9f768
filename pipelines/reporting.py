"""What a step reports while it runs and what it leaves behind for people.

Progress goes to the step's standard output as lines of its own, so a pod's log shows it as well as
the local runner, which turns it into a bar. Numbers go into KFP's Metrics, and into the artifact's
file too: without a file the local cache takes the artifact for lost.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pipelines.options import to_json

_LINE = "progress: {done} of {total}"
_PATTERN = re.compile(r"progress: (\d+) of (\d+)$")
_SECONDS_BETWEEN = 0.5


class MetricsArtifact(Protocol):
    """The part of ``kfp.dsl.Metrics`` that is used here."""

    path: str
    metadata: dict[str, Any]


class ConfusionArtifact(Protocol):
    """The part of ``kfp.dsl.ClassificationMetrics`` that is used here."""

    path: str

    def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
        """Store the matrix in the artifact's metadata."""


def progress_lines() -> Callable[[int, int | None], None]:
    """Make a progress callback that prints a line now and then, and always the last one."""
    last = 0.0

    def report(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if not total or (now - last < _SECONDS_BETWEEN and done < total):
            return
        last = now
        print(_LINE.format(done=done, total=total), flush=True)

    return report


def read_progress(line: str) -> tuple[int, int] | None:
    """Done and total of a progress line; None for any other line."""
    found = _PATTERN.match(line.strip())
    return (int(found[1]), int(found[2])) if found else None


def record_summary(summary: object, artifact: MetricsArtifact) -> None:
    """Put every number of a stage's summary into a Metrics artifact, and all of it in its file."""
    values = to_json(summary)
    artifact.metadata.update(_numbers(values, ""))
    Path(artifact.path).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def record_confusion(report: Path, names: Sequence[str], artifact: ConfusionArtifact) -> None:
    """Put the confusion matrix of a report (rows: the oracle's choice) into ClassificationMetrics.

    Args:
        report: the evaluate stage's report.json; its ``labels.confusion`` counts frames, [R][R].
        names: the rungs, in the matrix's order.
        artifact: the artifact to fill.
    """
    matrix = json.loads(report.read_text(encoding="utf-8"))["labels"]["confusion"]
    artifact.log_confusion_matrix(list(names), matrix)
    Path(artifact.path).write_text(json.dumps(matrix) + "\n", encoding="utf-8")


def show_file(source: Path, artifact_path: str) -> None:
    """Make a file of a stage the content of an HTML or Markdown artifact."""
    shutil.copyfile(source, artifact_path)


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}_")
        elif isinstance(value, bool | int | float):
            yield f"{prefix}{name}", float(value)
