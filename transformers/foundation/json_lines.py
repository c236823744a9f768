"""Files of JSON lines that only grow: one writer at a time, and a line is whole or not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from foundation.errors import InvalidInput, StorageError
from foundation.file_lock import file_lock
from foundation.regular_file import open_regular

Append = Callable[[Mapping[str, Any]], None]
Line = dict[str, Any]


@contextmanager
def appending(path: Path) -> Iterator[tuple[list[Line], Append]]:
    """Read a file of JSON lines and append to it, while no other process does.

    Decisions by what the file holds belong inside the block. A line that a crash cut short
    is taken away before the next one is written.

    Args:
        path: the file; it and its folder are made when missing.

    Yields:
        The lines there are, and a function that appends one; when it returns, the line is on the
        disk.

    Raises:
        InvalidInput: a line in the middle is no JSON object; names it.
        StorageError: the file cannot be read or written.
    """
    with file_lock(path) as stream:
        lines, end = _parsed(path, _content(path, stream))
        yield lines, _appender(path, stream, end)


@contextmanager
def continuing(path: Path, longest: int) -> Iterator[tuple[Line | None, Append]]:
    """Append to a file of JSON lines by its last line alone, however long the file is.

    Args:
        path: the file; it and its folder are made when missing.
        longest: bytes of a line at most; no more than twice as many are read.

    Yields:
        The last whole line, None in a file without one, and a function that appends a line as
        :func:`appending` does.

    Raises:
        InvalidInput: the last line is no JSON object, or longer than ``longest``.
        StorageError: the file cannot be read or written.
    """
    with file_lock(path) as stream:
        try:
            size = stream.seek(0, os.SEEK_END)
            start = stream.seek(max(size - 2 * longest, 0))
            tail = stream.read() or b""
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error
        whole, newline, _ = tail.rpartition(b"\n")
        last = whole.rpartition(b"\n")[2]
        if start and b"\n" not in whole:
            raise InvalidInput(f"{path} ends with no line of {longest} bytes; restore the file")
        end = start + len(whole) + len(newline)
        line = _parsed_line(path, "the last line", last) if newline else None
        yield line, _appender(path, stream, end)


def read_lines(path: Path) -> list[Line]:
    """Every whole line; none where there is no file.

    Raises:
        InvalidInput: a line is no JSON object; names it.
        StorageError: the file cannot be read.
    """
    try:
        with open_regular(path) as stream:
            return _parsed(path, _content(path, stream))[0]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error


def _appender(path: Path, stream: BinaryIO, end: int) -> Append:
    """What appends a line behind the last whole one, which ends at byte ``end``."""

    def append(record: Mapping[str, Any]) -> None:
        nonlocal end
        data = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        try:
            if os.fstat(stream.fileno()).st_size > end:
                os.truncate(stream.fileno(), end)
            left = memoryview(data)
            while left:  # the disk may take a part before it reports that it is full
                left = left[stream.write(left) or 0 :]
            os.fsync(stream.fileno())
        except OSError as error:
            raise _unwritable(path, error) from error
        end += len(data)

    return append


def _content(path: Path, stream: BinaryIO) -> bytes:
    try:
        stream.seek(0)
        return stream.read() or b""
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error


def _parsed(path: Path, content: bytes) -> tuple[list[Line], int]:
    """The lines, and where the last whole one ends."""
    whole, _, _ = content.rpartition(b"\n")
    texts: Sequence[bytes] = whole.split(b"\n") if whole else ()
    lines = [_parsed_line(path, f"line {number}", text) for number, text in enumerate(texts, 1)]
    return lines, len(whole) + 1 if whole else 0


def _parsed_line(path: Path, which: str, text: bytes) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict):
        raise InvalidInput(f"{path} {which} is no JSON object; restore the file")
    return line


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(f"cannot write {path}: {error.strerror}; choose another place")
