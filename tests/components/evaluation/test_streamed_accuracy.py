from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from replay_samples import CATEGORIES, CLASSES, data_of

from components.evaluation.streamed_accuracy import change_between, streamed_accuracy
from inference_graph.prediction_log.row import SCHEMA

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
BOX = [10.0, 10.0, 30.0, 40.0]
"""Corners of the one object of every frame."""


def row(number: int, seen: bool, by: str = "nano", large: bool | None = True) -> dict[str, Any]:
    """An answer that found the object or nothing, and what large saw; None: it has not looked."""

    def fields(prefix: str, found: bool) -> dict[str, Any]:
        return {
            f"{prefix}boxes": BOX if found else [],
            f"{prefix}scores": [0.9] if found else [],
            f"{prefix}labels": [0] if found else [],
        }

    given = {
        "event_id": f"e{number}",
        "frame_id": number,
        "time": NOON + timedelta(seconds=number),
        "policy_revision": "abc",
        "answered_by": by,
        "total_ms": 10.0 + number,
        "shadow": large is not None and by != "large",
        **fields("", seen),
    }
    return given | (fields("shadow_", bool(large)) if given["shadow"] else {})


def measured(rows: list[dict[str, Any]]) -> Any:
    """Frames 0 and 1 are of a street with an object each, 2 and 3 of another one."""
    streets = {
        name: data_of(2, [(frame, (10, 10, 20, 30), CATEGORIES[0], 0) for frame in range(2)])
        for name in ("a", "b")
    }
    shown = {number: (("a", "b")[number // 2], number % 2) for number in range(4)}
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return streamed_accuracy(table, streets, shown, CLASSES)


def test_retained_against_large_and_against_the_truth() -> None:
    # Nano finds 1 of 2 objects that large finds too; large itself misses the one of frame 2.
    found = measured(
        [
            row(1, seen=False),
            row(0, seen=True),
            row(2, True, large=False),
            row(3, True, by="large", large=None),
        ]
    )
    assert found.numbers.tolist() == [0, 1, 2, 3]
    assert found.rungs.tolist() == [0, 0, 0, 2]
    figures = found.figures(np.array([1.0, 1.0, 0.0, 0.0]))
    # Recall 1 of 2: precision 1 at the 51 of 101 recall points up to 0.5.
    assert figures["retained"] == pytest.approx(51 / 101)
    assert figures["retained_truth"] == pytest.approx(51 / 101)
    assert (figures["large_share"], figures["mean_ms"]) == (0.0, 10.5)
    # On frame 2 the answer is right and large is not: nothing is retained of nothing.
    alone = found.figures(np.array([0.0, 0.0, 1.0, 0.0]))
    assert (alone["map"], alone["large_map"]) == (1.0, 0.0)
    assert np.isnan(alone["retained_truth"])
    assert found.figures(np.array([0, 0, 0, 1.0]))["retained"] == 1.0
    assert np.isnan(found.figures(np.zeros(4))["map"])


def test_frames_that_large_has_not_seen_do_not_count() -> None:
    found = measured([row(0, True), row(1, True, large=None), row(2, False, by=""), row(9, True)])
    assert found.numbers.tolist() == [0]


def test_two_passes_over_the_same_clips() -> None:
    found = measured([row(0, True), row(1, False), row(2, True), row(3, True)])
    before = {"x": np.array([0]), "y": np.array([1]), "gone": np.array([2])}
    after = {"x": np.array([2]), "y": np.array([3])}
    change, low, high = change_between(found, before, after, "map", resamples=50)
    assert change == pytest.approx(1 - 51 / 101)
    assert low <= change <= high
    assert (low, high) == (pytest.approx(0), pytest.approx(1))  # only x, or only y, is drawn
