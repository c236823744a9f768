"""A file of answers, a line of JSON each: a full disk ends neither the run nor what it kept."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from foundation.errors import StorageError
from foundation.storage import atomic_path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM = 64 * 1024
"""Bytes kept on the disk behind the last line: with them the file can take its name at the end."""


@contextlib.contextmanager
def answers_file(path: Path, say: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Yield a function that writes a line; lines that the disk has no room for are counted.

    Args:
        path: the file; it appears at the end, with whole lines only, however the block ends.
        say: called when the disk is full, and where the block is ended early.

    Raises:
        StorageError: lines are missing, or the file cannot be written.
    """
    ended: BaseException | None = None
    end = taken = kept = lines = 0
    with atomic_path(path) as partial, partial.open("xb", buffering=0) as stream:

        def write(line: str) -> None:
            nonlocal end, taken, kept, lines
            lines += 1
            data = line.encode() + b"\n"
            try:
                if end + len(data) + _ROOM > taken:
                    os.posix_fallocate(stream.fileno(), taken, len(data) + 2 * _ROOM)
                    taken += len(data) + 2 * _ROOM
                at = end
                while at < end + len(data):
                    at += os.pwrite(stream.fileno(), data[at - end :], at)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                if lines - kept == 1:
                    say(
                        f"warning: the disk is full, answers are missing in {path}; free some space"
                    )
                return
            end += len(data)
            kept += 1

        try:
            yield write
        except BaseException as error:  # a camera's stream ends by Ctrl-C
            if not kept:
                raise
            ended = error
        stream.truncate(end)
    if ended is not None:
        say(f"{kept:,} answers are in {path}")
        raise ended
    if kept < lines:
        raise StorageError(
            f"{path} lacks {lines - kept:,} of {lines:,} answers, for the disk was full; free some "
            "space before the next run"
        )
