"""Ctrl-C and SIGTERM for verbs that run until they are ended."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def until_interrupted(raising: bool = True) -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a loop inside the block ends when it is set.

    The exception alone is not enough: Python drops one that is raised inside a finaliser or a
    callback.

    Args:
        raising: raise KeyboardInterrupt in the main thread too, so that what waits ends at once.
    """
    interrupted = threading.Event()

    def interrupt(*_: object) -> None:
        interrupted.set()
        if raising:
            raise KeyboardInterrupt

    before = {kind: signal.signal(kind, interrupt) for kind in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
