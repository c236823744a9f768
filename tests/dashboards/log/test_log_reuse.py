"""Frames that a stream's tracks answered, in every figure that tells the rungs apart."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from log_rows import NOON, open_log, sample_row

from dashboards.log.figures import Filter
from dashboards.log.queries import LogQueries
from dashboards.pages.explore import figures as explore_charts
from dashboards.pages.live import figures as live_charts
from dashboards.widgets.export import timeline_csv

SEEN = {"rung": "small", "answered_by": "small", "fallback": "", "shadow": False}
REUSED = SEEN | {"answered_by": "reuse", "detect_ms": 0.0, "revision": ""}


@pytest.fixture
def queries(tmp_path: Path) -> Iterator[LogQueries]:
    """Twenty frames, a second apart: small looks at every fourth, the others are reused."""
    with open_log(tmp_path / "log") as log:
        for index in range(20):
            fields = REUSED if index % 4 else SEEN
            row = sample_row(index, NOON + timedelta(seconds=index), **fields)
            log.append(row)
        assert log.flush(60)
    opened = LogQueries(str(tmp_path / "log"), 10**6, 2)
    assert opened.refresh(60).complete
    yield opened
    opened.close()


def test_reuse_is_a_gear_of_its_own(queries: LogQueries) -> None:
    expected = {"nano": 0, "small": 5, "large": 0, "reuse": 15}
    totals, line = queries.totals(), queries.timeline()
    assert (totals.frames, totals.answered, totals.failed) == (expected, 20, 0)
    assert {gear: int(frames.sum()) for gear, frames in line.frames.items()} == expected
    assert int(line.answered.sum()) == 20
    assert {g: int(h.frames.sum()) for g, h in queries.latency_by_rung().items()} == expected
    by_condition = queries.conditions()
    assert {gear: sum(one[gear] for one in by_condition.values()) for gear in expected} == expected
    assert queries.totals(Filter(rungs=("reuse",))).answered == 15


def test_charts_and_tables_show_it(queries: LogQueries) -> None:
    line, groups = queries.timeline(), queries.conditions()
    _, live = live_charts.shares_figure(line, None, "light")
    _, explore = explore_charts.frames_figure(line, "dark")
    _, conditions = explore_charts.shares_figure(groups, (), "light")
    assert all("reuse 75" in one for one in (live, explore))
    assert "reuse" in conditions
    assert timeline_csv(line).startswith("start,seconds,nano,small,large,reuse,unanswered")
