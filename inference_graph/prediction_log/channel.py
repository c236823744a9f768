"""One stream's rows on their way from memory into its journal."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from inference_graph.prediction_log.amendments import Amendment
from inference_graph.prediction_log.columns import AMENDED, Stream, to_batch
from inference_graph.prediction_log.journal import SUFFIX, Journal, frame_bytes, head_bytes
from inference_graph.prediction_log.recent import RecentKeys

FULL = "it has reached its limit"
"""Why nothing is written any more where the disk itself has room."""
_CHUNK = 256
"""Rows of one frame of the journal; converting more at once would hold up the answers."""
_FRAME_BYTES = 16 * 1024 * 1024
"""Bytes of one frame, where it has more than one row."""
_AWAITED = 90.0
"""Seconds that a journal is kept open for what belongs to its rows."""


@dataclass(eq=False)
class _Opened:
    """A journal with the rows that something will be added to, and how often."""

    journal: Journal
    awaited: dict[str, int] = field(default_factory=dict)
    until: float = float("inf")


@dataclass(frozen=True)
class _Item:
    """What waits: a row with the number of its amendments, or an amendment."""

    content: Any
    amendments: int = 0


class Channel:
    """Rows that wait, and the journal they go to.

    Any thread may :meth:`offer` and :meth:`sync`; the rest belongs to the writer's thread.

    Attributes:
        stream: which stream.
        recent: keys that were stored lately.
        accepted: rows taken so far.
        stored: rows that reached the journal.
        duplicates: rows whose key was stored before.
        refused: rows that no batch could be made of.
        dropped: rows that found the queue full, or were left when the log was closed.
        unamended: amendments, likewise.
        offered: rows and amendments taken so far.
        settled: rows and amendments of which it is known what became of them.
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
        self.unamended = self.offered = self.settled = 0
        self._folder = folder / stream.name
        self._writer = writer
        self._capacity = capacity
        self._observed = observed
        self._lock = threading.Lock()
        self._waiting: deque[_Item] = deque()
        self._taken: deque[_Item] = deque()
        self._current: _Opened | None = None
        self._rolled: list[_Opened] = []
        self._ended: deque[Journal] = deque()
        self._number = 0

    def offer(self, content: Any, amendments: int = 0) -> bool:
        """Take a row or an amendment; False where there is no room, which is counted.

        Args:
            content: a row of the stream, or an :class:`Amendment`.
            amendments: how many will follow a row.
        """
        with self._lock:
            if self.queued >= self._capacity:
                self.drop(content)
                return False
            self._waiting.append(_Item(content, amendments))
            self.offered += 1
            self.accepted += not isinstance(content, Amendment)
            return True

    @property
    def queued(self) -> int:
        """Rows and amendments that are not in the journal yet."""
        return len(self._waiting) + len(self._taken)

    @property
    def journal_bytes(self) -> int:
        """Length of the journal that is being written."""
        return self._current.journal.size if self._current is not None else 0

    def write(self, room: int) -> None:
        """Bring all that waits to the journal.

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
                self.settled += len(chunk)

    def roll(self) -> None:
        """Let the journal end, once what belongs to its rows is in it."""
        if self._current is not None:
            self._current.until = time.monotonic() + _AWAITED
            self._rolled.append(self._current)
            self._current = None

    def end_rolled(self, now: bool = False) -> bool:
        """Give up writing rolled journals that wait for nothing more; whether there were any.

        Args:
            now: also those that still wait for something.
        """
        over = [
            one for one in self._rolled if now or not one.awaited or time.monotonic() >= one.until
        ]
        for one in over:
            self._rolled.remove(one)
            self._ended.append(one.journal)
        return bool(over)

    def sync(self) -> int:
        """Bring to the disk itself what was written, and close what has ended.

        Returns:
            How many journals were closed.

        Raises:
            OSError: the disk refuses.
        """
        for one in self._open_journals():
            one.journal.sync()
        closed = 0
        while self._ended:
            with contextlib.suppress(IndexError):  # another thread was faster
                self._ended.popleft().close()
                closed += 1
        return closed

    def drop(self, content: Any) -> None:
        """Count a row or an amendment that is not taken."""
        if isinstance(content, Amendment):
            self.unamended += 1
        else:
            self.dropped += 1

    def give_up(self) -> None:
        """Drop what could not be written."""
        with self._lock:
            for item in (*self._taken, *self._waiting):
                self.drop(item.content)
            self._waiting.clear()
            self._taken.clear()

    def _write(self, items: list[_Item], room: int) -> tuple[list[_Item], int]:
        """Write items, or the first of them that there is room for; which, and the bytes taken."""
        fresh: dict[str, _Item] = {}
        later: list[Amendment] = []
        rows = 0
        for item in items:
            if isinstance(item.content, Amendment):
                if not self._add(fresh, item.content):
                    later.append(item.content)
                continue
            rows += 1
            key = self.stream.key_of(item.content)
            if key not in self.recent:
                fresh.setdefault(key, item)
        batch = _without_unusable(
            self.stream, [item.content for item in fresh.values()], self._observed
        )
        groups = self._amendments(later)
        begun = self._current is not None and not self._current.journal.broken
        frames = [frame_bytes(one) for one in (batch, *(added for _, added in groups))]
        needed = sum(frames) + (0 if begun else head_bytes(self.stream.schema))
        if len(items) > 1 and (needed > room or max(frames) > _FRAME_BYTES):
            return self._write(items[: len(items) // 2], room)
        if needed > room and (batch.num_rows or groups):
            raise OSError(errno.ENOSPC, FULL)
        took = 0
        for opened, added in groups:
            took -= opened.journal.size
            opened.journal.amend(added)
            took += opened.journal.size
        self._came(later)
        if batch.num_rows:
            opened = self._opened()
            took -= opened.journal.size if begun else 0
            opened.journal.append(batch)
            took += opened.journal.size
            opened.awaited |= {key: one.amendments for key, one in fresh.items() if one.amendments}
        self.recent.add(fresh)
        self.stored += batch.num_rows
        self.refused += len(fresh) - batch.num_rows
        self.duplicates += rows - len(fresh)
        return items, took

    def _add(self, fresh: dict[str, _Item], amendment: Amendment) -> bool:
        """Amend a row that is not in the journal yet; whether it is one."""
        item = fresh.get(amendment.event_id)
        if item is None:
            return False
        row = dataclasses.replace(item.content, **amendment.fields)
        fresh[amendment.event_id] = _Item(row, item.amendments - 1)
        return True

    def _amendments(self, later: list[Amendment]) -> list[tuple[_Opened, pa.RecordBatch]]:
        """Amendments with the journal of their rows; of a row that is in none, none are needed."""
        found = []
        for opened in self._open_journals():
            own = [one for one in later if one.fields and one.event_id in opened.awaited]
            if own and not opened.journal.broken:
                found.append((opened, _without_unusable(AMENDED, own)))
        return [(opened, batch) for opened, batch in found if batch.num_rows]

    def _came(self, later: list[Amendment]) -> None:
        for amendment in later:
            for one in self._open_journals():
                left = one.awaited.pop(amendment.event_id, 0) - 1
                if left > 0:
                    one.awaited[amendment.event_id] = left

    def _open_journals(self) -> list[_Opened]:
        return [*self._rolled, *([self._current] if self._current is not None else [])]

    def _opened(self) -> _Opened:
        if self._current is not None and self._current.journal.broken:
            self.roll()
        if self._current is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._number += 1
            name = f"{self._writer}-{self._number:06d}{SUFFIX}"
            self._current = _Opened(Journal(self._folder / name, self.stream.schema))
        return self._current


def _without_unusable(
    stream: Stream, rows: list[Any], observed: Callable[[Any], bool] | None = None
) -> pa.RecordBatch:
    """Without the rows of which none can be made: one must not stop the others."""
    try:
        return to_batch(stream, rows, observed)
    except (TypeError, ValueError, OverflowError, AttributeError):
        if len(rows) == 1:
            return to_batch(stream, [])
    parts = [_without_unusable(stream, [row], observed) for row in rows]
    sound = [part for part in parts if part.num_rows]
    return pa.concat_batches(sound) if sound else to_batch(stream, [])
