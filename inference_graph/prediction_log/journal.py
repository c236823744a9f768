"""The journal: rows on the local disk within a second, until they stand in a Parquet part.

::

    GEARLOG1 | length, CRC-32, Arrow schema | length, CRC-32, record batch | ...

A process that dies while writing leaves a last frame that is cut short; readers stop before it.
Whoever writes a journal holds a lock on it, which the kernel lifts when the process ends, however
it ends: an unlocked journal is an orphan that the next writer brings home.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa

from feature_transformer.storage import sync

SUFFIX = ".journal"
DAMAGED_SUFFIX = ".damaged"
_BEGUN_SUFFIX = ".begun"
_MAGIC = b"GEARLOG1"
_HEAD = struct.Struct("<II")


class Journal:
    """An append-only file of record batches; not thread-safe.

    Attributes:
        path: the file.
        size: its length in bytes.
        broken: whether a failed write could not be taken back; nothing may follow it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Create and lock it.

        Raises:
            OSError: the file exists, or cannot be written.
        """
        self.path = path
        self.broken = False
        # Under another name until it is locked: a reader of orphans that found it in between would
        # take it for one, bring nothing home and remove what the rows are about to be written to.
        begun = path.with_suffix(_BEGUN_SUFFIX)
        self._stream: BinaryIO = begun.open("x+b", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX)
            self.size = 0
            self._write(_MAGIC + _frame(schema.serialize()))
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            begun.rename(path)
            sync(path.parent)
        except BaseException:
            self._stream.close()
            begun.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Write a batch; when this returns, it is on the disk.

        Raises:
            OSError: it could not be written; the journal is as it was before, or broken.
        """
        self._write(_frame(batch.serialize()))

    def close(self) -> None:
        """Close and unlock it."""
        _unlock(self._stream)

    def _write(self, data: bytes) -> None:
        try:
            left = memoryview(data)
            while left:  # the disk may take a part before it says that it is full
                left = left[self._stream.write(left) :]
            os.fsync(self._stream.fileno())
        except OSError:
            try:
                self._stream.truncate(self.size)
                self._stream.seek(self.size)
            except OSError:
                self.broken = True
            raise
        self.size += len(data)


def frame_bytes(batch: pa.RecordBatch) -> int:
    """By how much a journal grows with a batch."""
    return _HEAD.size + int(pa.ipc.get_record_batch_size(batch))


def head_bytes(schema: pa.Schema) -> int:
    """Length of a journal without a row."""
    return len(_MAGIC) + len(_frame(schema.serialize()))


class Orphan:
    """A journal whose writer is gone, locked against others that would bring it home."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """Made by :func:`adopt`."""
        self.path = path
        self._stream = stream

    def __enter__(self) -> Orphan:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _unlock(self._stream)


def adopt(path: Path) -> Orphan | None:
    """Lock a journal for good, or None while its writer or another adopter lives.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        stream = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None  # brought home meanwhile
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The lock may be on a file that somebody else has just brought home and removed.
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            return Orphan(path, stream)
    except BlockingIOError:
        pass
    except OSError:
        stream.close()
        raise
    stream.close()
    return None


class Damage(Exception):
    """A frame that is whole but wrong; what stands before it has been given."""


def read_journal(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Batches of a journal, also of one that is being written.

    Args:
        path: the file.
        columns: those wanted, by name; all without it.

    Yields:
        Record batches in the order they were appended, up to a frame that is cut short.

    Raises:
        OSError: the file cannot be read.
        Damage: a frame's checksum is wrong.
    """
    with path.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            return  # its writer died before the first row
        head = _payload(stream, path)
        if head is None:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(head))
        while (payload := _payload(stream, path)) is not None:
            batch = pa.ipc.read_record_batch(pa.py_buffer(payload), schema)
            yield batch if columns is None else batch.select(columns)


def _unlock(stream: BinaryIO) -> None:
    """Give up the lock and close.

    Closing alone leaves the lock with a process that was forked meanwhile, until that one is
    another program: whoever looks for orphans in that moment would pass this one by.
    """
    fcntl.flock(stream, fcntl.LOCK_UN)
    stream.close()


def _payload(stream: BinaryIO, path: Path) -> bytes | None:
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    length, checksum = _HEAD.unpack(head)
    # A power cut may leave zeros where a frame was to be; no frame is empty.
    if not length or length > os.fstat(stream.fileno()).st_size - stream.tell():
        return None
    payload = stream.read(length)
    if zlib.crc32(payload) != checksum:
        raise Damage(f"{path} is damaged before byte {stream.tell()}")
    return payload


def _frame(message: pa.Buffer) -> bytes:
    return _HEAD.pack(len(message), zlib.crc32(message)) + message.to_pybytes()
