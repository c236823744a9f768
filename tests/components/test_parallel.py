from __future__ import annotations

import threading
import time

import pytest

from components.parallel import ordered_map, worker_count
from foundation.errors import ConfigurationError


def test_results_keep_the_order() -> None:
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number % 4 == 0 else 0)
        return number * number

    assert list(ordered_map(slow_first, range(20), workers=4)) == [k * k for k in range(20)]


def test_an_error_comes_in_its_place_and_ends_the_work() -> None:
    started: list[int] = []
    lock = threading.Lock()

    def fail_at_three(number: int) -> int:
        with lock:
            started.append(number)
        if number == 3:
            raise ValueError("three")
        return number

    seen = []
    with pytest.raises(ValueError, match="three"):
        for result in ordered_map(fail_at_three, range(1000), workers=2):
            seen.append(result)
    assert seen == [0, 1, 2]
    assert max(started) < 20  # at most four in flight for each worker


def test_workers_are_counted() -> None:
    assert worker_count(3) == 3
    assert worker_count(0) >= 1
    with pytest.raises(ConfigurationError, match="workers is -1"):
        worker_count(-1)
