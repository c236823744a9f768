from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_graph.rollout.betting import _STAKES, Wealth
from inference_graph.rollout.comparison import Comparison, Scale


def test_wealth_is_the_mean_of_the_products() -> None:
    values, bounds = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    wealth = Wealth()
    wealth.add(values[:2], bounds[:2])
    wealth.add(values[2:], bounds[2:])
    paths = [
        np.mean([math.prod(1 + stake * v / b for v, b in zip(values[:n], bounds, strict=False))
                 for stake in _STAKES])
        for n in (1, 2, 3)
    ]  # fmt: skip
    assert math.exp(wealth.best) == pytest.approx(max(1.0, *paths))
    assert wealth.chance == pytest.approx(1 / max(1.0, *paths))


def test_a_rejection_stays() -> None:
    wealth = Wealth()
    wealth.add(np.full(200, 0.5), np.ones(200))
    assert wealth.rejects(0.001)
    wealth.add(np.full(2000, -0.9), np.ones(2000))
    assert wealth.rejects(0.001)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.5]))
def test_the_expected_wealth_under_the_null_is_one(seed: int, chance: float) -> None:
    """Each value is ``1 - chance`` with ``chance``, else ``-chance``: enumerated, not sampled."""
    rng = np.random.default_rng(seed)
    bounds = rng.uniform(chance, 1.0, 5)
    total = 0.0
    for path in range(2**5):
        hits = np.array([(path >> k) & 1 for k in range(5)], bool)
        values = np.where(hits, 1 - chance, -chance)
        wealth = Wealth()
        wealth.add(values, bounds)
        weight = np.where(hits, chance, 1 - chance).prod()
        total += weight * float(np.exp(wealth._logs).mean())
    assert total == pytest.approx(1.0)


def falsely(differs: float, harm: int, alpha: float, rounds: int = 300) -> tuple[int, int]:
    """How many of so many comparisons breach and pass, looked at after every portion."""
    breached = passed = 0
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        one = Comparison("m", Scale(0.0, 1.0, harm, limit=0.1), alpha, alpha)
        course = 0.0
        for _ in range(10):
            canary = rng.random(60) < 0.3
            noise = rng.normal(0, 0.1, 60)
            values = np.empty(60)
            for place in range(60):  # frames of one stream, each much like the one before
                course = 0.95 * course + 0.05 * rng.normal()
                values[place] = 0.5 + course + noise[place] + differs * canary[place]
            one.add(np.clip(values, 0, 1), canary, np.full(60, 0.3), ["s"] * 60)
        found = one.finding()
        breached, passed = breached + found.breached, passed + found.passed
    return breached, passed


def test_false_alarms_stay_below_the_stated_rate_however_frames_hang_together() -> None:
    breached, _ = falsely(differs=0.1, harm=1, alpha=0.1)  # exactly at the limit
    assert breached <= 45  # of 300: 0.1 and three standard errors
    _, passed = falsely(differs=0.1, harm=1, alpha=0.1)
    assert passed <= 45


def test_harm_is_found_and_its_absence_too() -> None:
    assert falsely(differs=0.25, harm=1, alpha=0.05, rounds=20) == (20, 0)
    assert falsely(differs=-0.05, harm=1, alpha=0.05, rounds=20) == (0, 20)
    assert falsely(differs=-0.25, harm=-1, alpha=0.05, rounds=20) == (20, 0)


def test_a_ratio_is_compared_with_its_own_stable_part() -> None:
    rng = np.random.default_rng(0)

    def found(share: float) -> tuple[bool, bool]:
        one = Comparison("m", Scale(0.0, 1.0, -1, share=0.95), 0.01, 0.01)
        canary = rng.random(6000) < 0.5
        values = np.clip(0.6 + rng.normal(0, 0.05, 6000), 0, 1) * np.where(canary, share, 1.0)
        one.add(values, canary, np.full(6000, 0.5), ["s"] * 6000)
        said = one.finding()
        assert said.canary / said.stable == pytest.approx(share, abs=0.01)
        return said.breached, said.passed

    assert found(0.90) == (True, False)
    assert found(0.99) == (False, True)


def test_nothing_seen_is_nothing_found() -> None:
    found = Comparison("m", Scale(0.0, 1.0, 1, limit=0.1), 0.05, 0.05).finding()
    assert math.isnan(found.stable) and found.frames == (0, 0)
    assert (found.worse, found.safe, found.breached, found.passed) == (1.0, 1.0, False, False)
