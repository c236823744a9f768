"""Logs are found where the demos and the gateway write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from log_rows import write_sample

from dashboards.config import DashboardConfig
from dashboards.log.found import find_logs, last_written
from dashboards.sources import Sources


def aged(log: Path, seconds: float) -> None:
    for path in (*log.glob("predictions/*/*"), *log.glob("journal/predictions/*")):
        os.utime(path, (seconds, seconds))


def test_logs_below_a_folder_are_found_newest_first(tmp_path: Path) -> None:
    old, new = tmp_path / "runs/up/log", tmp_path / "runs/demo-drift/up/log"
    for log, seconds in ((old, 1e9), (new, 1.1e9)):
        write_sample(log, 5)
        aged(log, seconds)
    (tmp_path / "runs/demo").mkdir()
    (tmp_path / "runs/.hidden").mkdir()
    (tmp_path / "runs/circle").symlink_to(tmp_path / "runs")
    assert list(find_logs(tmp_path / "runs")) == [new, old]
    assert last_written(tmp_path / "runs/demo") is None
    assert find_logs(tmp_path / "nowhere") == {}


def test_a_demo_is_shown_until_the_usual_log_has_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sample(Path("runs/demo-drift/up/log"), 5)
    sources = Sources(DashboardConfig())
    try:
        assert sources.logs == ("runs/up/log", "runs/demo-drift/up/log")
        assert sources.log.url == "runs/demo-drift/up/log"
        assert sources.log_of("runs/up/log").url == "runs/up/log"
        # An address cannot open any other folder.
        assert sources.log_of("/etc").url == sources.log_of(None).url == sources.log.url
        write_sample(Path("runs/up/log"), 5)
        assert sources.log.url == "runs/up/log"
    finally:
        sources.close()


def test_a_log_that_was_named_is_shown_even_if_it_is_empty(tmp_path: Path) -> None:
    write_sample(tmp_path / "runs/demo-drift/up/log", 5)
    named = str(tmp_path / "mine")
    sources = Sources(DashboardConfig(log=named, runs=tmp_path / "runs/demo"))
    try:
        assert sources.log.url == named
        assert sources.logs == (named, str(tmp_path / "runs/demo-drift/up/log"))
    finally:
        sources.close()
