"""How the prediction log is: the newest row's age, and what waits to be published."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from foundation.errors import StorageError
from inference_graph.prediction_log.columns import FEEDBACK, PREDICTIONS
from inference_graph.prediction_log.journal import (
    DAMAGED_SUFFIX,
    REFUSED_SUFFIX,
    SUFFIX,
    JournalDamaged,
    read_journal,
)
from inference_graph.prediction_log.place import Place
from inference_graph.prediction_log.session_files import waiting_sessions

_RECENT = timedelta(days=2)
"""Parts are sought in so many days first; only a log that slept longer is listed whole."""


@dataclass(frozen=True)
class LogHealth:
    """The log's state.

    Attributes:
        newest: time of the newest row; aware, UTC; None for an empty log.
        journals: journals on this machine's disk.
        backlog_bytes: their length.
        damaged: journals that were set aside because they are damaged, or can be no parts.
        sessions: summaries of sessions that are not at the log's place yet.
    """

    newest: datetime | None
    journals: int
    backlog_bytes: int
    damaged: int
    sessions: int


def read_log_health(place: Place, now: datetime | None = None) -> LogHealth:
    """See how a log is; reads footers and journals, no part.

    Args:
        place: the log's.
        now: aware; the present without it.

    Raises:
        StorageError: the log cannot be listed or read.
    """
    now = now or datetime.now(UTC)
    try:
        # Journals first: one that becomes a part meanwhile is then found as a part.
        rows = [time for path in _journals(place, PREDICTIONS.name) for time in _times(path)]
        journals = [
            size
            for stream in (PREDICTIONS, FEEDBACK)
            for path in _journals(place, stream.name)
            for size in _size(path)
        ]
        aside = (DAMAGED_SUFFIX, REFUSED_SUFFIX)
        damaged = sum(1 for suffix in aside for _ in place.journal.glob(f"*/*{suffix}"))
        sessions = len(waiting_sessions(place))
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"the journal {place.journal} cannot be read ({error})") from error
    part = _newest_part(place, now)
    if part is not None:
        rows.append(part)
    return LogHealth(
        newest=max(rows, default=None),
        journals=len(journals),
        backlog_bytes=sum(journals),
        damaged=damaged,
        sessions=sessions,
    )


def _journals(place: Place, stream: str) -> list[Path]:
    return sorted((place.journal / stream).glob(f"*{SUFFIX}"))


def _size(path: Path) -> Iterator[int]:
    """Length of a journal; nothing for one that is a part by now."""
    with contextlib.suppress(FileNotFoundError):
        yield path.stat().st_size


def _times(path: Path) -> Iterator[datetime]:
    """The newest time of each batch of a journal."""
    try:
        for batch in read_journal(path, ["time"]):
            if batch.num_rows:
                yield max(batch.column(0).to_pylist())
    except (FileNotFoundError, JournalDamaged):
        return  # published meanwhile; or damaged, and what stands before counts


def _newest_part(place: Place, now: datetime) -> datetime | None:
    parts = list(place.parts(PREDICTIONS.name, now - _RECENT)) or list(
        place.parts(PREDICTIONS.name)
    )
    if not parts:
        return None
    # Hours are folders: the newest row stands in a part of the newest hour.
    hour = parts[-1].rpartition("/")[0]
    return max(
        (time for path in parts if path.startswith(f"{hour}/") for time in _span(place, path)),
        default=None,
    )


def _span(place: Place, path: str) -> Iterator[datetime]:
    """The newest time of each row group, from the footer."""
    try:
        with place.opened(path) as stream:
            footer = pq.ParquetFile(stream).metadata
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{path} of the log at {place.name} cannot be read ({error}); restore or remove it"
        ) from error
    for group in map(footer.row_group, range(footer.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema == "time" and column.is_stats_set:
                yield column.statistics.max
