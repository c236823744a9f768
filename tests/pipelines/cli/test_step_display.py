"""What a demo prints when it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from components.experiments.scoring import SCORE_FILE
from pipelines.cli.step_display import show_demo
from pipelines.training.demo import DemoResult
from pipelines.training.run import TrainingRun


def test_a_figure_that_does_not_exist_is_a_dash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where large finds nothing, there is no accuracy to retain."""
    (tmp_path / SCORE_FILE).write_text(json.dumps({"verdict": "missed", "reason": "no figure"}))
    figures = {"mean_ms": 12.34, "p95_ms": 20.0, "fps": 81.0, "usd_per_million": 0.3}
    row = {"name": "gearshift", "map": 0.0, "retained": None, **figures}
    run = TrainingRun(tmp_path, "refused", False, tmp_path / "data", {}, {})
    show_demo(DemoResult((row,), "mAP50-95", run, tmp_path / "report.html"))
    cells = [line for line in capsys.readouterr().out.splitlines() if "gearshift" in line][0]
    assert [cell.strip() for cell in cells.strip("│ ").split("│")] == [
        *("gearshift", "0.000", "–", "12.3", "20.0", "81.0", "0.30")
    ]
