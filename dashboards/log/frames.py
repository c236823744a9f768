"""Single frames of the log with all that was logged of them, found by their time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import StorageError
from inference_graph.contract import Detections
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import SUFFIX, JournalDamaged, read_journal
from inference_graph.prediction_log.place import Place
from inference_graph.prediction_log.row import SCHEMA

STAGE_COLUMNS = ("decode_ms", "observe_ms", "decide_ms", "queue_ms", "detect_ms", "total_ms")
LISTED = (
    "event_id",
    "time",
    "session",
    "condition",
    "tags",
    "frame_id",
    "rung",
    "answered_by",
    "fallback",
    "probabilities",
    *STAGE_COLUMNS,
    "width",
    "height",
    "detections",
    "agreement",
    "dropped_before",
    "policy_revision",
    "image_kept",
    "error",
)
"""Columns of a list of frames: none of them is large."""


@dataclass(frozen=True)
class LoggedFrame:
    """A row of the log.

    Attributes:
        values: the row, by column.
    """

    values: Mapping[str, Any]

    @property
    def event_id(self) -> str:
        """The row's key."""
        return str(self.values["event_id"])

    @property
    def time(self) -> datetime:
        """When it was answered; aware, UTC."""
        time: datetime = self.values["time"]
        return time

    @property
    def key(self) -> str:
        """Names the frame in an address: its time in microseconds, then its event id."""
        return f"{_microseconds(self.time)}-{self.event_id}"

    @property
    def condition(self) -> str:
        """The column, or in rows from before there was one the tag of that name; else empty."""
        stored = self.values.get("condition")
        return (
            dict(self.values.get("tags") or ()).get("condition", "") if stored is None else stored
        )

    @property
    def probabilities(self) -> tuple[float, ...]:
        """One per rung, or none."""
        return tuple(self.values.get("probabilities") or ())

    @property
    def seen(self) -> Detections:
        """What the answering rung saw, in pixels of the frame."""
        return _detections(self.values, "")

    @property
    def shadow_seen(self) -> Detections:
        """What large saw beside it."""
        return _detections(self.values, "shadow_")

    @property
    def image(self) -> bytes | None:
        """The frame as JPEG, where it was kept."""
        return self.values.get("image")

    @property
    def observation(self) -> npt.NDArray[np.float32] | None:
        """What the policy saw, float32 [OBSERVATION_SIZE], where it was kept."""
        values = self.values.get("observation")
        if values is None or len(values) != OBSERVATION_SIZE:
            return None
        return np.array(values, np.float32)

    def milliseconds(self, stage: str) -> float:
        """Time of a stage; NaN where it is not known."""
        value = self.values.get(f"{stage}_ms")
        return math.nan if value is None else float(value)


def read_frames(
    place: Place, times: Sequence[datetime], columns: Sequence[str] | None = None
) -> list[LoggedFrame]:
    """Rows with one of these times, newest first.

    Args:
        place: the log.
        times: of the rows, to the microsecond; several rows may share one.
        columns: those wanted; all without it.

    Raises:
        StorageError: the log cannot be read.
    """
    if not times:
        return []
    names = list(columns) if columns is not None else SCHEMA.names
    wanted = pa.array([_microseconds(time) for time in sorted(set(times))], pa.int64())
    found: dict[str, dict[str, Any]] = {}
    for table in (*_from_journals(place, wanted, names), *_from_parts(place, wanted, names)):
        for row in table.to_pylist():
            found.setdefault(row["event_id"], row)
    frames = [LoggedFrame(row) for row in found.values()]
    return sorted(frames, key=lambda frame: (frame.time, frame.event_id), reverse=True)


def read_frame(place: Place, key: str) -> LoggedFrame | None:
    """The frame of a :attr:`LoggedFrame.key`; None where there is none.

    Raises:
        StorageError: the log cannot be read.
    """
    head, _, event_id = key.partition("-")
    if not head.isdigit() or not event_id or len(head) > 17:
        return None
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(head))
    frames = read_frames(place, [time])
    return next((frame for frame in frames if frame.event_id == event_id), None)


def _from_journals(place: Place, wanted: pa.Array, names: list[str]) -> Iterator[pa.Table]:
    for path in sorted((place.journal / PREDICTIONS.name).glob(f"*{SUFFIX}")):
        batches: list[pa.RecordBatch] = []
        try:
            for batch in read_journal(path):
                batches.append(batch)  # one by one: those around some damage count
        except (FileNotFoundError, JournalDamaged):
            pass  # a part by now, or damaged
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"the journal {path} cannot be read ({error})") from error
        if batches:
            table = _chosen(pa.Table.from_batches(batches).combine_chunks(), wanted, names)
            if len(table):
                yield table


def _from_parts(place: Place, wanted: pa.Array, names: list[str]) -> Iterator[pa.Table]:
    times = wanted.to_pylist()
    for path in _paths(place, times):
        try:
            with place.opened(path) as source:
                part = pq.ParquetFile(source)
                groups = [
                    group
                    for group in range(part.metadata.num_row_groups)
                    if _touches(part.metadata.row_group(group), times)
                ]
                if groups:
                    there = [name for name in names if name in part.schema_arrow.names]
                    table = part.read_row_groups(groups, columns=[*dict.fromkeys(["time", *there])])
                    yield _chosen(table, wanted, names)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{path} of the log at {place.name} cannot be read ({error}); restore or remove it"
            ) from error


def _paths(place: Place, times: Sequence[int]) -> list[str]:
    """Parts of the hours that these times fall in."""
    hours = sorted({time // _HOUR_US for time in times})
    paths: dict[str, None] = {}
    for hour in hours:
        start = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        for path in place.parts(PREDICTIONS.name, start, start + timedelta(hours=1)):
            paths[path] = None
    return list(paths)


def _touches(group: pq.RowGroupMetaData, times: Sequence[int]) -> bool:
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema == "time":
            known = column.statistics
            if known is None or not known.has_min_max:
                return True
            low, high = _microseconds(known.min), _microseconds(known.max)
            return any(low <= time <= high for time in times)
    return True


def _chosen(table: pa.Table, wanted: pa.Array, names: list[str]) -> pa.Table:
    kept = pc.is_in(table["time"].cast(pa.int64()), value_set=wanted)
    table = table.filter(kept)
    columns = {
        name: table[name] if name in table.schema.names else pa.nulls(len(table))
        for name in dict.fromkeys(["event_id", "time", *names])
    }
    return pa.table(columns)


def _detections(values: Mapping[str, Any], prefix: str) -> Detections:
    boxes = np.array(values.get(f"{prefix}boxes") or (), np.float32).reshape(-1, 4)
    scores = np.array(values.get(f"{prefix}scores") or (), np.float32)
    labels = np.array(values.get(f"{prefix}labels") or (), np.int32)
    texts = values.get(f"{prefix}texts")
    return Detections(boxes, scores, labels, None if texts is None else tuple(texts))


_HOUR_US = 3_600_000_000


def _microseconds(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
