"""What a rollout shows while it goes on: estimate, interval, and how much is still to come."""

from __future__ import annotations

import math

import numpy as np
import pytest

from inference_graph.control.rollout.analysis import effect
from inference_graph.control.rollout.comparison import ArmComparison, Finding, Scale
from inference_graph.control.rollout.plan import RolloutPlan

ERRORS = Scale(0.0, 1.0, 1, 0.05, centred=False)
RNG = np.random.default_rng


def compared(
    rng: np.random.Generator, count: int, rates: tuple[float, float], chance: float = 0.5
) -> tuple[ArmComparison, float]:
    """A comparison of error rates (stable, canary), and the estimate by the textbook's formula."""
    canary = rng.random(count) < chance
    values = (rng.random(count) < np.where(canary, rates[1], rates[0])).astype(np.float64)
    made = ArmComparison("errors", ERRORS, 0.01, 0.05)
    made.add(values, canary, np.full(count, chance), ["s"] * count)
    weighed = np.where(canary, values / chance, -values / (1 - chance))
    return made, float(weighed.mean())


def test_the_estimate_weighs_each_frame_by_its_draw() -> None:
    made, expected = compared(RNG(1), 4000, (0.1, 0.3), 0.25)
    found = made.finding()
    assert found.difference == pytest.approx(expected, abs=1e-12)
    low, high = found.interval
    assert low < 0.2 < high and high - low < 0.15
    assert ArmComparison("errors", ERRORS, 0.01, 0.05).finding().left is None


def test_the_interval_holds_at_all_looks_together() -> None:
    missed = 0
    for seed in range(40):
        rng, made = RNG(seed), ArmComparison("errors", ERRORS, 0.01, 0.05)
        outside = False
        for _ in range(30):
            canary = rng.random(100) < 0.5
            values = (rng.random(100) < 0.2).astype(np.float64)
            made.add(values, canary, np.full(100, 0.5), ["s"] * 100)
            low, high = made.finding().interval
            outside |= not low <= 0.0 <= high
        missed += outside
    assert missed <= 6  # 2 are expected at most; more than 6 have a chance below 1 %


@pytest.mark.parametrize("rates", [(0.05, 0.05), (0.05, 0.3)])
def test_what_is_to_come_is_foreseen(rates: tuple[float, float]) -> None:
    rng, (made, _) = RNG(3), compared(RNG(3), 60, rates)
    more = 0
    while not (foreseen := made.finding().left):
        assert foreseen is None and more < 50_000
        made.add(np.zeros(2), np.array([True, False]), np.full(2, 0.5), ["s"] * 2)
        more += 2
    more = 0
    while made.finding().left != 0:
        canary = rng.random(50) < 0.5
        values = (rng.random(50) < np.where(canary, rates[1], rates[0])).astype(np.float64)
        made.add(values, canary, np.full(50, 0.5), ["s"] * 50)
        more += 50
        assert more < 50_000
    assert foreseen / 10 <= more <= foreseen * 10


def test_an_effect_is_in_the_unit_of_its_limit() -> None:
    plan = RolloutPlan()

    def found(metric: str, difference: float, stable: float) -> dict[str, object]:
        interval = (difference - 0.01, difference + 0.01)
        one = Finding(metric, stable, 0.0, (1, 1), 1, 1, False, False, difference, interval)
        return effect(one, plan)

    latency = found("latency", math.log(1.1), 2.0)
    assert latency["estimate"] == pytest.approx(0.1)
    assert latency["limit"] == pytest.approx(0.15)
    retained = found("retained", -0.04, 0.8)
    assert retained["estimate"] == pytest.approx(-0.05)
    assert retained["interval"] == pytest.approx([-0.0625, -0.0375])
    assert found("agreement", -0.02, 0.9)["limit"] == -0.03
