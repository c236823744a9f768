"""Work on many images at once, in order, and how it reports how far it is."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from foundation.errors import ConfigurationError

Progress = Callable[[int, int], None]
"""``progress(done, total)``; called from the thread that called the stage."""

_WATCH_SECONDS = 0.5

_T = TypeVar("_T")
_R = TypeVar("_R")


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def part_of(progress: Progress, index: int, parts: int) -> Progress:
    """The progress of one of several equal parts, as progress of the whole."""
    return lambda done, total: progress(index * total + done, parts * total)


def worker_count(workers: int) -> int:
    """Number of threads for a setting in which 0 means one per core.

    Raises ConfigurationError for a negative number.
    """
    if workers < 0:
        raise ConfigurationError(
            f"workers is {workers}; give a number of threads, or 0 for one per core"
        )
    if workers:
        return workers
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))  # a container may hold fewer cores than the machine
    return os.cpu_count() or 1


def process_pool(workers: int) -> ProcessPoolExecutor:
    """A pool of new processes that end with this one, even where it is killed.

    The standard pool's workers wait for work for ever when their parent is gone. They are not
    forked: a fork has the locks of this process's threads, and ONNX Runtime's sessions, which it
    waits for for ever when it collects them.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, context, _end_with, (os.getpid(),))


@contextmanager
def process_map(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """``map`` over so many processes, in order; one is this process.

    Its arguments are those of :meth:`concurrent.futures.Executor.map`.
    """
    if workers == 1:
        yield lambda function, *items, chunksize=1: map(function, *items)
        return
    with process_pool(workers) as pool:
        yield pool.map


def _end_with(parent: int) -> None:
    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def ordered_map(
    function: Callable[[_T], _R], items: Iterable[_T], workers: int = 0
) -> Generator[_R, None, None]:
    """Yield ``function(item)`` for each item, in order, computed by a pool of threads.

    Threads suffice: hashing, decoding and OpenCV release the interpreter lock. At most four items
    per thread are in flight, so results of a slow reader do not pile up in memory. The first error
    is raised where its result would have come. Closing the generator waits for what is in flight.
    """
    workers = worker_count(workers)
    with ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[_R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 4 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
