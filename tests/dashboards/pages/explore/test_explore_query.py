"""Addresses of the explore page, its CSV files, and what a chart's brush means."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from log_rows import NOON

from dashboards.log.figures import Filter, Histogram, Timeline
from dashboards.log.frames import LoggedFrame
from dashboards.pages.explore.figures import brushed_milliseconds, latency_figure
from dashboards.pages.explore.query import filter_of, query_of
from dashboards.widgets.export import frames_csv, timeline_csv
from inference_graph.contract import LADDER


@pytest.mark.parametrize(
    "chosen",
    [
        Filter(),
        Filter(since=NOON, until=NOON + timedelta(seconds=90)),
        Filter(sessions=("robot-1", "robot.2"), rungs=("nano", "large")),
        Filter(conditions=("", "heavy, warm 50 % rain", "night")),
        Filter(total_ms=(2.5, 300.0), fallbacks=True, images=True),
    ],
)
def test_an_address_restores_its_view(chosen: Filter) -> None:
    assert filter_of(query_of(chosen)) == chosen


def test_what_stands_at_its_default_is_left_out() -> None:
    assert query_of(Filter()) == {}
    assert query_of(Filter(rungs=("small",))) == {"rung": "small"}


@pytest.mark.parametrize(
    "query",
    [
        {"from": "yesterday", "to": ""},
        {"rung": "huge,,enormous"},
        {"ms": "10"},
        {"ms": "30-10"},
        {"ms": "nan-nan"},
        {"ms": "-5--1"},
        {"only": "mine"},
        {"unknown": "1"},
    ],
)
def test_what_is_broken_in_an_address_is_ignored(query: dict[str, str]) -> None:
    assert filter_of(query) == Filter()


def test_times_of_other_zones_are_read() -> None:
    assert filter_of({"from": "2026-11-21T14:00:00+02:00"}).since == NOON
    assert filter_of({"to": "2026-11-21 12:00:00"}).until == NOON
    assert filter_of({"ms": "5-"}).total_ms == (5.0, 1e9)
    assert filter_of({"ms": "-5"}).total_ms == (0.0, 5.0)


def test_a_brush_over_the_latency_chart_is_milliseconds() -> None:
    assert brushed_milliseconds(2.0, 1.0) == (10.0, 100.0)
    histogram = Histogram(np.array([9.9, 10.1, 120.0]), np.array([3, 4, 5]))
    empty = Histogram(np.zeros(0), np.zeros(0, np.int64))
    drawn, words = latency_figure(
        {"nano": histogram, "small": empty, "large": empty}, (10.0, 100.0), "light"
    )
    nano = drawn.data[0]
    assert nano.name == "nano" and sum(nano.y) == 12
    # Bars stand in log10 of milliseconds: 9.9 ms left of 1, 10.1 ms right of it.
    assert [x < 1 for x in nano.x] == [True, False, False] and 2.0 < nano.x[2] < 2.2
    (mark,) = drawn.layout.shapes
    assert (mark.x0, mark.x1) == (1.0, 2.0)
    assert "nano median 10.1 ms" in words and "small median –" in words


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_of_figures_over_time() -> None:
    zero = np.zeros(2, np.int64)
    line = Timeline(
        (NOON, NOON + timedelta(seconds=5)),
        5.0,
        {"nano": np.array([1, 2]), "small": np.array([3, 4]), "large": zero},
        zero,
        np.array([0, 1]),
        np.array([7, 0]),
        np.array([0.5, np.nan]),
    )
    first, second = read(timeline_csv(line))
    assert datetime.fromisoformat(first["start"]) == NOON
    assert [first[rung] for rung in LADDER] == ["1", "3", "0"]
    assert (first["agreement"], second["agreement"]) == ("0.5", "")
    assert (first["dropped"], second["fallbacks"], second["seconds"]) == ("7", "1", "5.0")


def test_csv_of_frames_holds_no_formula() -> None:
    values = {
        "event_id": "=HYPERLINK(1)",
        "time": NOON.astimezone(UTC),
        "session": "-1+1",
        "condition": "@night",
        "total_ms": 1.5,
        "agreement": None,
    }
    (row,) = read(frames_csv([LoggedFrame(values)]))
    assert row["event_id"] == "'=HYPERLINK(1)"
    assert (row["session"], row["condition"]) == ("'-1+1", "'@night")
    assert (row["total_ms"], row["agreement"], row["rung"]) == ("1.5", "", "")
    assert datetime.fromisoformat(row["time"]) == NOON
