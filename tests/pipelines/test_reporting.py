"""What a step reports and leaves behind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from kfp import dsl

from pipelines.reporting import progress_lines, read_progress, record_confusion, record_summary


@dataclass(frozen=True)
class Summary:
    images: int
    share: float
    by_rung: dict[str, float]
    missing: None
    seeds: tuple[int, ...]
    passed: bool


def test_progress_lines_are_read_back(capsys: pytest.CaptureFixture[str]) -> None:
    report = progress_lines()
    report(1, 3)
    report(2, 3)  # too soon after the first to be worth a line
    report(3, 3)
    report(5, None)
    lines = capsys.readouterr().out.splitlines()
    assert [read_progress(line) for line in lines] == [(1, 3), (3, 3)]
    assert read_progress("    progress: 7 of 9\n") == (7, 9)
    assert read_progress("in progress: 7 of 9") is None


def test_numbers_become_metrics_and_everything_is_in_the_file(tmp_path: Path) -> None:
    metrics = dsl.Metrics(uri=str(tmp_path / "metrics"))
    record_summary(Summary(3, 0.5, {"nano": 2.0}, None, (1, 2), True), metrics)
    assert metrics.metadata == {"images": 3.0, "share": 0.5, "by_rung_nano": 2.0, "passed": 1.0}
    stored = json.loads((tmp_path / "metrics").read_text("utf-8"))
    assert stored["seeds"] == [1, 2] and stored["missing"] is None


def test_the_confusion_matrix_has_the_oracles_choice_in_rows(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"labels": {"confusion": [[5, 1], [2, 7]]}}))
    confusion = dsl.ClassificationMetrics(uri=str(tmp_path / "confusion"))
    record_confusion(report, ("nano", "large"), confusion)
    matrix = confusion.metadata["confusionMatrix"]
    assert [spec["displayName"] for spec in matrix["annotationSpecs"]] == ["nano", "large"]
    assert [row["row"] for row in matrix["rows"]] == [[5, 1], [2, 7]]
    assert json.loads((tmp_path / "confusion").read_text("utf-8")) == [[5, 1], [2, 7]]
