"""The journal: rows on the local disk within a moment, until they stand in a Parquet part.

Whoever writes a journal holds a lock on it, which the kernel lifts when the process ends, however
it ends: an unlocked journal is abandoned, and the next writer publishes it. What is appended
survives the end of the process; :meth:`Journal.sync` makes it survive that of the machine. See
:mod:`inference_graph.prediction_log.journal_format` for what is in it.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from foundation.file_lock import lock, try_lock, unlock
from foundation.storage import sync
from inference_graph.prediction_log import journal_format_1
from inference_graph.prediction_log.amendments import AmendedRows, amendment_message
from inference_graph.prediction_log.journal_format import (
    HEAD_BYTES,
    MAGIC,
    MARK,
    Kind,
    Scan,
    pack,
)
from inference_graph.prediction_log.journal_format_1 import ScanOfVersion1

SUFFIX = ".journal"
DAMAGED_SUFFIX = ".damaged"
REFUSED_SUFFIX = ".refused"
REASON_SUFFIX = ".reason"
"""Beside a journal that was set aside: one line with the reason."""
BEGUN_SUFFIX = ".begun"
_LEFT_SECONDS = 60.0
_UNREADABLE = (EOFError, LookupError, OSError, ValueError, struct.error, pa.ArrowException)
"""What Arrow raises for bytes that are no message."""
_EMPTY = pa.py_buffer(b"")


class Journal:
    """An append-only file of record batches; one thread writes, any may :meth:`sync`.

    Attributes:
        path: the file.
        size: its length in bytes.
        rows: rows in it.
        broken: whether a failed write could not be taken back; nothing may follow it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        """Create and lock it.

        Raises:
            OSError: the file exists, or cannot be written.
        """
        self.path = path
        self.broken = False
        self.size = self.rows = self._synced = 0
        self._handle = threading.Lock()
        # Under another name until it is locked: a reader of abandoned journals that found it in
        # between would take it for one, publish nothing and remove what the rows are about
        # to be written to.
        begun = path.with_suffix(BEGUN_SUFFIX)
        self._stream: BinaryIO = begun.open("x+b", buffering=0)
        try:
            lock(self._stream)
            self._write(head(schema))
            if path.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            begun.rename(path)
        except BaseException:
            self._stream.close()
            begun.unlink(missing_ok=True)
            raise

    def append(self, batch: pa.RecordBatch) -> None:
        """Write rows; when this returns, the end of the process does not lose them.

        Raises:
            OSError: they could not be written; the journal is as it was before, or broken.
        """
        self._write(pack(Kind.ROWS, batch.serialize(), batch.num_rows, self.rows))
        self.rows += batch.num_rows

    def amend(self, batch: pa.RecordBatch) -> None:
        """Write what is added to rows of this journal.

        Args:
            batch: of ``AMENDMENT_SCHEMA``.

        Raises:
            OSError: as :meth:`append`.
        """
        self._write(pack(Kind.AMENDMENTS, amendment_message(batch), batch.num_rows, self.rows))

    def sync(self) -> None:
        """Bring what was written to the disk itself, so that a power cut does not lose it.

        The writer is not held up meanwhile.

        Raises:
            OSError: the disk refuses.
        """
        with self._handle:
            size = self.size
            if self._stream.closed or size == self._synced:
                return
            handle = os.dup(self._stream.fileno())
        try:
            os.fsync(handle)
            if not self._synced:
                sync(self.path.parent)  # a new name is there only once its folder was synced
        finally:
            os.close(handle)
        self._synced = size

    def close(self) -> None:
        """Write its end, close and unlock it; the disk need not have room for the end.

        Raises:
            OSError: what was written could not be brought to the disk itself; it is closed.
        """
        try:
            if not self.broken:
                self._write(pack(Kind.END, _EMPTY, 0, self.rows))
        except OSError:
            pass  # then less is known of what a damage cost
        try:
            self.sync()
        finally:
            with self._handle:
                _unlock(self._stream)

    def _write(self, data: bytes) -> None:
        try:
            left = memoryview(data)
            while left:  # the disk may take a part before it reports that it is full
                left = left[self._stream.write(left) :]
        except OSError:
            try:
                self._stream.truncate(self.size)
                self._stream.seek(self.size)
            except OSError:
                self.broken = True
            raise
        self.size += len(data)


def head(schema: pa.Schema) -> bytes:
    """The beginning of a journal; twice the schema, for without it nothing could be read."""
    return MAGIC + 2 * pack(Kind.SCHEMA, schema.serialize(), 0, 0)


def frame_bytes(batch: pa.RecordBatch) -> int:
    """By how much a journal grows with a batch, at most."""
    return HEAD_BYTES + int(pa.ipc.get_record_batch_size(batch))


def head_bytes(schema: pa.Schema) -> int:
    """Length of a journal without a row, from its beginning to its end."""
    return len(head(schema)) + HEAD_BYTES


class AbandonedJournal:
    """A journal whose writer is gone, locked against others that would publish it."""

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """Made by :func:`lock_abandoned`."""
        self.path = path
        self._stream = stream

    def __enter__(self) -> AbandonedJournal:
        return self

    def __exit__(self, *_: object) -> None:
        _unlock(self._stream)


def lock_abandoned(path: Path) -> AbandonedJournal | None:
    """Lock a journal whose writer is gone; None while its writer or another publisher lives.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        stream = path.open("r+b", buffering=0)
    except FileNotFoundError:
        return None  # published meanwhile
    try:
        # The lock may be on a file that another process has just published and removed.
        if (
            try_lock(stream)
            and path.exists()
            and os.path.samestat(os.fstat(stream.fileno()), path.stat())
        ):
            return AbandonedJournal(path, stream)
    except OSError:
        stream.close()
        raise
    stream.close()
    return None


class JournalDamaged(Exception):
    """Something in a journal cannot be read; all that can be read has been given.

    Attributes:
        rows: rows that are lost by it, as far as it is known.
        exact: whether that is all.
    """

    def __init__(self, path: Path, damaged_bytes: int, rows: int, exact: bool) -> None:
        """Describe it."""
        lost = f"{rows} rows" if exact else f"at least {rows} rows" if rows else "possibly rows"
        super().__init__(f"{path} is damaged: {damaged_bytes} bytes, {lost} are lost")
        self.rows = rows
        self.exact = exact


def read_journal(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Rows of a journal, also of one that is being written, with what was added to them later.

    Args:
        path: the file.
        columns: those wanted, by name; all without it.

    Yields:
        Record batches in the order they were appended, up to a frame that is cut short.

    Raises:
        OSError: the file cannot be read.
        Damage: behind the last batch, if anything was passed over.
    """
    with path.open("rb") as stream:
        scan = _scan(stream)
        amended = AmendedRows(_scan(stream), scan.frame, _amendments)
        schema: pa.Schema | None = None
        unread = 0
        for frame in scan:
            if frame.kind == Kind.SCHEMA:
                schema = schema or _schema(frame.payload)
            if frame.kind != Kind.ROWS:
                continue
            batch = None if schema is None else _batch(frame.payload, schema)
            if batch is None:
                unread += 1
                scan.lost_rows += frame.rows
                continue
            if batch.num_rows:
                batch = amended.into(batch, columns or batch.schema.names)
                yield batch if columns is None else batch.select(columns)
        if scan.damaged_bytes or scan.lost_rows or unread:
            raise JournalDamaged(path, scan.damaged_bytes, scan.lost_rows, scan.exact)


def inflated_bytes(path: Path) -> int:
    """What a journal of rows alone inflates to; nothing is inflated for it.

    Raises:
        OSError: the file cannot be read.
        ValueError: something else than whole frames of rows is in it.
    """
    with path.open("rb") as stream:
        return _scan(stream).inflated_bytes()


def is_of_version_1(path: Path) -> bool:
    """Whether the version before this one wrote a journal.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == journal_format_1.MAGIC


def _scan(stream: BinaryIO) -> Scan | ScanOfVersion1:
    """By the file's beginning; where that is damaged, by what follows."""
    stream.seek(0)
    first = stream.read(len(MAGIC) + (1 << 16))
    old = first.startswith(journal_format_1.MAGIC)
    if old or not (first.startswith(MAGIC) or MARK in first or len(first) < len(MAGIC)):
        return ScanOfVersion1(stream)
    return Scan(stream)


def _schema(payload: pa.Buffer) -> pa.Schema | None:
    try:
        return pa.ipc.read_schema(payload)
    except _UNREADABLE:
        return None


def _batch(payload: pa.Buffer, schema: pa.Schema) -> pa.RecordBatch | None:
    """A batch; None where it is none, or inflates: that is bounded by frames alone."""
    try:
        message = pa.ipc.read_message(payload)
        if _is_compressed(message):
            return None
        return pa.ipc.read_record_batch(message, schema)
    except _UNREADABLE:
        return None


def _amendments(payload: pa.Buffer) -> list[pa.RecordBatch]:
    try:
        messages = list(pa.ipc.MessageReader.open_stream(pa.BufferReader(payload)))
        schema = _schema(messages[0].serialize()) if messages else None
        found = [_batch(message.serialize(), schema) for message in messages[1:] if schema]
    except _UNREADABLE:
        return []
    return [batch for batch in found if batch is not None and "event_id" in batch.schema.names]


def _is_compressed(message: pa.Message) -> bool:
    """Whether a record batch names a codec for its buffers.

    Read from the FlatBuffer, Arrow's ``Message.fbs``: of ``Message`` the header is field 2, of
    ``RecordBatch`` the compression field 3.
    """
    data = message.metadata.to_pybytes()
    root = struct.unpack_from("<I", data)[0]
    header = _field(data, root, 2)
    if header is None:
        return False
    table = header + struct.unpack_from("<I", data, header)[0]
    return _field(data, table, 3) is not None


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a table of a FlatBuffer has a field; None where it has its default."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    if 4 + 2 * number >= struct.unpack_from("<H", data, vtable)[0]:
        return None
    offset = struct.unpack_from("<H", data, vtable + 4 + 2 * number)[0]
    return table + offset if offset else None


def rewritten(path: Path) -> bytes:
    """A journal of the rows that can be read, with what was added to them later.

    The same bytes however often it is asked for; nothing where no row can be read.

    Raises:
        OSError: the file cannot be read.
    """
    pieces: list[bytes] = []
    rows = 0
    with suppress(JournalDamaged):
        for batch in read_journal(path):
            pieces = pieces or [head(batch.schema)]
            pieces.append(pack(Kind.ROWS, batch.serialize(), batch.num_rows, rows))
            rows += batch.num_rows
    return b"".join([*pieces, pack(Kind.END, _EMPTY, 0, rows)]) if rows else b""


def remove_left(paths: Iterable[Path]) -> None:
    """Remove files that were written under a lock by a process that was killed meanwhile."""
    for path in paths:
        # Who made one a moment ago may not have locked it yet.
        with suppress(OSError), path.open("r+b") as stream:  # NFS locks no other
            old = time.time() - os.fstat(stream.fileno()).st_mtime > _LEFT_SECONDS
            if old and try_lock(stream):
                path.unlink(missing_ok=True)


def set_aside(path: Path, suffix: str, reason: str) -> None:
    """Keep a journal under another suffix, where it blocks nothing, with its reason in a file.

    Raises:
        OSError: the folder cannot be written.
    """
    with suppress(OSError):  # where the disk is full, the log's own words have to do
        path.with_suffix(REASON_SUFFIX).write_text(f"{reason}\n", encoding="utf-8")
    path.rename(path.with_suffix(suffix))


def _unlock(stream: BinaryIO) -> None:
    """Give up the lock and close.

    Closing alone leaves the lock with a process that was forked meanwhile, until that one is
    another program: a search for abandoned journals in that moment would miss this one.
    """
    unlock(stream)
    stream.close()
