"""From a closed journal to Parquet parts, one for every hour its rows fall in.

A part is named after its journal, so a conversion that a crash cut short is done again under the
same names: rows are never published twice.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foundation.errors import StorageError
from foundation.file_lock import lock, try_lock
from inference_graph.prediction_log.journal import (
    DAMAGED_SUFFIX,
    REFUSED_SUFFIX,
    SUFFIX,
    JournalDamaged,
    lock_abandoned,
    read_journal,
    set_aside,
)
from inference_graph.prediction_log.memory import give_memory_back
from inference_graph.prediction_log.place import Place, part_folder

_GROUP_BYTES = 2 * 1024 * 1024
"""A row group is written once so much has gathered; it bounds the memory of a conversion."""
_OPEN_PARTS = 16
"""Parts that are written at once; a file is open for each of them."""
_TRIES = 3
"""Deaths of the process during a publication, then the journal is set aside."""
_TRIES_SUFFIX = ".tries"
_OF_ONE_FILE = (errno.EACCES, errno.EIO, errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.EPERM)
"""Errors that concern one file, not of the disk."""
_SCRATCH = "gearshift-parts-"
_SCRATCH_SECONDS = 60.0
_HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """Result of publishing a journal.

    Attributes:
        rows: rows published.
        damage: why not all could be; the journal is kept beside, with another suffix, after all
            that can be read was published.
    """

    rows: int
    damage: JournalDamaged | None = None


class Unpublishable(Exception):
    """A journal cannot become parts however often that is tried; it was set aside."""


def publish(place: Place, stream: str, journal: Path) -> Published:
    """Turn a journal into parts at the place, then remove it.

    Args:
        place: where the log lies.
        stream: name of the stream the journal belongs to.
        journal: a journal that is not being written, locked.

    Raises:
        Unpublishable: what is in it can be no part, or the process died of it several times; it
            was set aside with its reason.
        StorageError: the place cannot be written; the journal stays.
        OSError: the journal cannot be read or the local disk cannot be written; it stays.
    """
    damage, rows = None, 0
    with _scratch() as scratch, _attempt(journal):
        parts = _Parts(scratch)
        try:
            for batch in read_journal(journal):
                parts.add(batch)
                rows += batch.num_rows
        except JournalDamaged as error:
            damage = error
        for (hour, number), path in parts.close().items():
            folder = part_folder(stream, _EPOCH + timedelta(hours=hour))
            name = journal.name.removesuffix(SUFFIX) + (f".{number}" if number else "")
            part = f"{folder}/part-{name}.parquet"
            place.remove_temporaries(part)  # whoever holds the journal is the part's sole writer
            place.put(part, path)
    give_memory_back()
    if damage is None:
        journal.unlink(missing_ok=True)
    else:
        set_aside(journal, DAMAGED_SUFFIX, str(damage))
    return Published(rows, damage)


@contextmanager
def _attempt(journal: Path) -> Iterator[None]:
    """Set a journal aside that can be no part, or that the process has died of before.

    The count of attempts lies beside the journal while one lasts, so a journal whose conversion
    takes more memory than there is ends no more than a few starts.
    """
    marker = journal.with_suffix(_TRIES_SUFFIX)
    try:
        tries = int(marker.read_text())
    except (FileNotFoundError, ValueError):
        tries = 0
    if tries >= _TRIES:
        set_aside(journal, REFUSED_SUFFIX, f"the process ended {tries} times while publishing it")
        marker.unlink(missing_ok=True)
        raise Unpublishable(
            f"the process ended {tries} times while publishing {journal.name}; it is kept as "
            f"*{REFUSED_SUFFIX}"
        )
    with suppress(OSError):  # a full disk, which a publication makes room on
        marker.write_text(str(tries + 1))
    try:
        yield
    except StorageError:
        raise  # the place's
    except (
        pa.ArrowException,
        ArithmeticError,
        LookupError,
        MemoryError,
        OSError,
        ValueError,
        TypeError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        set_aside(journal, REFUSED_SUFFIX, reason)
        raise Unpublishable(
            f"{journal.name} cannot become parts ({reason}); it is kept as *{REFUSED_SUFFIX}"
        ) from error
    finally:
        marker.unlink(missing_ok=True)


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder for parts in the making; those that killed processes left are removed."""
    with TemporaryDirectory(prefix=_SCRATCH) as name:
        handle = os.open(name, os.O_RDONLY)
        try:
            lock(handle)
            for left in Path(name).parent.glob(f"{_SCRATCH}*"):
                _remove_unlocked(left)
            yield Path(name)
        finally:
            os.close(handle)


def _remove_unlocked(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return  # another user's, or gone
    try:
        # One that was made a moment ago may have no lock yet.
        if time.time() - os.fstat(handle).st_mtime > _SCRATCH_SECONDS and try_lock(handle):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def publish_abandoned(
    place: Place, stream: str, publish_journals: Callable[[str, Path], None]
) -> list[OSError]:
    """Hand every journal whose writer is gone to ``publish_journals(stream, path)``, oldest first.

    Returns:
        Why single files could not be read; they hold up no other.

    Raises:
        StorageError: as :func:`publish` raises it.
        OSError: the disk as a whole refuses.
    """
    failures: list[OSError] = []
    for path in sorted((place.journal / stream).glob(f"*{SUFFIX}")):
        try:
            abandoned = lock_abandoned(path)
            if abandoned is not None:
                with abandoned:
                    publish_journals(stream, path)
        except OSError as error:
            if error.errno not in _OF_ONE_FILE:
                raise
            failures.append(error)
    return failures


class _Parts:
    """Parquet files of one hour each, written row group by row group.

    Only so many are open at once. An hour whose file was closed and that comes again gets another.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[int, pq.ParquetWriter] = {}
        self._begun: dict[int, int] = {}
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        times = np.frombuffer(batch.column("time").buffers()[1], np.int64, batch.num_rows)
        hours = times // _HOUR_US
        # Rows come in the order of time, or nearly: slices of one hour each. A filter would be
        # shorter, but the first one fills Arrow's registry of functions, 40 MB of the process.
        edges = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), batch.num_rows]
        for start, end in itertools.pairwise(edges):
            if start < end:
                slices = self._waiting.setdefault(int(hours[start]), [])
                slices.append(batch.slice(start, end - start))
        self._bytes += batch.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> dict[tuple[int, int], Path]:
        """Files by hour since 1970 and number within it."""
        self._write()
        while self._writers:
            self._close_oldest()
        return {
            (hour, number): self._path(hour, number)
            for hour, count in self._begun.items()
            for number in range(count)
        }

    def _write(self) -> None:
        for hour, batches in self._waiting.items():
            table = pa.Table.from_batches(batches)
            if hour not in self._writers:
                while len(self._writers) >= _OPEN_PARTS:
                    self._close_oldest()
                number = self._begun.get(hour, 0)
                self._begun[hour] = number + 1
                self._writers[hour] = pq.ParquetWriter(
                    str(self._path(hour, number)), table.schema, compression="zstd"
                )
            self._writers[hour].write_table(table)
        self._waiting, self._bytes = {}, 0

    def _close_oldest(self) -> None:
        self._writers.pop(next(iter(self._writers))).close()

    def _path(self, hour: int, number: int) -> Path:
        return self._folder / f"{hour}-{number}.parquet"
