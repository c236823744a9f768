"""A service under every hostile picture: it lives, answers for its health, and stays small."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
from hostile_pictures import harmless, jpeg_of_scans, refused

GROWTH = 200 * 1024 * 1024
HEALTH_SECONDS = 0.5


def withstands(
    ask: Callable[[bytes], httpx.Response], health: Callable[[], int], pid: int, usual: bytes
) -> None:
    """Send all of them, two at a time, while its health is asked for without a pause.

    Args:
        ask: sends an image.
        health: asks for its health; gives the status.
        pid: the process.
        usual: an image that it answers.
    """
    heavy = jpeg_of_scans(1000, 900, 30)  # decodes, and is the most work for its size
    sent = [(name, data, True) for name, data in refused()]
    sent += [(name, data, False) for name, data in (*harmless(), *[("heavy", heavy)] * 8)]
    with _Health(health) as before, ThreadPoolExecutor(2) as pool:
        statuses = [answer.status_code for answer in pool.map(ask, [usual] * 20)]
    assert statuses == [200] * 20
    process = psutil.Process(pid)
    memory = memory_of(process)
    with _Health(health) as meanwhile, ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, [data for _, data, _ in sent]))
    for (name, _, wrong), answer in zip(sent, answers, strict=True):
        assert answer.status_code in ((400, 413, 415, 422) if wrong else (200, 400, 413)), (
            name,
            answer.status_code,
            answer.text[:300],
        )
    assert process.is_running()
    assert ask(usual).status_code == 200
    assert memory_of(process) < memory + GROWTH
    # On a busy machine usual pictures make it wait as well.
    assert meanwhile.longest < HEALTH_SECONDS + 4 * before.longest


class _Health:
    """Asks for a service's health while a block runs, and keeps the longest time it took."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self.longest = 0.0
        self._ask = ask
        self._ending = threading.Event()
        self._wrong: list[int] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> _Health:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()
        assert not self._wrong

    def _run(self) -> None:
        while not self._ending.is_set():
            start = time.monotonic()
            status = self._ask()
            self.longest = max(self.longest, time.monotonic() - start)
            if status != 200:
                self._wrong.append(status)
            self._ending.wait(0.02)


def memory_of(process: psutil.Process) -> int:
    """Bytes of the process and those it started, shared ones counted once."""
    return sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True)))
