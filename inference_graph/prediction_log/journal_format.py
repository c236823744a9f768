"""The journal's file format: frames that can be found again behind whatever is damaged.

::

    GEARLOG2 | frame | frame | ...
    frame: mark, kind, length, inflated, rows, before, CRC-32 of the payload, of the head | payload

Arrow's own IPC streams and files have no checksums and cannot be read behind a damaged message, so
Arrow's messages are the payloads of frames. A damaged payload costs its frame, whose head gives how
many rows that are; behind a damaged head the next mark is sought, and ``before``, the number of
rows in front of a frame, gives how many are missing. The schema stands at the beginning twice, and
an orderly end is a frame of its own. A file that ends within a frame was cut short by the death of
its writer, which is no damage.

Payloads are compressed with LZ4, each frame for itself: of a few rows most bytes are Arrow's
description of them. How far one inflates is in its head, and bounded.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import BinaryIO

import pyarrow as pa

MAGIC = b"GEARLOG2"
MARK = b"\xf5\xfeGEAR\r\n"
"""Before each frame; its first two bytes are in no text, the last two suffer where newlines do."""
INFLATED_LIMIT = 32 * 1024 * 1024
"""Bytes of one payload at most, inflated."""
_HEAD = struct.Struct("<8sIIIIQI")
_CRC = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _CRC.size
_SEARCHED = 1 << 20
_CODEC = pa.Codec("lz4_raw")


class Kind(IntEnum):
    """What a frame holds."""

    SCHEMA = 1
    ROWS = 2
    AMENDMENTS = 3
    END = 4


_KINDS = frozenset(Kind)


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        kind: what it holds.
        at: where it begins in the file.
        rows: rows, or amendments, in it.
        payload: Arrow's message; empty of an end.
    """

    kind: Kind
    at: int
    rows: int
    payload: pa.Buffer


def pack(kind: Kind, message: pa.Buffer, rows: int, before: int) -> bytes:
    """A frame as bytes.

    Args:
        kind: what it holds.
        message: its payload.
        rows: rows in it.
        before: rows of the journal in front of it.
    """
    stored = _CODEC.compress(message, asbytes=True) if message.size else b""
    if len(stored) >= message.size:
        stored = message.to_pybytes()
    fields = (MARK, kind, len(stored), message.size, rows, before, zlib.crc32(stored))
    head = _HEAD.pack(*fields)
    return head + _CRC.pack(zlib.crc32(head)) + stored


class Scan:
    """The whole frames of a journal, in their order; damage is counted and passed over.

    Attributes:
        damaged_bytes: bytes that belong to no whole frame.
        lost_rows: rows that stood there, as far as the heads around it show.
        exact: whether ``lost_rows`` are all: not where the last thing in the file is damaged.
    """

    def __init__(self, stream: BinaryIO) -> None:
        """Scan a file from its beginning; nothing is read yet."""
        self._stream = stream
        self._size = os.fstat(stream.fileno()).st_size
        self.damaged_bytes = self.lost_rows = 0
        self.exact = True
        self._seen = 0

    @property
    def damaged(self) -> bool:
        """Whether anything was passed over."""
        return self.damaged_bytes > 0

    def __iter__(self) -> Iterator[Frame]:
        """Frames up to one that is cut short, or the end.

        Raises:
            OSError: the file cannot be read.
        """
        at = len(MAGIC)
        if self._read(0, at) != MAGIC[: self._size]:
            self.damaged_bytes += at
        while at < self._size:
            head = self._head(at)
            if head is None:
                found = self._next_mark(at)
                if found is None:
                    self._end_at(at)
                    return
                self.damaged_bytes += found - at
                at = found
                continue
            _, kind, length, inflated, rows, before, checksum = head
            if length > self._size - at - HEAD_BYTES:
                return  # cut short
            if kind != Kind.AMENDMENTS:
                self._count(before)
            stored = self._read(at + HEAD_BYTES, length)
            payload = _inflated(stored, inflated) if zlib.crc32(stored) == checksum else None
            if kind == Kind.ROWS:
                self._seen += rows
            if payload is None:
                self.damaged_bytes += HEAD_BYTES + length
                self.lost_rows += rows if kind == Kind.ROWS else 0
            else:
                yield Frame(Kind(kind), at, rows, payload)
            at += HEAD_BYTES + length

    def inflated_bytes(self) -> int:
        """What all payloads inflate to, as the heads state; no payload is read.

        Raises:
            OSError: the file cannot be read.
            ValueError: something else than whole frames of rows is in it.
        """
        at, total = len(MAGIC), 0
        while at < self._size:
            head = self._head(at)
            if head is None or head[1] == Kind.AMENDMENTS:
                raise ValueError(f"at byte {at} there is no frame of rows")
            at, total = at + HEAD_BYTES + head[2], total + head[3]
        if at > max(self._size, len(MAGIC)):
            raise ValueError("its last frame is cut short")
        return total

    def frame(self, at: int) -> Frame | None:
        """The frame at a place where there was one; None where it can be read no longer."""
        head = self._head(at)
        if head is None:
            return None
        _, kind, length, inflated, rows, _, checksum = head
        stored = self._read(at + HEAD_BYTES, length)
        payload = _inflated(stored, inflated) if zlib.crc32(stored) == checksum else None
        return None if payload is None else Frame(Kind(kind), at, rows, payload)

    def _count(self, before: int) -> None:
        """Rows in front of a frame that were not seen are lost."""
        self.lost_rows += max(before - self._seen, 0)
        self._seen = max(before, self._seen)
        self.exact = True

    def _head(self, at: int) -> tuple[bytes, int, int, int, int, int, int] | None:
        data = self._read(at, HEAD_BYTES)
        if len(data) < HEAD_BYTES or not data.startswith(MARK):
            return None
        head = data[: _HEAD.size]
        if _CRC.unpack_from(data, _HEAD.size) != (zlib.crc32(head),):
            return None
        fields: tuple[bytes, int, int, int, int, int, int] = _HEAD.unpack(head)
        return fields if fields[1] in _KINDS else None

    def _next_mark(self, at: int) -> int | None:
        """Where the next sound head begins."""
        start = at + 1
        while start < self._size:
            data = self._read(start, _SEARCHED)
            found = data.find(MARK)
            while found >= 0:
                if self._head(start + found) is not None:
                    return start + found
                found = data.find(MARK, found + 1)
            start += max(len(data) - len(MARK) + 1, 1)
        return None

    def _end_at(self, at: int) -> None:
        """What stands behind the last sound frame: cut short, blank, or damaged."""
        tail = self._read(at, HEAD_BYTES)
        if len(tail) < HEAD_BYTES and MARK.startswith(tail[: len(MARK)]):
            return  # its writer died within the head
        if self._blank(at):
            return
        self.damaged_bytes += self._size - at
        self.exact = False

    def _blank(self, at: int) -> bool:
        """Whether only zeros follow, as a power cut may leave where a frame was to be."""
        while at < self._size:
            data = self._read(at, _SEARCHED)
            if data.strip(b"\0"):
                return False
            at += max(len(data), 1)
        return True

    def _read(self, at: int, length: int) -> bytes:
        self._stream.seek(at)
        return self._stream.read(length)


def _inflated(stored: bytes, size: int) -> pa.Buffer | None:
    if size > INFLATED_LIMIT or size < len(stored):
        return None
    if size == len(stored):
        return pa.py_buffer(stored)
    try:
        return _CODEC.decompress(stored, decompressed_size=size)
    except (OSError, ValueError):
        return None
