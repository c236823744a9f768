"""Which process runs what: locks with the id of the process that holds them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from foundation.file_lock import file_lock, sign_lock, try_file_lock, try_lock

ATTEMPTS_FOLDER = "attempts"
_LOCK_FILE = "lock"
_TRIES, _PAUSE = 20, 0.05
"""Who asks for a lock's holder holds it for a moment; only a lock that stays taken has one."""


@contextlib.contextmanager
def held(file: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock, with this process's id in its file, while the block runs.

    Args:
        file: the lock; it and its folder are made.
        wait: until another process lets go of it.

    Yields:
        Whether it is held; never false when waiting.

    Raises:
        StorageError: the file cannot be written.
    """
    with contextlib.ExitStack() as stack:
        stream = stack.enter_context((file_lock if wait else try_file_lock)(file))
        for _ in range(_TRIES):
            if stream is not None:
                break
            time.sleep(_PAUSE)
            stream = stack.enter_context(try_file_lock(file))
        if stream is not None:
            sign_lock(stream, file, str(os.getpid()).encode())
        yield stream is not None


def holder(file: Path) -> int | None:
    """Process that holds a lock; None where none does."""
    try:
        with file.open("r+b") as stream:
            text = b"" if try_lock(stream) else stream.read().strip()
            return int(text) if text.isdigit() else None
    except OSError:
        return None


def attempt_folder(ledger: Path, attempt: str) -> Path:
    """Folder of a launch: its lock, its steps, and its results where it ran from the queue."""
    return ledger / ATTEMPTS_FOLDER / attempt


def attempt_lock(ledger: Path, attempt: str) -> Path:
    """The lock that the process of a launch holds."""
    return attempt_folder(ledger, attempt) / _LOCK_FILE
