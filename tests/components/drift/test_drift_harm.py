from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from test_drift_thinning import frames_with

from components.drift.frames import Frames
from components.drift.harm import clusters_of, measure_harm
from inference_graph.prediction_log.retained import student


def looked(stream: list[int], agreement: list[float], large: list[int] | None = None) -> Frames:
    rung = np.array([2 if one else 0 for one in (large or [0] * len(stream))])
    given = np.where(rung == 2, 1.0, np.array(agreement, np.float64))
    return dataclasses.replace(frames_with(stream), agreement=given, rung=rung)


def test_the_loss_and_its_interval_by_hand() -> None:
    """Ten clusters of one frame each: the plain standard error of a mean of ten."""
    old = looked(list(range(10)), [0.9, 1.0] * 5)
    new = looked(list(range(10)), [0.6, 0.8] * 5)
    found = measure_harm(old, new, (1, 1), 0.001)
    assert found.reference.share == pytest.approx(0.95)
    assert found.window.share == pytest.approx(0.7)
    assert found.loss == pytest.approx(0.25)
    # Standard errors of means: sd (n - 1 in the denominator) over the root of ten.
    error = math.hypot(np.std([0.9, 1.0] * 5, ddof=1), np.std([0.6, 0.8] * 5, ddof=1)) / 10**0.5
    assert found.high - found.low == pytest.approx(2 * student(9) * error)
    assert found.hurts(0.02)
    assert not found.hurts(0.3)
    assert found.alarms(0.02)


def test_the_share_of_large_is_uncertain_too() -> None:
    """Agreement is 0.5 wherever large did not answer: all that varies is how often it did."""
    large = [1, 0, 0, 0, 1] * 4
    frames = looked(list(range(20)), [0.5] * 20, large)
    found = measure_harm(frames, frames, (1, 1), 0.001)
    assert found.window.share == pytest.approx(0.4 + 0.6 * 0.5)
    assert found.loss == pytest.approx(0.0)
    error = 0.5 * np.std(large, ddof=1) / 20**0.5
    # Twelve of the clusters have a shadow; they set the degrees of freedom.
    assert found.high == pytest.approx(student(11) * error * 2**0.5)
    assert not found.hurts(0.0)


def test_without_a_shadow_nothing_is_known() -> None:
    dark = looked(list(range(12)), [math.nan] * 12)
    found = measure_harm(looked(list(range(12)), [0.9] * 12), dark, (1, 1), 0.001)
    assert math.isnan(found.loss) and math.isnan(found.p_value)
    assert not found.hurts(0.0) and not found.alarms(0.0)


def test_only_held_out_frames_define_what_is_usual() -> None:
    old = looked(list(range(20)), [0.8] * 10 + [1.0] * 10)
    old = dataclasses.replace(old, held_out=np.arange(20) < 10)
    found = measure_harm(old, looked(list(range(10)), [0.8, 0.7] * 5), (1, 1), 0.001)
    assert found.reference.share == pytest.approx(0.8)


def test_clusters_are_sessions_or_runs_of_frames() -> None:
    many = frames_with([n for n in range(10) for _ in range(3)])
    number, unit = clusters_of(many, 7)
    assert unit == "sessions"
    assert number.tolist() == [n for n in range(10) for _ in range(3)]
    few = frames_with([0] * 7 + [1] * 5)
    number, unit = clusters_of(few, 2)
    assert unit == "runs"
    assert number.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3]
