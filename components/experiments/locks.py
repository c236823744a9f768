"""Who runs what: locks that the kernel lifts when their holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from foundation.errors import StorageError

ATTEMPTS_FOLDER = "attempts"
_LOCK_FILE = "lock"


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
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("a+", encoding="ascii")
    except OSError as error:
        raise StorageError(f"cannot write {file}: {error.strerror}; choose another ledger") from (
            error
        )
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield True


def holder(file: Path) -> int | None:
    """Process that holds a lock; None where nobody does."""
    try:
        with file.open("r+", encoding="ascii") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                text = stream.read().strip()
                return int(text) if text.isdigit() else None
    except OSError:
        return None
    return None


def attempt_folder(ledger: Path, attempt: str) -> Path:
    """Folder of a launch: its lock, its steps, and its results where it ran from the queue."""
    return ledger / ATTEMPTS_FOLDER / attempt


def attempt_lock(ledger: Path, attempt: str) -> Path:
    """The lock that the process of a launch holds."""
    return attempt_folder(ledger, attempt) / _LOCK_FILE
