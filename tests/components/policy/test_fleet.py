from __future__ import annotations

import numpy as np
import pytest
from replay_samples import replay_of

from components.policy.closed_loop import Decide
from components.policy.fleet import Traffic, compare_fleets, run_fleet


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
        for name in ("always-nano", "always-small", "always-large", "mine")
    ]
    by_pair = {(row["cameras"], row["name"]): row for row in rows}
    assert by_pair[2, "mine"]["reward"] == by_pair[2, "always-nano"]["reward"]
    assert by_pair[1, "always-large"]["reward"] == pytest.approx(0.3 - 0.5, abs=1e-6)
    assert by_pair[2, "always-large"]["reward"] == pytest.approx(0.3 - 0.5 * 75 / 50, abs=1e-6)
