from __future__ import annotations

import numpy as np
import pytest

from components.drift.frames import Frames
from components.drift.thinning import autocorrelation_time, spacing_of, thinned


def frames_with(stream: list[int], brightness: list[float] | None = None) -> Frames:
    count = len(stream)
    statistics = np.full((count, 4), np.nan)
    statistics[:, 0] = brightness if brightness is not None else 0.5
    return Frames(
        stream=np.array(stream, np.int64),
        time=np.arange(count, dtype=np.float64),
        statistics=statistics,
        embedding=np.zeros((count, 68), np.float32),
        objects=np.random.default_rng(0).poisson(5, count).astype(np.float64),
        confidence=np.full(count, 0.5),
        classes=np.zeros((count, 2), np.uint8),
        rung=np.zeros(count, np.int64),
        agreement=np.full(count, np.nan),
        held_out=np.ones(count, np.bool_),
    )


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_time_of_an_autoregressive_series_is_the_known_one(correlation: float) -> None:
    """For x(i) = r x(i - 1) + noise it is (1 + r) / (1 - r)."""
    rng = np.random.default_rng(1)
    noise = rng.normal(size=60_000)
    series = np.zeros(len(noise))
    for i in range(1, len(series)):
        series[i] = correlation * series[i - 1] + noise[i]
    found = autocorrelation_time(series, np.zeros(len(series), np.int64))
    assert found == pytest.approx((1 + correlation) / (1 - correlation), rel=0.15)


def test_a_session_that_is_alike_all_through_counts_once() -> None:
    rng = np.random.default_rng(2)
    levels = np.repeat(rng.normal(size=200), 12)
    stream = np.repeat(np.arange(200), 12)
    assert autocorrelation_time(levels, stream) == pytest.approx(12.0)
    # The same as one stream that meets something new every twelve frames: 1 + 2 sum (1 - k / 12).
    assert autocorrelation_time(levels, np.zeros(2400, np.int64)) == pytest.approx(12.0, rel=0.25)


def test_independent_frames_need_no_thinning() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(size=5000)
    assert autocorrelation_time(values, np.zeros(5000, np.int64)) == pytest.approx(1.0, abs=0.2)
    values[rng.random(5000) < 0.5] = np.nan  # not measured on every frame
    assert autocorrelation_time(values, np.zeros(5000, np.int64)) == pytest.approx(1.0, abs=0.2)


def test_what_never_changes_is_the_same_all_along() -> None:
    stream = np.array([0] * 7 + [1] * 4)
    assert autocorrelation_time(np.full(11, 0.3), stream) == 7.0
    assert autocorrelation_time(np.full(11, np.nan), stream) == 1.0


def test_the_slowest_figure_sets_the_spacing() -> None:
    rng = np.random.default_rng(4)
    brightness = np.repeat(rng.normal(size=300), 8).tolist()
    assert spacing_of(frames_with([n for n in range(300) for _ in range(8)], brightness)) == 8


def test_one_frame_of_each_run_is_taken() -> None:
    frames = frames_with([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])
    known = np.array([0, 1, 1, 0, 0, 1, 1, 0, 0, 1], np.bool_)
    # Runs of three: 0-2 and 3-5 of the first stream, 6-8 and 9 of the second.
    found = {tuple(thinned(frames, known, 3, 100, seed).tolist()) for seed in range(40)}
    assert found == {(1, 5, 6, 9), (2, 5, 6, 9)}
    assert thinned(frames, known, 1, 100).tolist() == [1, 2, 5, 6, 9]
    assert thinned(frames, known, 1, 3).tolist() == [1, 5, 9]  # evenly, first and last kept
