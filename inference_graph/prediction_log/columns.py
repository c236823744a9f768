"""Rows as Arrow record batches.

The arrays are laid out by hand, buffer by buffer: ``pyarrow.array`` imports pandas wherever it is
installed, which would stop a gateway for a second at its first answer, and cost it 60 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from inference_graph.prediction_log.amendments import AMENDMENT_SCHEMA, Amendment
from inference_graph.prediction_log.feedback_row import FEEDBACK_SCHEMA, Feedback
from inference_graph.prediction_log.row import SCHEMA, TIME, PredictionRow

_DTYPES = {
    pa.int32(): np.int32,
    pa.int64(): np.int64,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
    TIME: np.int64,
}
DETECTION_COLUMNS = (
    "boxes",
    "scores",
    "labels",
    "shadow",
    "shadow_boxes",
    "shadow_scores",
    "shadow_labels",
)
"""The answer's detections, and those of the shadow."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Stream:
    """One of the log's two streams of rows.

    Attributes:
        name: its folder in the log.
        schema: its columns; the key comes first.
        key: the column no two rows share.
        of: what its rows are made from.
        key_of: the key of a row.
    """

    name: str
    schema: pa.Schema
    key: str
    of: type
    key_of: Callable[[Any], str]


PREDICTIONS = Stream("predictions", SCHEMA, "event_id", PredictionRow, lambda row: row.event_id)
FEEDBACK = Stream("feedback", FEEDBACK_SCHEMA, "feedback_id", Feedback, lambda row: row.feedback_id)
STREAMS = (PREDICTIONS, FEEDBACK)
AMENDED = Stream(
    "amendments", AMENDMENT_SCHEMA, "event_id", Amendment, lambda amendment: amendment.event_id
)
"""What is added to rows later; it is no stream of the log, for readers see it in the rows."""


def to_batch(
    stream: Stream, rows: Sequence[Any], observed: Callable[[Any], bool] | None = None
) -> pa.RecordBatch:
    """Rows as one record batch of the stream's schema.

    Args:
        stream: which stream.
        rows: PredictionRow or Feedback, in the order they shall have.
        observed: of which rows to keep the observation; of all without it.

    Returns:
        One record per row; NaN and None become null.

    Raises:
        TypeError, ValueError, OverflowError, AttributeError: a field of a row is not what its
            type states.
    """
    arrays = []
    for field in stream.schema:
        values = [getattr(row, field.name) for row in rows]
        if observed is not None and field.name == "observation":
            pairs = zip(values, rows, strict=True)
            values = [value if observed(row) else None for value, row in pairs]
        arrays.append(_column(field.type, values))
    return pa.RecordBatch.from_arrays(arrays, schema=stream.schema)


def _column(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    if pa.types.is_string(kind):
        # A lone surrogate is no UTF-8; a client's text must not stop the log.
        return _texts(kind, [value.encode("utf-8", "replace") for value in values])
    if pa.types.is_binary(kind):
        return _texts(kind, values)
    if pa.types.is_list(kind):
        return _lists(kind, values)
    if pa.types.is_map(kind):
        return _maps(kind, values)
    if pa.types.is_boolean(kind):
        known = [value is not None for value in values]
        return pa.Array.from_buffers(kind, len(values), [_validity(known), _bits(values)])
    if pa.types.is_timestamp(kind):
        values = [(value - _EPOCH) // _MICROSECOND for value in values]
    return _numbers(kind, values)


def _numbers(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """NaN and None become null, with 0 beneath."""
    known = [value is not None and value == value for value in values]
    filled = [value if there else 0 for value, there in zip(values, known, strict=True)]
    data = np.array(filled, np.int64 if pa.types.is_integer(kind) else _DTYPES[kind])
    narrow = data.astype(_DTYPES[kind])
    if not np.array_equal(narrow, data):
        raise OverflowError(f"a number does not fit {kind}")
    return pa.Array.from_buffers(kind, len(values), [_validity(known), pa.py_buffer(narrow)])


def _texts(kind: pa.DataType, values: Sequence[bytes | None]) -> pa.Array:
    """Text as UTF-8, or bytes; None is null."""
    known = [value is not None for value in values]
    filled = [value or b"" for value in values]
    offsets = _offsets([len(value) for value in filled])
    data = pa.py_buffer(b"".join(filled))
    return pa.Array.from_buffers(kind, len(filled), [_validity(known), offsets, data])


def _lists(kind: pa.DataType, values: Sequence[Any]) -> pa.Array:
    """Any nesting of numbers is flattened; None is null."""
    known = [value is not None for value in values]
    if pa.types.is_string(kind.value_type):
        inner = _column(kind.value_type, [text for value in values for text in value or ()])
        offsets = _offsets([len(value or ()) for value in values])
        buffers = [_validity(known), offsets]
        return pa.Array.from_buffers(kind, len(values), buffers, children=[inner])
    dtype = _DTYPES[kind.value_type]
    flat = [np.asarray(() if value is None else value, dtype).ravel() for value in values]
    items = np.concatenate(flat) if flat else np.empty(0, dtype)
    inner = pa.Array.from_buffers(kind.value_type, len(items), [None, pa.py_buffer(items)])
    offsets = _offsets([len(part) for part in flat])
    return pa.Array.from_buffers(kind, len(flat), [_validity(known), offsets], children=[inner])


def _maps(kind: pa.DataType, values: Sequence[Mapping[str, str]]) -> pa.Array:
    keys = _column(kind.key_type, [key for value in values for key in value])
    texts = _column(kind.item_type, [text for value in values for text in value.values()])
    entries = pa.Array.from_buffers(
        pa.struct([kind.key_field, kind.item_field]), len(keys), [None], children=[keys, texts]
    )
    offsets = _offsets([len(value) for value in values])
    return pa.Array.from_buffers(kind, len(values), [None, offsets], children=[entries])


def _offsets(lengths: Sequence[int]) -> pa.Buffer:
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


def _validity(known: Sequence[bool]) -> pa.Buffer | None:
    return None if all(known) else _bits(known)


def _bits(values: Sequence[bool | None]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(np.array(values, np.bool_), bitorder="little"))
