"""Which rows were logged lately: a message that comes again, also across a restart, is known."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from foundation.errors import StorageError
from inference_graph.prediction_log.columns import Stream
from inference_graph.prediction_log.journal import SUFFIX, JournalDamaged, read_journal
from inference_graph.prediction_log.place import Place

_AT_ONCE = 1024
"""Keys that are made texts of in one go."""


class RecentKeys:
    """The last keys, at most so many; the oldest are forgotten first."""

    def __init__(self, limit: int) -> None:
        """Start with none."""
        self._limit = limit
        self._lock = threading.Lock()
        self._keys: dict[str, None] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        """How many are known."""
        return len(self._keys)

    def add(self, keys: Iterable[str]) -> None:
        """Remember keys, the oldest first."""
        with self._lock:
            for key in keys:
                self._keys.pop(key, None)
                self._keys[key] = None
                if len(self._keys) > self._limit:
                    del self._keys[next(iter(self._keys))]

    def load(self, place: Place, stream: Stream, since: datetime) -> None:
        """Remember what the log holds since a time; what cannot be read stays unknown."""
        # Journals first: one that becomes a part meanwhile is then found as a part.
        journals, parts = RecentKeys(self._limit), RecentKeys(self._limit)
        journals.add(_journal_keys(place, stream))
        try:
            for path in place.parts(stream.name, since):
                parts.add(_part_keys(place, path, stream.key))
        except StorageError:
            pass  # a bucket out of reach; readers drop what comes twice as well
        with self._lock:
            # What was added meanwhile is newer.
            known = [*parts._keys, *journals._keys, *self._keys]
            self._keys = dict.fromkeys(known[-self._limit :] if self._limit else ())


def _journal_keys(place: Place, stream: Stream) -> Iterator[str]:
    for path in sorted((place.journal / stream.name).glob(f"*{SUFFIX}")):
        try:
            for batch in read_journal(path, [stream.key]):
                yield from _texts(batch.column(0))
        except (OSError, JournalDamaged, pa.ArrowException):
            continue


def _part_keys(place: Place, path: str, key: str) -> Iterator[str]:
    try:
        with place.opened(path) as stream:
            table = pq.ParquetFile(stream).read(columns=[key])
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{path} of the log at {place.name} cannot be read") from error
    yield from _texts(table.column(0))


def _texts(column: pa.Array | pa.ChunkedArray) -> Iterator[str]:
    """One after the other, a few at a time: answers go on meanwhile."""
    for start in range(0, len(column), _AT_ONCE):
        yield from column.slice(start, _AT_ONCE).to_pylist()
