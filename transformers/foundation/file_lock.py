"""Locks on files and folders that the kernel lifts when their holder ends, however it ends.

One process that is killed leaves no lock behind, so what it left is known by being unlocked. The
lock belongs to the open file: a process that inherits the handle goes on holding it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from foundation.errors import StorageError
from foundation.regular_file import open_regular

Handle = int | BinaryIO


def lock(handle: Handle) -> None:
    """Wait for the lock of an open file or folder.

    Raises:
        OSError: the file system has no locks.
    """
    fcntl.flock(handle, fcntl.LOCK_EX)


def try_lock(handle: Handle) -> bool:
    """Take the lock of an open file or folder, unless another holder has it.

    Raises:
        OSError: the file system has no locks.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(handle: Handle) -> None:
    """Give the lock up, also where a process that was forked meanwhile holds the file open."""
    fcntl.flock(handle, fcntl.LOCK_UN)


@contextmanager
def file_lock(path: Path) -> Iterator[BinaryIO]:
    """Hold the lock of a file, which is made with its folder, while the block runs; wait for it.

    Yields:
        The file, open for appending and unbuffered. It stays when the lock is given up.

    Raises:
        StorageError: the file cannot be written, or its file system has no locks.
    """
    with _opened(path) as stream:
        with named_failure(path):
            lock(stream)
        yield stream


@contextmanager
def try_file_lock(path: Path) -> Iterator[BinaryIO | None]:
    """As :func:`file_lock`, but yield None at once where another holder has the lock."""
    with _opened(path) as stream:
        with named_failure(path):
            free = try_lock(stream)
        yield stream if free else None


def sign_lock(stream: BinaryIO, path: Path, text: bytes) -> None:
    """Leave word in a locked file of who holds it, in place of what it says.

    Raises:
        StorageError: the file cannot be written.
    """
    with named_failure(path):
        stream.truncate(0)
        stream.write(text)


@contextmanager
def named_failure(path: Path) -> Iterator[None]:
    """Turn a failure of the system into one that names the file.

    Raises:
        StorageError: in place of an OSError of the block.
    """
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}; choose another place"
        ) from error


def _opened(path: Path) -> BinaryIO:
    with named_failure(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return cast(BinaryIO, open_regular(path, "a+b", 0))
