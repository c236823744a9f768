from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_graph.control.rollout.analysis import _scales
from inference_graph.control.rollout.betting import _STAKES, LARGEST_STAKE, Wealth
from inference_graph.control.rollout.comparison import ArmComparison, Scale
from inference_graph.control.rollout.plan import RolloutPlan


def added(wealth: Wealth, values: np.ndarray, bounds: np.ndarray, stake: float = 0.3) -> Wealth:
    wealth.add(values, bounds, np.full(len(values), stake))
    return wealth


def test_wealth_is_the_mean_of_the_products_and_half_of_it_stakes_as_given() -> None:
    values, bounds = np.array([0.5, -1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    wealth = added(added(Wealth(), values[:2], bounds[:2]), values[2:], bounds[2:])

    def product(stake: float, n: int) -> float:
        return math.prod(1 + stake * v / b for v, b in zip(values[:n], bounds, strict=False))

    paths = [
        0.5 * np.mean([product(stake, n) for stake in _STAKES]) + 0.5 * product(0.3, n)
        for n in (1, 2, 3)
    ]
    assert math.exp(wealth.best) == pytest.approx(max(1.0, *paths))
    assert wealth.chance == pytest.approx(1 / max(1.0, *paths))


def test_a_rejection_stays() -> None:
    wealth = added(Wealth(), np.full(200, 0.5), np.ones(200))
    assert wealth.rejects(0.001)
    added(wealth, np.full(2000, -0.9), np.ones(2000))
    assert wealth.rejects(0.001)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([0.1, 0.5]))
def test_the_expected_wealth_under_the_null_is_one(seed: int, chance: float) -> None:
    """Each value is ``1 - chance`` with ``chance``, else ``-chance``: enumerated, not sampled."""
    rng = np.random.default_rng(seed)
    bounds, stakes = rng.uniform(chance, 1.0, 5), rng.uniform(0.0, LARGEST_STAKE, 5)
    total = 0.0
    for path in range(2**5):
        hits = np.array([(path >> k) & 1 for k in range(5)], bool)
        values = np.where(hits, 1 - chance, -chance)
        wealth = Wealth()
        wealth.add(values, bounds, stakes)
        weight = np.where(hits, chance, 1 - chance).prod()
        total += weight * float(np.exp(wealth._logs).sum())
    assert total == pytest.approx(1.0)


def falsely(differs: float, harm: int, alpha: float, rounds: int = 300) -> tuple[int, int]:
    """How many of so many comparisons breach and pass, looked at after every portion."""
    breached = passed = 0
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        one = ArmComparison("m", Scale(0.0, 1.0, harm, limit=0.1), alpha, alpha)
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
    breached, passed = falsely(differs=0.1, harm=1, alpha=0.1)  # exactly at the limit
    assert max(breached, passed) <= 45  # of 300: 0.1 and three standard errors


@pytest.mark.parametrize("chance", [0.05, 0.5])
def test_a_segments_clip_keeps_the_stated_rates(chance: float) -> None:
    """Exactly at each limit, with values as segments have them; a quarter loses 10 %."""
    scales = _scales(RolloutPlan(), segments=True)
    breached, passed = dict.fromkeys(scales, 0), dict.fromkeys(scales, 0)
    rounds, count = 60, 1600
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        canary, stream = rng.random(count) < chance, np.arange(count) % 8
        level = 0.88 + rng.normal(0, 0.06, 8)[stream] + rng.normal(0, 0.055, count)
        lost = np.where(rng.random(count) < 0.25, 0.1, 0.0)
        values = {
            "errors": rng.binomial(100, np.where(canary, 0.006, 0.001)) / 100,
            "latency": 3 + rng.normal(0, 0.1, count) + canary * math.log(1.15),
            "agreement": np.clip(level, 0, 1) - 0.03 * canary,
            "retained": np.clip(level, 0, 1) * (1 - lost * canary),
        }
        for name, scale in scales.items():
            one = ArmComparison(name, scale, 0.05, 0.05)
            names = [str(number) for number in stream]
            one.add(values[name], canary, np.full(count, chance), names)
            found = one.finding()
            breached[name] += found.breached
            passed[name] += found.passed
    # 60 rounds at 0.05: more than 8 has a chance of 0.3 %.
    assert max(*breached.values(), *passed.values()) <= 8, (breached, passed)


def test_harm_is_found_and_its_absence_too() -> None:
    assert falsely(differs=0.25, harm=1, alpha=0.05, rounds=20) == (20, 0)
    assert falsely(differs=-0.05, harm=1, alpha=0.05, rounds=20) == (0, 20)
    assert falsely(differs=-0.25, harm=-1, alpha=0.05, rounds=20) == (20, 0)


def test_a_ratio_is_compared_with_its_own_stable_part() -> None:
    rng = np.random.default_rng(0)

    def found(share: float) -> tuple[bool, bool]:
        one = ArmComparison("m", Scale(0.0, 1.0, -1, share=0.95), 0.01, 0.01)
        canary = rng.random(6000) < 0.5
        values = np.clip(0.6 + rng.normal(0, 0.05, 6000), 0, 1) * np.where(canary, share, 1.0)
        one.add(values, canary, np.full(6000, 0.5), ["s"] * 6000)
        message = one.finding()
        assert message.canary / message.stable == pytest.approx(share, abs=0.01)
        return message.breached, message.passed

    assert found(0.90) == (True, False)
    assert found(0.99) == (False, True)


def test_nothing_seen_is_nothing_found() -> None:
    found = ArmComparison("m", Scale(0.0, 1.0, 1, limit=0.1), 0.05, 0.05).finding()
    assert math.isnan(found.stable) and found.frames == (0, 0)
    assert (found.worse, found.safe, found.breached, found.passed) == (1.0, 1.0, False, False)
