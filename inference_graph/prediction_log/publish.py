"""From a closed journal to Parquet parts, one for every hour its rows fall in.

A part is named after its journal, so a conversion that a crash cut short is done again under the
same names: rows are never published twice.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from inference_graph.prediction_log.journal import (
    DAMAGED_SUFFIX,
    SUFFIX,
    Damage,
    adopt,
    read_journal,
)
from inference_graph.prediction_log.memory import give_memory_back
from inference_graph.prediction_log.place import Place, part_folder

_GROUP_BYTES = 2 * 1024 * 1024
"""A row group is written once so much has gathered; it bounds the memory of a conversion."""
_HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Published:
    """What became of a journal.

    Attributes:
        sound: whether it could be read to its end; a damaged one is kept beside, with another
            suffix, after the rows before the damage are published.
        rows: rows published.
    """

    sound: bool
    rows: int


def publish(place: Place, stream: str, journal: Path) -> Published:
    """Turn a journal into parts at the place, then remove it.

    Args:
        place: where the log lies.
        stream: name of the stream the journal belongs to.
        journal: a journal nobody writes.

    Raises:
        StorageError: the place cannot be written; the journal stays.
        OSError: the journal cannot be read or the local disk cannot be written; it stays.
    """
    sound, rows = True, 0
    with TemporaryDirectory(prefix="gearshift-parts-") as scratch:
        parts = _Parts(Path(scratch))
        try:
            for batch in read_journal(journal):
                parts.add(batch)
                rows += batch.num_rows
        except Damage:
            sound = False
        for hour, path in parts.close().items():
            folder = part_folder(stream, _EPOCH + timedelta(hours=hour))
            part = f"{folder}/part-{journal.name.removesuffix(SUFFIX)}.parquet"
            place.remove_leftovers(part)  # whoever holds the journal is the part's sole writer
            place.put(part, path)
    give_memory_back()
    if sound:
        journal.unlink(missing_ok=True)
    else:
        journal.rename(journal.with_suffix(DAMAGED_SUFFIX))
    return Published(sound, rows)


def adopt_orphans(place: Place, stream: str, bring_home: Callable[[str, Path], None]) -> None:
    """Hand every journal whose writer is gone to ``bring_home(stream, path)``, oldest first.

    Raises:
        StorageError: as :func:`publish` raises it.
        OSError: likewise.
    """
    for path in sorted((place.journal / stream).glob(f"*{SUFFIX}")):
        orphan = adopt(path)
        if orphan is not None:
            with orphan:
                bring_home(stream, path)


class _Parts:
    """One Parquet file per hour, written row group by row group."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[int, pq.ParquetWriter] = {}
        self._waiting: dict[int, list[pa.RecordBatch]] = {}
        self._bytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        times = np.frombuffer(batch.column("time").buffers()[1], np.int64, batch.num_rows)
        hours = times // _HOUR_US
        # Rows come in the order of time, or nearly: slices of one hour each. A filter would say it
        # shorter, but the first one fills Arrow's registry of functions, 40 MB of the process.
        edges = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), batch.num_rows]
        for start, end in itertools.pairwise(edges):
            if start < end:
                slices = self._waiting.setdefault(int(hours[start]), [])
                slices.append(batch.slice(start, end - start))
        self._bytes += batch.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._write()

    def close(self) -> dict[int, Path]:
        """Files by hour since 1970."""
        self._write()
        for writer in self._writers.values():
            writer.close()
        return {hour: self._path(hour) for hour in self._writers}

    def _write(self) -> None:
        for hour, batches in self._waiting.items():
            table = pa.Table.from_batches(batches)
            if hour not in self._writers:
                self._writers[hour] = pq.ParquetWriter(
                    str(self._path(hour)), table.schema, compression="zstd"
                )
            self._writers[hour].write_table(table)
        self._waiting, self._bytes = {}, 0

    def _path(self, hour: int) -> Path:
        return self._folder / f"{hour}.parquet"
