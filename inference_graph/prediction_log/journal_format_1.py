"""The first version's journals, as devices and gateways before this version left them.

::

    GEARLOG1 | length, CRC-32, Arrow schema | length, CRC-32, record batch | ...

Behind damage the next frame is found by the four bytes that every message of Arrow begins with.
A damaged length and a file that was cut short look the same here: both are reported as damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa

from inference_graph.prediction_log.journal_format import Frame, Kind

MAGIC = b"GEARLOG1"
_HEAD = struct.Struct("<II")
_MESSAGE = b"\xff\xff\xff\xff"


class ScanOfVersion1:
    """As :class:`inference_graph.prediction_log.journal_format.Scan`.

    Attributes:
        damaged_bytes: bytes that belong to no whole frame.
        lost_rows: 0, for the format does not record it.
        exact: whether none are lost.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Scan a file from its beginning; nothing is read yet."""
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self.damaged_bytes = self.lost_rows = 0

    @property
    def exact(self) -> bool:
        """Whether all lost rows are counted."""
        return not self.damaged_bytes

    def __iter__(self) -> Iterator[Frame]:
        """Frames to the end.

        Raises:
            OSError: the file cannot be read.
        """
        data, at, kind = self._whole(), len(MAGIC), Kind.SCHEMA
        if data[:at] != MAGIC[: len(data)]:
            self.damaged_bytes += at
        while at < len(data):
            payload = _payload(data, at)
            if payload is not None:
                yield Frame(kind, at, 0, pa.py_buffer(payload))
                at, kind = at + _HEAD.size + len(payload), Kind.ROWS
                continue
            found = _next_frame(data, at)
            if found is None:
                self.damaged_bytes += len(data) - at if data[at:].strip(b"\0") else 0
                return
            self.damaged_bytes += found - at
            at, kind = found, kind if kind == Kind.ROWS else _kind(data, found)

    def inflated_bytes(self) -> int:
        """The file's length: nothing is compressed in this version."""
        return self._size

    def frame(self, at: int) -> Frame | None:
        """There are no amendments in this version."""
        return None

    def _whole(self) -> bytes:
        self._stream.seek(0)
        return self._stream.read(self._size)


def _payload(data: bytes, at: int) -> bytes | None:
    if at + _HEAD.size > len(data):
        return None
    length, checksum = _HEAD.unpack_from(data, at)
    start = at + _HEAD.size
    if not length or length > len(data) - start:
        return None
    payload = data[start : start + length]
    return payload if zlib.crc32(payload) == checksum else None


def _next_frame(data: bytes, at: int) -> int | None:
    found = data.find(_MESSAGE, at + 1 + _HEAD.size)
    while found >= 0:
        if _payload(data, found - _HEAD.size) is not None:
            return found - _HEAD.size
        found = data.find(_MESSAGE, found + 1)
    return None


def _kind(data: bytes, at: int) -> Kind:
    """Whether a frame behind a damaged beginning is the schema; a batch is none without it."""
    try:
        message = pa.ipc.read_message(pa.py_buffer(_payload(data, at) or b""))
    except (EOFError, OSError, ValueError, pa.ArrowException):
        return Kind.ROWS
    return Kind.SCHEMA if message.type == "schema" else Kind.ROWS
