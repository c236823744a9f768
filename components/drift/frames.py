"""Frames as drift looks at them: answers of the prediction log, or of a reference.

A reference has the log's columns under their names, so both come from a table the same way, with
``embedding`` in place of the whole ``observation``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.drift.embedding import EMBEDDING
from components.drift.minutes import INPUTS_ONLY
from feature_transformer.frame_statistics import STATISTICS
from inference_graph.contract import LADDER
from inference_graph.prediction_log.agreement import AGREEMENT_SCORE

_Value = TypeVar("_Value", str, float)

COLUMNS = (
    "time",
    "session",
    "client",
    "policy_revision",
    "latency_weight",
    "answered_by",
    *STATISTICS,
    "scores",
    "labels",
    "agreement",
    "observation",
)
"""Columns of the log that are read."""


@dataclass(frozen=True, eq=False)
class Frames:
    """N answered frames, stream after stream, in order of time within each.

    Attributes:
        stream: int64 [N], number of the stream a frame belongs to: a session, or where there is
            none the client's single images.
        time: float64 [N], seconds since 1970; the frame's number in a reference.
        statistics: float64 [N, 4], the figures of STATISTICS; NaN where not measured.
        embedding: float32 [N, 68]; NaN where the observation was not kept.
        objects: float64 [N], detections with a score of 0.25 at least.
        confidence: float64 [N], their mean score; NaN without any.
        classes: uint8 [N, C], how many of them there are by label.
        rung: int64 [N], who answered, as index into the ladder; -1 where no rung was asked, as for
            frames of a topic of minutes.
        agreement: float64 [N], with the shadow; NaN where it has not looked. 1 for large.
        held_out: bool [N], whether the policy has not learned from the frame.
        policy_revision: of the policy that answered most of them.
        latency_weight: the operating point of most of them; NaN where none is known.
    """

    stream: NDArray[np.int64]
    time: NDArray[np.float64]
    statistics: NDArray[np.float64]
    embedding: NDArray[np.float32]
    objects: NDArray[np.float64]
    confidence: NDArray[np.float64]
    classes: NDArray[np.uint8]
    rung: NDArray[np.int64]
    agreement: NDArray[np.float64]
    held_out: NDArray[np.bool_]
    policy_revision: str = ""
    latency_weight: float = math.nan

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.stream)

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """Position of every frame in its stream, int64 [N]."""
        starts = np.flatnonzero(np.diff(self.stream, prepend=self.stream[:1] - 1))
        lengths = np.diff(np.append(starts, len(self)))
        return np.arange(len(self)) - np.repeat(starts, lengths)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Whether a rung answered, bool [N]."""
        return self.rung >= 0

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Frames:
        """Some of the frames; streams keep their numbers and their order."""
        return replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})


_OF_THE_WHOLE = ("policy_revision", "latency_weight")
_ARRAYS = tuple(field.name for field in fields(Frames) if field.name not in _OF_THE_WHOLE)


def frames_of(tables: Sequence[pa.Table]) -> Frames:
    """Make frames of rows of the log, or of a reference; rows without an answer are left out.

    Args:
        tables: with columns of COLUMNS, ``embedding`` in place of ``observation``, and in a
            reference ``held_out``; another one that is not there counts as not measured.
    """
    parts = [_Part.of(table) for table in tables if len(table)]
    names = sorted({name for part in parts for name in part.streams})
    numbers = {name: number for number, name in enumerate(names)}
    classes = max((part.classes.shape[1] for part in parts), default=1)
    stream = _joined([[numbers[name] for name in part.streams] for part in parts], np.int64)
    time = _joined([part.time for part in parts], np.float64)
    order = np.lexsort((time, stream))
    scores = [
        np.pad(part.classes, ((0, 0), (0, classes - part.classes.shape[1]))) for part in parts
    ]
    found = Frames(
        stream=stream,
        time=time,
        statistics=_joined([part.statistics for part in parts], np.float64, len(STATISTICS)),
        embedding=_joined([part.embedding for part in parts], np.float32, EMBEDDING),
        objects=_joined([part.objects for part in parts], np.float64),
        confidence=_joined([part.confidence for part in parts], np.float64),
        classes=_joined(scores, np.uint8, classes),
        rung=_joined([part.rung for part in parts], np.int64),
        agreement=_joined([part.agreement for part in parts], np.float64),
        held_out=_joined([part.held_out for part in parts], np.bool_),
        policy_revision=_most_frequent([name for part in parts for name in part.policies], ""),
        latency_weight=_most_frequent([w for part in parts for w in part.weights], math.nan),
    )
    return found.take(order)


@dataclass(frozen=True, eq=False)
class _Part:
    """One table's rows, as the fields of Frames of the same names."""

    streams: list[str]
    time: NDArray[np.float64]
    statistics: NDArray[np.float64]
    embedding: NDArray[np.float32]
    objects: NDArray[np.float64]
    confidence: NDArray[np.float64]
    classes: NDArray[np.uint8]
    rung: NDArray[np.int64]
    agreement: NDArray[np.float64]
    held_out: NDArray[np.bool_]
    policies: list[str]
    weights: list[float]

    @classmethod
    def of(cls, table: pa.Table) -> _Part:
        wanted = pc.is_in(table["answered_by"], value_set=pa.array(LADDER))
        if INPUTS_ONLY in table.schema.names:
            wanted = pc.or_(wanted, table[INPUTS_ONLY])
        table = table.filter(wanted).combine_chunks()
        objects, confidence, classes = _detections(table)
        numbers = {name: number for number, name in enumerate(LADDER)}
        rung = np.array(
            [numbers.get(one, -1) for one in table["answered_by"].to_pylist()], np.int64
        )
        agreement = _floats(table, "agreement")
        agreement[rung == len(LADDER) - 1] = 1.0  # large agrees with itself
        return cls(
            streams=stream_names(table),
            time=_times(table),
            statistics=np.stack([_floats(table, name) for name in STATISTICS], axis=1),
            embedding=_embeddings(table),
            objects=objects,
            confidence=confidence,
            classes=classes,
            rung=rung,
            agreement=agreement,
            held_out=_column(table, "held_out", pa.bool_(), True),
            policies=[name for name in _texts(table, "policy_revision") if name],
            weights=[w for w in _floats(table, "latency_weight").tolist() if w == w],
        )


def _detections(
    table: pa.Table,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
    rows = len(table)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(table["scores"]), 0))
    scores = np.asarray(pc.list_flatten(table["scores"]), np.float64)
    labels = np.asarray(pc.list_flatten(table["labels"]), np.int64)
    owner = np.repeat(np.arange(rows), lengths)
    counted = scores >= AGREEMENT_SCORE
    owner, scores, labels = owner[counted], scores[counted], labels[counted]
    objects = np.bincount(owner, minlength=rows).astype(np.float64)
    total = np.bincount(owner, scores, minlength=rows)
    confidence = np.divide(total, objects, out=np.full(rows, np.nan), where=objects > 0)
    kinds = int(labels.max()) + 1 if len(labels) else 1
    classes = np.bincount(owner * kinds + labels, minlength=rows * kinds).reshape(rows, kinds)
    return objects, confidence, np.minimum(classes, 255).astype(np.uint8)


def _embeddings(table: pa.Table) -> NDArray[np.float32]:
    found = np.full((len(table), EMBEDDING), np.nan, np.float32)
    column = table["embedding"]
    known = np.asarray(pc.fill_null(pc.equal(pc.list_value_length(column), EMBEDDING), False))
    if known.any():
        flat = pc.list_flatten(column.filter(pa.array(known)))
        found[known] = np.asarray(flat, np.float32).reshape(-1, EMBEDDING)
    return found


def stream_names(table: pa.Table) -> list[str]:
    """Which stream each row belongs to: its client's session, or its client's single images."""
    pairs = zip(_texts(table, "session"), _texts(table, "client"), strict=True)
    return [
        f"session {session} of {client}" if session else f"client {client}"
        for session, client in pairs
    ]


def _texts(table: pa.Table, name: str) -> list[str]:
    if name not in table.schema.names:
        return [""] * len(table)
    return [text or "" for text in table[name].to_pylist()]


def _times(table: pa.Table) -> NDArray[np.float64]:
    column = table["time"]
    if pa.types.is_timestamp(column.type):
        return np.asarray(column.cast(pa.int64())).astype(np.float64) / 1e6
    return np.asarray(column.cast(pa.float64()))


def _floats(table: pa.Table, name: str) -> NDArray[np.float64]:
    return _column(table, name, pa.float64(), math.nan)


def _column(table: pa.Table, name: str, kind: pa.DataType, missing: object) -> NDArray:
    if name not in table.schema.names:
        return np.full(len(table), missing)
    # A copy: what Arrow gives may not be written to.
    return pc.fill_null(table[name].cast(kind), missing).to_numpy().copy()


def _joined(parts: Sequence[object], kind: type, width: int = 0) -> NDArray:
    empty: NDArray = np.empty((0, width) if width else 0, kind)
    return np.concatenate([empty, *(np.asarray(part, kind) for part in parts)])


def _most_frequent(values: Sequence[_Value], without: _Value) -> _Value:
    return Counter(values).most_common(1)[0][0] if values else without


def moment(seconds: float) -> datetime:
    """A frame's time; aware."""
    return datetime.fromtimestamp(seconds, UTC)
