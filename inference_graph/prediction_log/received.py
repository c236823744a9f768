"""Whether a journal from elsewhere may become a part of the log.

It comes from a machine that is not trusted: how far it inflates, how many rows it has and how
many hours they fall in are bounded before anything is made of it, and each row must be one that
this log could have written. Columns are looked at as a whole, for a million short rows must not
keep a gateway from its frames.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foundation.errors import InvalidInput
from inference_graph.contract import GEARS, LADDER
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import (
    JournalDamaged,
    inflated_bytes,
    is_of_version_1,
    read_journal,
)
from inference_graph.prediction_log.row import FALLBACKS, SOURCES

ROWS_LIMIT = 200_000
"""Rows of one journal; a device closes its own at 4 MB, some thousand rows."""
HOURS_LIMIT = 200
"""Hours that its rows fall in; each becomes a file. A device closes its journal once a day."""
INFLATED_LIMIT = 256 * 1024 * 1024
"""Bytes that its payloads inflate to together."""
_KEY_LENGTH = 200
_AT_ONCE = 1024
_HOUR_US = 3_600_000_000
_FIRST, _LAST = (
    int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000 for year in (1970, 2200)
)
"""Times of rows. A device without a network may have a wrong clock; its rows count all the same."""
_WORDS: dict[str, Collection[str]] = {
    "source": SOURCES,
    "rung": ("", *LADDER),
    "answered_by": ("", *GEARS),
    "fallback": FALLBACKS,
}


def check_received(
    path: Path, name: str, is_own: Callable[[str], bool] = lambda event_id: False
) -> int:
    """Rows of a journal from elsewhere, each of which can be published and read.

    Args:
        path: the file.
        name: how the sender calls it, for messages.
        is_own: whether an event id is of an answer that was given here, which no device gives.

    Raises:
        InvalidInput: it is no sound journal of answers, is beyond the limits, or has an answer that
            was given here; the message names it.
        OSError: the file cannot be read.
    """
    rows, hours = 0, set[int]()
    try:
        inflated = inflated_bytes(path)
        if inflated > INFLATED_LIMIT:
            raise InvalidInput(
                f"{name} inflates to {inflated} bytes; {INFLATED_LIMIT} are allowed, send less at "
                "once"
            )
        for batch in read_journal(path):
            _check_schema(batch.schema, name)
            batch.validate(full=True)
            rows += batch.num_rows
            if rows > ROWS_LIMIT:
                raise InvalidInput(f"{name} has more than the {ROWS_LIMIT} rows allowed")
            hours |= _hours(batch, name)
            if len(hours) > HOURS_LIMIT:
                raise InvalidInput(
                    f"{name} has rows of more than the {HOURS_LIMIT} hours allowed; set the "
                    "device's clock"
                )
            _check_keys(batch, name)
            _check_rows(batch, name)
            # Its row would stand in the log in place of the answer's own.
            if any(map(is_own, batch.column(PREDICTIONS.key).to_pylist())):
                raise InvalidInput(f"{name} has an answer that this gateway gave itself")
    except JournalDamaged as error:
        # An older device sends a journal as it lies there, also one whose writer was killed; then
        # its rows are published, and the rest is kept and reported, as of a local journal.
        if not rows or not is_of_version_1(path):
            raise InvalidInput(
                f"{name} is no sound journal of answers ({str(error).replace(str(path), name)})"
            ) from error
    except (pa.ArrowException, OSError, OverflowError, ValueError, KeyError) as error:
        if isinstance(error, InvalidInput) or (isinstance(error, OSError) and error.errno):
            raise  # the disk's; Arrow raises OSError for an invalid message, too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise InvalidInput(f"{name} is no sound journal of answers ({reason})") from error
    if not rows:
        raise InvalidInput(f"{name} is no journal, or has no row; there is nothing to send")
    return rows


def _check_schema(schema: pa.Schema, name: str) -> None:
    """Columns of this version, or some of them, as an older one wrote them."""
    known = PREDICTIONS.schema
    odd = [
        field.name
        for field in schema
        if field.name not in known.names
        or known.field(field.name).type != field.type
        # Parquet does not write a null into a column that a forged schema declares to have none.
        or known.field(field.name).nullable > field.nullable
    ]
    odd += [needed for needed in (PREDICTIONS.key, "time") if needed not in schema.names]
    if odd or len(set(schema.names)) < len(schema.names):
        raise InvalidInput(
            f"{name} has other columns than the log ({', '.join(odd)[:150]}); bring the gateway "
            "to the device's version"
        )


def _hours(batch: pa.RecordBatch, name: str) -> set[int]:
    """Hours since 1970 that the rows fall in."""
    column = batch.column("time")
    times = _numbers(column, np.int64)
    if column.null_count or not ((times >= _FIRST) & (times < _LAST)).all():
        raise InvalidInput(f"{name} has a row without a time from 1970 to 2199")
    return set(np.unique(times // _HOUR_US).tolist())


def _check_keys(batch: pa.RecordBatch, name: str) -> None:
    """Event ids of 1 to 200 printable ASCII characters without blanks."""
    column = batch.column(PREDICTIONS.key)
    offsets = _offsets(column)
    lengths = np.diff(offsets)
    data = column.buffers()[2]
    text = np.frombuffer(data if data is not None else b"", np.uint8)[offsets[0] : offsets[-1]]
    sound = not column.null_count and bool(((lengths > 0) & (lengths <= _KEY_LENGTH)).all())
    if not sound or not ((text > 0x20) & (text < 0x7F)).all():
        raise InvalidInput(
            f"{name} has an event id that is not 1 to {_KEY_LENGTH} printable ASCII characters "
            "without blanks"
        )


def _check_rows(batch: pa.RecordBatch, name: str) -> None:
    """Rows that do not contradict themselves."""
    there = batch.schema.names
    for column, words in _WORDS.items():
        found = set(_texts(batch.column(column))) if column in there else set()
        odd = sorted(str(text) for text in found - {None, *words})
        if odd:
            raise InvalidInput(f"{name} has a {column} {odd[0][:40]!r}, which is none")
    for prefix in ("", "shadow_"):
        boxes, scores, labels = (
            _lengths(batch, f"{prefix}{kind}") for kind in ("boxes", "scores", "labels")
        )
        if not (np.array_equal(boxes, 4 * scores) and np.array_equal(scores, labels)):
            raise InvalidInput(
                f"{name} has a row whose {prefix}boxes, {prefix}scores and {prefix}labels do not "
                "belong together; each detection has four, one and one"
            )
        texts = f"{prefix}texts"
        if texts in there:
            read = _known(batch.column(texts))
            if not np.array_equal(_lengths(batch, texts)[read], scores[read]):
                raise InvalidInput(f"{name} has a row whose {texts} are not one for each region")
    for column in ("probabilities", "load_ms"):
        if not np.isin(_lengths(batch, column), (0, len(LADDER))).all():
            raise InvalidInput(f"{name} has a row with {column} of other than {len(LADDER)} rungs")
    if "detections" in there:
        column = batch.column("detections")
        counted = _numbers(column, np.int32)[_known(column)]
        if not np.array_equal(counted, _lengths(batch, "scores")[_known(column)]):
            raise InvalidInput(f"{name} has a row that counts other detections than it has")
    if {"image", "image_kept"} <= set(there):
        kept, declared = _known(batch.column("image")), batch.column("image_kept")
        if not all(
            one is None or one == has for one, has in zip(_texts(declared), kept, strict=True)
        ):
            raise InvalidInput(f"{name} has a row that is wrong about having an image")


def _lengths(batch: pa.RecordBatch, name: str) -> npt.NDArray[np.int64]:
    """Length of each list of a column; 0 of none."""
    if name not in batch.schema.names:
        return np.zeros(batch.num_rows, np.int64)
    column = batch.column(name)
    return np.where(_known(column), np.diff(_offsets(column)).astype(np.int64), 0)


def _offsets(column: pa.Array) -> npt.NDArray[np.int32]:
    buffer = column.buffers()[1]
    if buffer is None or not len(column):
        return np.zeros(len(column) + 1, np.int32)
    return np.frombuffer(buffer, np.int32)[column.offset : column.offset + len(column) + 1]


def _numbers(column: pa.Array, dtype: type[np.int64] | type[np.int32]) -> npt.NDArray[np.int64]:
    buffer = column.buffers()[1]
    found = np.frombuffer(buffer if buffer is not None else b"", dtype)
    return found[column.offset : column.offset + len(column)].astype(np.int64)


def _known(column: pa.Array) -> npt.NDArray[np.bool_]:
    """Which values are not null."""
    buffer = column.buffers()[0]
    if buffer is None or not column.null_count:
        return np.ones(len(column), np.bool_)
    bits = np.unpackbits(np.frombuffer(buffer, np.uint8), bitorder="little")
    return bits[column.offset : column.offset + len(column)].astype(np.bool_)


def _texts(column: pa.Array) -> Iterator[str | bool | None]:
    """Values one after the other, a few at a time: answers go on meanwhile."""
    for start in range(0, len(column), _AT_ONCE):
        yield from column.slice(start, _AT_ONCE).to_pylist()
