from __future__ import annotations

import math

import numpy as np
import pytest

from components.evaluation.frontier import Frontier, average_gap_recovered, gap_share
from foundation.errors import InvalidInput

# Latency 1, 2, 4 with accuracy 0.4, 0.6, 0.8 are on the hull: slopes 0.2, then 0.1.
HULL = [(1.0, 0.4), (2.0, 0.6), (4.0, 0.8)]
BELOW = [(1.0, 0.3), (1.5, 0.45), (3.0, 0.69), (4.0, 0.7), (6.0, 0.8), (7.0, 0.5)]


def points(frontier: Frontier) -> list[tuple[float, float]]:
    return list(zip(frontier.latency.tolist(), frontier.accuracy.tolist(), strict=True))


def test_the_hull_of_points_made_by_hand() -> None:
    mixed = [*BELOW, *HULL]
    assert points(Frontier.of(mixed)) == HULL
    assert points(Frontier.of(reversed(mixed))) == HULL


def test_a_late_point_takes_those_beneath_it_off_the_hull() -> None:
    # From (0, 0) to (4, 1) the slope is 0.25; (1, 0.2) and (2, 0.4) lie below that line.
    assert points(Frontier.of([(0, 0), (1, 0.2), (2, 0.4), (4, 1.0)])) == [(0, 0), (4, 1.0)]


def test_a_better_point_at_the_same_latency_wins() -> None:
    assert points(Frontier.of([(1, 0.5), (1, 0.7), (1, 0.6)])) == [(1, 0.7)]


def test_the_hull_lies_above_every_mix_of_random_points() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        cloud = rng.random((30, 2))
        frontier = Frontier.of(map(tuple, cloud))
        slopes = np.diff(frontier.accuracy) / np.diff(frontier.latency)
        assert (np.diff(slopes) < 0).all() and (slopes > 0).all()
        pairs = cloud[rng.integers(0, 30, (200, 2))]
        share = rng.random((200, 1))
        mixes = pairs[:, 0] * share + pairs[:, 1] * (1 - share)
        assert all(y <= frontier.at(x) + 1e-12 for x, y in mixes)


def test_between_points_it_mixes_and_beyond_them_it_holds() -> None:
    frontier = Frontier.of(HULL)
    assert frontier.at(1.5) == pytest.approx(0.5)
    assert frontier.at(3.0) == pytest.approx(0.7)
    assert frontier.at(0.1) == 0.4
    assert frontier.at(99.0) == 0.8


def test_mean_over_latencies() -> None:
    # Trapezoids: 1..2 has mean 0.5, 2..4 has mean 0.7: (0.5 + 2 * 0.7) / 3.
    assert Frontier.of(HULL).mean(1.0, 4.0) == pytest.approx(1.9 / 3)
    # 1.5..3: 0.5..0.6 over 0.5, 0.6..0.7 over 1: (0.275 + 0.65) / 1.5.
    assert Frontier.of(HULL).mean(1.5, 3.0) == pytest.approx(0.925 / 1.5)
    # Held beyond the end: 4..6 at 0.8.
    assert Frontier.of(HULL).mean(2.0, 6.0) == pytest.approx((1.4 + 1.6) / 4)


def test_share_of_the_gap_by_hand() -> None:
    baseline = Frontier.of([(1.0, 0.4), (5.0, 0.8)])
    oracle = Frontier.of([(1.0, 0.6), (2.0, 0.9)])
    # At 2: baseline 0.5, oracle 0.9.
    assert gap_share(2.0, 0.7, baseline, oracle) == pytest.approx(0.5)
    assert gap_share(2.0, 0.5, baseline, oracle) == pytest.approx(0.0)
    assert gap_share(2.0, 0.9, baseline, oracle) == pytest.approx(1.0)
    assert gap_share(2.0, 0.4, baseline, oracle) == pytest.approx(-0.25)
    assert math.isnan(gap_share(2.0, 0.7, baseline, baseline))


def test_average_gap_recovered_by_hand() -> None:
    weak, strong = (1.0, 0.4), (4.0, 0.8)
    # The straight line from weak to strong recovers half of the gap on average.
    assert average_gap_recovered(Frontier.of([weak, strong]), weak, strong) == pytest.approx(0.5)
    # HULL has mean 1.9 / 3 between them: (0.6333 - 0.4) / 0.4.
    assert average_gap_recovered(Frontier.of(HULL), weak, strong) == pytest.approx(7 / 12)
    # As good as strong at no cost recovers all of it.
    best = Frontier.of([(1.0, 0.8)])
    assert average_gap_recovered(best, weak, strong) == pytest.approx(1.0)


@pytest.mark.parametrize("cloud", [[], [(1.0, math.nan)], [(math.inf, 0.5)]])
def test_no_points_and_no_numbers_are_refused(cloud: list[tuple[float, float]]) -> None:
    with pytest.raises(InvalidInput, match="at least one point"):
        Frontier.of(cloud)
