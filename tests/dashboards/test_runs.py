from __future__ import annotations

import os
from pathlib import Path

from dashboards.pages.policies.runs import find_runs


def test_runs_that_are_called_alike_are_distinguished(tmp_path: Path) -> None:
    for age, place in enumerate(("demo", "demo/demo", "demo/other")):
        (tmp_path / place).mkdir()
        report = tmp_path / place / "report.json"
        report.write_text("{}")
        os.utime(report, (1000 - age, 1000 - age))
    (tmp_path / "demo" / "latest").symlink_to("other")
    found = {run.name: run.folder for run in find_runs(tmp_path / "demo")}
    whole = f"{tmp_path.name}/demo"
    assert list(found) == [whole, "demo/demo", "other"]  # newest first, a link is no other run
    assert found["demo/demo"] == tmp_path / "demo" / "demo"
    assert found[whole] == tmp_path / "demo"
