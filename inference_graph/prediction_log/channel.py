"""One stream's rows on their way from memory into its journal."""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from inference_graph.prediction_log.columns import Stream, to_batch
from inference_graph.prediction_log.journal import SUFFIX, Journal, frame_bytes, head_bytes
from inference_graph.prediction_log.recent import RecentKeys

FULL = "it has reached its limit"
"""Why nothing is written any more where the disk itself has room."""
_CHUNK = 256
"""Rows of one frame of the journal; converting more at once would hold up the answers."""


class Channel:
    """Rows that wait, and the journal they go to.

    Any thread may :meth:`offer`; the rest belongs to the writer's thread.

    Attributes:
        stream: which stream.
        recent: keys that were stored lately.
        accepted: rows taken so far.
        stored: rows that reached the disk.
        duplicates: rows whose key was stored before.
        refused: rows that no batch could be made of.
        dropped: rows that found the queue full, or were left when the log was closed.
    """

    def __init__(
        self,
        stream: Stream,
        folder: Path,
        writer: str,
        capacity: int,
        recent: RecentKeys,
        observed: Callable[[Any], bool] | None = None,
    ) -> None:
        """Start empty; the journal comes with the first row."""
        self.stream = stream
        self.recent = recent
        self.accepted = self.stored = self.duplicates = self.refused = self.dropped = 0
        self._folder = folder / stream.name
        self._writer = writer
        self._capacity = capacity
        self._observed = observed
        self._lock = threading.Lock()
        self._waiting: deque[Any] = deque()
        self._taken: deque[Any] = deque()
        self._journal: Journal | None = None
        self._number = 0

    def offer(self, row: Any) -> bool:
        """Take a row; False where there is no room, which is counted."""
        with self._lock:
            if self.queued >= self._capacity:
                self.dropped += 1
                return False
            self._waiting.append(row)
            self.accepted += 1
            return True

    @property
    def queued(self) -> int:
        """Rows that are not on the disk yet."""
        return len(self._waiting) + len(self._taken)

    @property
    def settled(self) -> int:
        """Rows of which it is known what became of them."""
        return self.stored + self.duplicates + self.refused

    @property
    def journal_bytes(self) -> int:
        """Length of the journal that is being written."""
        return self._journal.size if self._journal is not None else 0

    def write(self, room: int) -> None:
        """Bring all that waits to the disk.

        Args:
            room: bytes the journal may still grow by.

        Raises:
            OSError: some rows could not be written; they wait for the next call. The first that
                came are written as far as there is room, to the row.
        """
        with self._lock:
            self._taken.extend(self._waiting)
            self._waiting.clear()
        while self._taken:
            chunk = [self._taken[index] for index in range(min(_CHUNK, len(self._taken)))]
            chunk, took = self._write(chunk, room)
            room -= took
            with self._lock:
                for _ in chunk:
                    self._taken.popleft()

    def roll(self) -> Path | None:
        """Close the journal; its path, or None where there is none."""
        journal, self._journal = self._journal, None
        if journal is None:
            return None
        journal.close()
        return journal.path

    def give_up(self) -> None:
        """Drop what could not be written."""
        with self._lock:
            self.dropped += self.queued
            self._waiting.clear()
            self._taken.clear()

    def _write(self, rows: list[Any], room: int) -> tuple[list[Any], int]:
        """Write rows, or the first of them that there is room for; which, and the bytes taken."""
        fresh: dict[str, Any] = {}
        for row in rows:
            key = self.stream.key_of(row)
            if key not in self.recent:
                fresh.setdefault(key, row)
        batch = self._batch(list(fresh.values()))
        before = self.journal_bytes
        if batch.num_rows:
            begun = self._journal is not None and not self._journal.broken
            needed = frame_bytes(batch) + (0 if begun else head_bytes(self.stream.schema))
            if needed > room:
                if len(rows) > 1:
                    return self._write(rows[: len(rows) // 2], room)
                raise OSError(errno.ENOSPC, FULL)
            before = before if begun else 0
            self._opened().append(batch)
        self.recent.add(fresh)
        self.stored += batch.num_rows
        self.refused += len(fresh) - batch.num_rows
        self.duplicates += len(rows) - len(fresh)
        return rows, self.journal_bytes - before

    def _batch(self, rows: list[Any]) -> pa.RecordBatch:
        """Without the rows of which none can be made: one must not stop the others."""
        try:
            return to_batch(self.stream, rows, self._observed)
        except (TypeError, ValueError, OverflowError, AttributeError):
            if len(rows) == 1:
                return to_batch(self.stream, [])
        parts = [self._batch([row]) for row in rows]
        sound = [part for part in parts if part.num_rows]
        return pa.concat_batches(sound) if sound else to_batch(self.stream, [])

    def _opened(self) -> Journal:
        if self._journal is not None and self._journal.broken:
            self.roll()
        if self._journal is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._number += 1
            name = f"{self._writer}-{self._number:06d}{SUFFIX}"
            self._journal = Journal(self._folder / name, self.stream.schema)
        return self._journal
