"""Memory and processor time of the processes that a measurement starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

_WATCH_SECONDS = 0.05


@dataclass
class Watched:
    """What the processes below this one have taken.

    Attributes:
        peak_bytes: resident memory of all of them together, at most.
        largest_bytes: of the largest one, at most.
        seconds: wall clock.
    """

    peak_bytes: int = 0
    largest_bytes: int = 0
    seconds: float = 0.0
    _cpu: dict[tuple[int, float], float] = field(default_factory=dict)
    _own: float = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Processor time of this process and of all below it, those that have ended included."""
        return self._own + sum(self._cpu.values())

    def look(self, process: psutil.Process) -> None:
        """Record the processes that run now."""
        sizes = []
        for child in process.children(recursive=True):
            try:
                sizes.append(child.memory_info().rss)
                times = child.cpu_times()
                self._cpu[child.pid, child.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        self.peak_bytes = max(self.peak_bytes, sum(sizes))
        self.largest_bytes = max(self.largest_bytes, max(sizes, default=0))


@contextmanager
def watched() -> Iterator[Watched]:
    """Watch the processes that run meanwhile; the figures are final when the block ends."""
    found, me, ended = Watched(), psutil.Process(), threading.Event()
    found.look(me)
    before = found.cpu_seconds
    begun, own = time.perf_counter(), time.process_time()

    def watch() -> None:
        while not ended.wait(_WATCH_SECONDS):
            found.look(me)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found.look(me)
        found.seconds = time.perf_counter() - begun
        found._own = time.process_time() - own - before
