"""A window of the prediction log, read a few hours at a time so that memory stays bounded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from components.drift.embedding import embed
from components.drift.frames import COLUMNS
from components.drift.minutes import SCHEME, read_minutes
from feature_transformer.observation import FRAME_FEATURES
from foundation.configuration import configuration
from foundation.errors import ConfigurationError, InvalidInput
from foundation.storage import atomic_path
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.row import SCHEMA

_AT_ONCE = 50_000
"""Rows that are read together at least, whole hours of them: an observation has 4 KB."""
_HOUR = 3_600_000_000
_FACTS_FILE = "facts.json"


@configuration
class WindowConfig:
    """Which answers of the log are examined.

    Attributes:
        since: from this time on, ISO 8601 (UTC where it names no zone); overrides `hours`.
        until: before this time; now without it.
        hours: length of the window that ends at `until`; 0 takes the whole log.
        session: of this session only.
        condition: with this tag `condition` only.
    """

    since: str = ""
    until: str = ""
    hours: Annotated[float, Field(ge=0, le=24 * 3660)] = 6.0
    session: str = ""
    condition: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no time, or a window that ends before it begins.

        Raises:
            ConfigurationError: names the value.
        """
        start, end = time_of(self.since, "since"), time_of(self.until, "until")
        if start is not None and end is not None and start >= end:
            raise ConfigurationError(f"since {self.since} is not before until {self.until}")

    def bounds(self, now: datetime) -> tuple[datetime | None, datetime]:
        """First moment of the window (None: as far back as the log goes) and its end."""
        end = time_of(self.until, "until") or now
        start = time_of(self.since, "since")
        if start is None and self.hours:
            start = end - timedelta(hours=self.hours)
        return start, end

    @property
    def only(self) -> Mapping[str, str]:
        """Columns of the log and the value they must have."""
        wanted = {"session": self.session, "condition": self.condition}
        return {name: value for name, value in wanted.items() if value}


@dataclass(frozen=True)
class Rows:
    """Rows of a log, in tables of a few hours, oldest first.

    Attributes:
        tables: columns of COLUMNS, with ``embedding`` in place of ``observation``.
        left_out: older rows of the window that were not read.
    """

    tables: list[pa.Table] = field(default_factory=list)
    left_out: int = 0

    def __len__(self) -> int:
        """Return the number of rows read."""
        return sum(len(table) for table in self.tables)


def read_rows(
    log: str,
    since: datetime | None,
    until: datetime | None,
    most_rows: int,
    only: Mapping[str, str] | None = None,
) -> Rows:
    """Read the newest rows of a window.

    Args:
        log: folder or bucket of the log, or ``kafka://HOST:PORT/TOPIC`` of camera minutes.
        since: first moment; the log's beginning without it.
        until: its end; the log's end without it.
        most_rows: rows that are read at most; 0 for all.
        only: columns and the value they must have.

    Raises:
        InvalidInput: the log holds no answer at all.
        ConfigurationError: no usable url.
        StorageError: the log cannot be read.
    """
    names = list(only or {})
    if log.startswith(SCHEME):
        return _of_topic(log, since, until, most_rows, only or {})
    found = read_log(log, since, until, ["time", *names])
    if not len(found) and not len(read_log(log, None, None, ["time"])):
        raise InvalidInput(
            f"the log at {log} holds no answer; send frames through gearshift up, or give the "
            "folder that its gateway logs to"
        )
    times = np.asarray(_matching(found, only)["time"].cast(pa.int64()))
    left_out = max(len(times) - most_rows, 0) if most_rows else 0
    tables = []
    for start, end in _spans(times[left_out:]):
        table = read_log(log, start, end, [*COLUMNS, *(n for n in names if n not in COLUMNS)])
        tables.append(_compact(_matching(table, only).select(COLUMNS)))
    return Rows(tables, left_out)


def _of_topic(
    url: str,
    since: datetime | None,
    until: datetime | None,
    most_rows: int,
    only: Mapping[str, str],
) -> Rows:
    if "condition" in only:
        raise ConfigurationError("minutes of a topic have no condition; leave it out")
    table = _matching(read_minutes(url, since, until), only)
    left_out = max(len(table) - most_rows, 0) if most_rows else 0
    # What was not asked is empty: the columns are those of a log.
    for name in COLUMNS:
        if name not in table.schema.names:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    return Rows([_compact(table.slice(left_out))] if len(table) else [], left_out)


def save_rows(rows: Rows, folder: Path) -> None:
    """Keep rows for another step, as Parquet files in a folder that appears whole.

    Raises:
        StorageError: it cannot be written.
    """
    with atomic_path(folder) as partial:
        partial.mkdir(parents=True)
        (partial / _FACTS_FILE).write_text(json.dumps({"left_out": rows.left_out}), "utf-8")
        for number, table in enumerate(rows.tables):
            pq.write_table(table, partial / f"{number:06d}.parquet", compression="zstd")


def load_rows(folder: Path) -> Rows:
    """Read what :func:`save_rows` kept.

    Raises:
        InvalidInput: the folder is something else.
    """
    try:
        left_out = int(json.loads((folder / _FACTS_FILE).read_text("utf-8"))["left_out"])
        return Rows([pq.read_table(path) for path in sorted(folder.glob("*.parquet"))], left_out)
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InvalidInput(
            f"{folder} holds no window of a log ({type(error).__name__}); read it again"
        ) from error


def time_of(text: str, name: str) -> datetime | None:
    """A moment from ISO 8601, in UTC where it names no zone; None for an empty text.

    Raises:
        ConfigurationError: it is none.
    """
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"{name} is {text!r}; give a time such as 2026-11-21T07:00 or 2026-11-21"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _matching(table: pa.Table, only: Mapping[str, str] | None) -> pa.Table:
    for name, value in (only or {}).items():
        table = table.filter(pc.fill_null(pc.equal(table[name], value), False))
    return table


def _spans(times: np.ndarray) -> Iterator[tuple[datetime, datetime]]:
    """Cut rising times (microseconds) into spans that end at full hours."""
    start = 0
    while start < len(times):
        end = min(start + _AT_ONCE, len(times))
        if end < len(times):
            boundary = (times[end - 1] // _HOUR + 1) * _HOUR
            end = int(np.searchsorted(times, boundary))
        last = times[end - 1] + 1 if end == len(times) else (times[end - 1] // _HOUR + 1) * _HOUR
        yield _moment(times[start]), _moment(last)
        start = end


def _moment(microseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(microseconds))


def _compact(table: pa.Table) -> pa.Table:
    """Put the embedding in place of the observation: 68 numbers of 1,048."""
    column = table["observation"].combine_chunks()
    known = np.asarray(
        pc.fill_null(pc.greater_equal(pc.list_value_length(column), FRAME_FEATURES), False)
    )
    flat = np.asarray(pc.list_flatten(column.filter(pa.array(known))), np.float32)
    points = embed(flat.reshape(int(known.sum()), -1)) if known.any() else None
    width = 0 if points is None else points.shape[1]
    offsets = np.append(0, np.cumsum(np.where(known, width, 0))).astype(np.int32)
    values = pa.array([] if points is None else points.ravel(), pa.float32())
    lists = pa.ListArray.from_arrays(pa.array(offsets), values)
    place = table.schema.get_field_index("observation")
    return table.set_column(place, "embedding", lists)
