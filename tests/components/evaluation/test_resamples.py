"""Paired intervals and certificates against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from replay_samples import data_of, detections_of, replay_of

from components.evaluation.alternatives import Bench, fixed_rungs
from components.evaluation.report_schema import CurvePoint
from components.evaluation.resamples import (
    Resamples,
    certified_floor,
    estimate,
    guarantee,
)
from components.evaluation.tracked import tracked, tuned_reuse, with_reuse
from feature_transformer.observation import LOOK_NAMES
from inference_graph.contract import LADDER
from inference_graph.tracking import ReuseConfig

BOX = [100.0, 100.0, 100.0, 100.0]
NAN = float("nan")


def bench_of(clips: list[int], finds: tuple[tuple[int, ...], ...]) -> Bench:
    """Every frame has one object; each rung finds those of some clips only."""
    count = sum(clips)
    clip_of = np.repeat(np.arange(len(clips)), clips)
    data = data_of(count, [(frame, BOX, 1, 0) for frame in range(count)])
    found = [
        detections_of(
            count, [(f, BOX, 0.9, 1) for f in range(count) if clip_of[f] in those], LADDER[rung]
        )
        for rung, those in enumerate(finds)
    ]
    return Bench.build(replay_of(clips), data, found, periods=())


def test_every_routing_sees_the_same_clips() -> None:
    # Small and large find the same, so whatever is drawn, small retains all of it.
    bench = bench_of([2, 3, 4, 5], ((0,), (0, 1, 2), (0, 1, 2)))
    resamples, fixed = Resamples(bench, 40, 1), fixed_rungs(bench)
    small = resamples.retained(fixed["always-small"])
    assert len(small) == 41
    np.testing.assert_allclose(small[np.isfinite(small)], 1.0)
    assert np.std(resamples.accuracy(fixed["always-small"])) > 0.05
    # Nano finds 2 of large's 9 objects at precision 1.
    nano = resamples.accuracy(fixed["always-nano"])[0], resamples.accuracy(fixed["always-large"])[0]
    # Recall 2/14 reaches 15 of 101 recall points, 9/14 reaches 65.
    assert nano == pytest.approx((15 / 101, 65 / 101))


def test_lift_over_a_curve_is_taken_at_the_routings_own_latency() -> None:
    bench = bench_of([5, 5], ((0,), (0, 1), (0, 1)))
    resamples, fixed = Resamples(bench, 20, 0), fixed_rungs(bench)
    hull = list(fixed.values())
    # Nano keeps 51 of 101 points at 10 ms, small all at 20 ms: half between them at 15 ms.
    half = resamples.retained_at(hull, np.full(21, 15.0))[0]
    assert half == pytest.approx((51 / 101 + 1) / 2)
    lift = resamples.lift(fixed["always-small"], hull)
    assert (lift.value, lift.low, lift.high) == pytest.approx((0, 0, 0))


def test_shares_of_the_gap_by_hand() -> None:
    bench = bench_of([5, 5], ((0,), (0, 1), (0, 1)))
    resamples, fixed = Resamples(bench, 20, 0), fixed_rungs(bench)
    nano, small, large = fixed.values()
    # The hull of nano and large alone, an oracle that is small, and a curve that is small too.
    shares, mean = resamples.gap_shares([small], [nano, large], [nano, small], (0.3, 0.4, 0.5))
    assert shares[0].value is None  # the curve does not go down to 15 ms
    assert shares[1].value == pytest.approx(1.0)
    assert mean.value == pytest.approx(1.0)
    none, _ = resamples.gap_shares([small], [small], [small], (0.5,))
    assert none[0].value is None  # there is no gap


def test_an_interval_holds_its_estimate_though_resampling_is_biased() -> None:
    found = estimate(np.array([0.9, *np.linspace(0.1, 0.2, 50)]))
    assert (found.value, found.high) == (0.9, 0.9)
    assert found.low == pytest.approx(0.1025)
    assert estimate(np.array([NAN, 1.0])).low is None
    assert estimate(np.array([0.5, NAN])).model_dump() == {"value": 0.5, "low": None, "high": None}


def test_the_certified_floor_is_the_one_sided_bound() -> None:
    drawn = np.linspace(0.90, 1.0, 101)
    assert certified_floor(np.array([0.95, *drawn]), 0.95) == pytest.approx(0.905)
    assert certified_floor(np.array([0.90, *drawn]), 0.95) == pytest.approx(0.90)
    assert certified_floor(np.array([0.95, NAN]), 0.95) is None


def curve_of(*floors: float | None) -> list[CurvePoint]:
    """Operating points, the dearest first."""
    return [
        CurvePoint(
            retained=0.9,
            latency_ratio=0.9 - 0.1 * i,
            gap_share=None,
            latency_weight=0.1 * (i + 1),
            certified=floor,
        )
        for i, floor in enumerate(floors)
    ]


@pytest.mark.parametrize(
    ("floors", "asked", "point"),
    [
        ((0.99, 0.97, 0.95), 0.96, 1),
        ((0.99, 0.94, 0.97), 0.96, 0),  # the first failure ends the search
        ((0.90, 0.97), 0.96, None),
        ((0.97, None, 0.97), 0.96, 0),
        ((), 0.5, None),
    ],
)
def test_operating_points_are_tested_in_a_fixed_order(
    floors: tuple[float | None, ...], asked: float, point: int | None
) -> None:
    curve = curve_of(*floors)
    found = guarantee(curve, asked, 0.95)
    chosen = None if point is None else curve[point]
    assert found.latency_ratio == (chosen and chosen.latency_ratio)
    assert found.latency_weight == (chosen and chosen.latency_weight)
    assert (found.asked, found.confidence) == (asked, 0.95)


def test_the_chance_of_a_broken_promise_is_that_of_one_test() -> None:
    """Points whose true accuracy falls below the floor are chosen in at most one run of twenty."""
    rng = np.random.default_rng(3)
    truth = np.linspace(1.0, 0.9, 21)  # the floor of 0.95 holds for the first eleven
    broken, trials = 0, 150
    for _ in range(trials):
        clips = truth[:, None] + rng.normal(0, 0.05, (1, 80)) + rng.normal(0, 0.02, (21, 80))
        draws = rng.integers(0, 80, (200, 80))
        floors = [
            certified_floor(np.array([one.mean(), *one[draws].mean(axis=1)]), 0.95) for one in clips
        ]
        chosen = guarantee(curve_of(*floors), 0.95, 0.95).latency_weight
        broken += chosen is not None and truth[round(chosen / 0.1) - 1] < 0.95 - 1e-9
    assert broken / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)


def test_a_tracker_fills_what_a_rung_misses_and_forgets_between_clips() -> None:
    count = 8
    data = data_of(count, [(frame, BOX, 1, 0) for frame in range(count)])
    seen = [(f, BOX, 0.9, 1) for f in range(count) if f not in (2, 4)]  # 4 begins the second clip
    found = [detections_of(count, seen, rung) for rung in LADDER]
    bench = Bench.build(replay_of([4, 4]), data, found, periods=())
    large = fixed_rungs(bench)["always-large"]
    with_tracker = tracked(bench, large, 0.25)
    assert with_tracker.answers is not None
    answered = set(with_tracker.answers.frames[with_tracker.answers.hits[:, 0]].tolist())
    assert answered == {0, 1, 2, 3, 5, 6, 7}
    np.testing.assert_allclose(with_tracker.latency_ms, large.latency_ms + 0.25)


def test_reuse_is_paid_by_router_and_tracker_alone() -> None:
    bench = still_objects()
    bench.replay.looks[:] = 0.0
    bench.replay.looks[:, :, LOOK_NAMES.index("known")] = 1.0
    config = ReuseConfig(longest=1, doubt=0.0)
    found = with_reuse(bench, lambda seen: np.full(len(seen), 2), 0.1, 0.5, 0.25, config)
    assert found.choice.tolist() == [2, 3, 2, 3] * 2
    np.testing.assert_allclose(found.latency_ms, [50.75, 0.75, 50.75, 0.75] * 2)
    assert found.shares()["large"] == 0.5
    assert bench.accuracy(found) == 1.0  # nothing moves


def test_the_reuse_setting_is_that_of_the_highest_reward() -> None:
    bench = still_objects()
    bench.replay.looks[:] = 0.0
    bench.replay.looks[:, :, LOOK_NAMES.index("known")] = 1.0
    large = lambda seen: np.full(len(seen), 2)  # noqa: E731
    # Nothing moves, so reuse loses nothing: of one in a row, and two, half of four frames is left.
    assert tuned_reuse(bench, large, 0.1, 0.0, 0.0).longest == 1
    assert tuned_reuse(bench, large, 0.0, 0.0, 0.0).longest == 0  # latency is free: always look


def still_objects() -> Bench:
    count = 8
    data = data_of(count, [(frame, BOX, 1, 0) for frame in range(count)])
    found = [detections_of(count, [(f, BOX, 0.9, 1) for f in range(count)], r) for r in LADDER]
    return Bench.build(replay_of([4, 4]), data, found, periods=())
