from __future__ import annotations

import itertools

import numpy as np
import pytest
from replay_samples import replay_of

from components.policy.closed_loop import Decide
from components.policy.fleet import (
    PRICES,
    Traffic,
    compare_fleets,
    resampled_mean,
    run_fleet,
    shortest_queue,
    tuned_price,
    with_price,
    within_slack,
)
from feature_transformer.observation import LOAD_SLICE, OBSERVATION_SIZE, PREFERENCE_INDEX


def always(rung: int) -> Decide:
    return lambda seen: np.full(len(seen), rung, np.int64)


def test_two_cameras_on_nano_by_hand() -> None:
    # Waits 0 and 10 ms, so latencies 10 and 20 of large's 50: 0.1 - w (10 + 20) / 2 / 50.
    found = run_fleet(replay_of([4, 4]), always(0), 2, 0.5, Traffic(), seed=0)
    assert found.reward == pytest.approx(0.1 - 0.5 * 15 / 50, abs=1e-6)
    assert found.dropped == 0.0


def test_eight_cameras_on_large_drop_three_frames_of_four() -> None:
    # At first waits of 0 to 300 ms are served: seven frames, 350 ms. 100 ms pass, 250 are left,
    # so from then on two of eight are served: 7 + 2 * 99 of 800.
    found = run_fleet(replay_of([4, 4]), always(2), 8, 0.1, Traffic(100.0, 300.0), seed=0)
    assert found.dropped == pytest.approx((800 - 205) / 800)
    # Rewards: 0.3 less 0.1 latency / 50; served at 300 and 350 ms, dropped ones pay 300.
    steady = (0.6 - 0.1 * (300 + 350 + 6 * 300) / 50) / 8
    first = (2.1 - 0.1 * (sum(range(50, 351, 50)) + 300) / 50) / 8
    assert found.reward == pytest.approx((first + 99 * steady) / 100, abs=1e-6)


def test_every_rung_and_policy_in_fleets_of_every_size() -> None:
    rows = compare_fleets(replay_of([4, 4]), {"mine": always(0)}, (1, 2), 0.5, Traffic(), seed=0)
    assert [(row["cameras"], row["name"]) for row in rows] == [
        (size, name)
        for size in (1, 2)
        for name in (
            "always-nano",
            "always-small",
            "always-large",
            "shortest-queue",
            "slack",
            "mine",
        )
    ]
    by_pair = {(row["cameras"], row["name"]): row for row in rows}
    assert by_pair[2, "mine"]["reward"] == by_pair[2, "always-nano"]["reward"]
    assert by_pair[1, "always-large"]["reward"] == pytest.approx(0.3 - 0.5, abs=1e-6)
    assert by_pair[2, "always-large"]["reward"] == pytest.approx(0.3 - 0.5 * 75 / 50, abs=1e-6)


def test_each_decision_sees_the_queues_that_those_before_it_left() -> None:
    seen: list[list[float]] = []
    order = itertools.cycle((2, 1, 0, 2))

    def decide(observations: np.ndarray) -> np.ndarray:
        seen.append(observations[0, LOAD_SLICE].tolist())
        return np.full(len(observations), next(order), np.int64)

    run_fleet(replay_of([6, 6]), decide, 4, 0.1, Traffic(), seed=0)
    expected = [[0, 0, 0], [0, 0, 0.5], [0, 0.2, 0.5], [0.1, 0.2, 0.5], [0, 0, 0]]
    np.testing.assert_allclose(seen[:5], expected, atol=1e-6)  # 100 ms pass after the fourth


def observed(load: tuple[float, float, float], weight: float = 0.1) -> np.ndarray:
    seen = np.zeros((1, OBSERVATION_SIZE), np.float32)
    seen[:, LOAD_SLICE], seen[:, PREFERENCE_INDEX] = load, np.log10(weight)
    return seen


def test_a_price_makes_latency_dearer_where_there_is_a_queue() -> None:
    asked: list[float] = []

    def decide(observations: np.ndarray) -> np.ndarray:
        asked.append(float(10 ** observations[0, PREFERENCE_INDEX]))
        return np.zeros(1, np.int64)

    seen = observed((0.5, 0.0, 1.5))
    for price in (0.0, 3.0, 1e6):
        with_price(decide, price)(seen)
    with_price(decide, 3.0)(observed((0.0, 0.0, 0.0)))
    # 0.1 (1 + 3 * 2) = 0.7; ten is the highest operating point; empty queues cost nothing.
    assert asked == pytest.approx([0.1, 0.7, 10.0, 0.1], rel=1e-5)
    assert seen[0, PREFERENCE_INDEX] == pytest.approx(-1.0)  # what was given stays as it was


def test_the_price_that_earns_most_is_taken() -> None:
    # Large while latency is cheap: eight cameras would drop frames without a price.
    def decide(observations: np.ndarray) -> np.ndarray:
        return np.where(observations[:, PREFERENCE_INDEX] < -0.5, 2, 0).astype(np.int64)

    replay, traffic = replay_of([4, 4]), Traffic()
    price = tuned_price(replay, decide, 8, 0.1, traffic, 0)
    earned = {
        p: run_fleet(replay, with_price(decide, p), 8, 0.1, traffic, 0).reward for p in PRICES
    }
    assert earned[price] == max(earned.values()) > earned[0.0]
    assert tuned_price(replay, always(0), 8, 0.1, traffic, 0) == 0.0  # nothing to win: no price
    priced, plain = (
        run_fleet(replay, one, 8, 0.1, traffic, 0).rewards
        for one in (with_price(decide, price), decide)
    )
    assert len(priced) == 24
    assert (priced - plain).min() > 0
    np.testing.assert_allclose(resampled_mean(np.full(5, 0.25), 3, 0), 0.25)


def test_rules_for_queues_by_hand() -> None:
    for load, rung in (((0, 0, 0), 2), ((0.1, 0.0, 0.2), 1), ((0.0, 0.0, 0.1), 1)):
        assert shortest_queue(observed(load)).tolist() == [rung]
    service = (10.0, 20.0, 50.0)
    for load, rung in (((0, 0, 0), 2), ((0.0, 0.0, 0.6), 1), ((0.5, 0.9, 0.6), 0), ((2, 2, 2), 0)):
        assert within_slack(observed(load), service, 100.0).tolist() == [rung]
