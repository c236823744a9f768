"""Reading the log: parts and journals together, every row once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foundation.errors import InvalidInput, StorageError
from inference_graph.prediction_log.columns import FEEDBACK, PREDICTIONS, Stream
from inference_graph.prediction_log.journal import SUFFIX, JournalDamaged, read_journal
from inference_graph.prediction_log.place import Place, open_place


def read_log(
    url: str,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
    journal: Path | None = None,
) -> pa.Table:
    """Answers, also those of the last second that are in no part yet.

    Args:
        url: the log's folder or bucket.
        since: from this time on, aware; from the beginning without it.
        until: before this time, aware; to the end without it.
        columns: those wanted, in this order; all of ``SCHEMA`` without it.
        journal: the journal's folder, if it is not the default one. The journal of a bucket can
            be read on the machine of its writer only.

    Returns:
        One record per ``event_id``, by rising time; empty where nothing was logged. A column
        that older parts lack is null there.

    Raises:
        ConfigurationError: no usable url.
        InvalidInput: no such column, or a time without a zone.
        StorageError: the log cannot be read.
    """
    return _read(open_place(url, journal), PREDICTIONS, since, until, columns)


def read_feedback(
    url: str,
    since: datetime | None = None,
    until: datetime | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Feedback, one record per ``feedback_id``; all else as :func:`read_log`."""
    return _read(open_place(url), FEEDBACK, since, until, columns)


def _read(
    place: Place,
    stream: Stream,
    since: datetime | None,
    until: datetime | None,
    columns: Sequence[str] | None,
) -> pa.Table:
    names = list(columns) if columns is not None else stream.schema.names
    unknown = [name for name in names if name not in stream.schema.names]
    if unknown:
        raise InvalidInput(
            f"no column {', '.join(unknown)} in {stream.name}; there are "
            f"{', '.join(stream.schema.names)}"
        )
    for time in (since, until):
        if time is not None and time.utcoffset() is None:
            raise InvalidInput(f"time {time} has no time zone; give an aware one")
    needed = list(dict.fromkeys([stream.key, "time", *names]))
    schema = pa.schema([stream.schema.field(name) for name in needed])
    # Journals first: one that becomes a part meanwhile is then found twice, never missed.
    tables = list(_journal_tables(place, stream, schema))
    tables = [*_part_tables(place, stream, schema, since, until), *tables]
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    if since is not None:
        whole = whole.filter(pc.greater_equal(whole["time"], _scalar(schema, since)))
    if until is not None:
        whole = whole.filter(pc.less(whole["time"], _scalar(schema, until)))
    numbered = pa.table([whole[stream.key], pa.array(range(len(whole)), pa.int64())], ["key", "n"])
    first = numbered.group_by("key").aggregate([("n", "min")])["n_min"]
    whole = whole.take(first)
    order = pc.sort_indices(whole, [("time", "ascending"), (stream.key, "ascending")])
    return whole.take(order).select(names).combine_chunks()


def _journal_tables(place: Place, stream: Stream, schema: pa.Schema) -> Iterator[pa.Table]:
    for path in sorted((place.journal / stream.name).glob(f"*{SUFFIX}")):
        batches: list[pa.RecordBatch] = []
        try:
            for batch in read_journal(path):
                batches.append(batch)  # one by one: those before some damage count
        except FileNotFoundError:
            continue  # a part by now
        except JournalDamaged:
            pass  # its writer reports it; rows before the damage count
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"the journal {path} cannot be read ({error})") from error
        if batches:
            # A journal has a batch for each moment: as one, all that follows is much faster.
            yield _fitted(pa.Table.from_batches(batches).combine_chunks(), schema)


def _part_tables(
    place: Place,
    stream: Stream,
    schema: pa.Schema,
    since: datetime | None,
    until: datetime | None,
) -> Iterator[pa.Table]:
    for path in place.parts(stream.name, since, until):
        try:
            with place.opened(path) as source:
                part = pq.ParquetFile(source)
                there = [name for name in schema.names if name in part.schema_arrow.names]
                table = part.read(columns=there)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(
                f"{path} of the log at {place.name} cannot be read ({error}); restore or remove it"
            ) from error
        yield _fitted(table, schema)


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of a schema; null where an older table lacks one."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _scalar(schema: pa.Schema, time: datetime) -> pa.Scalar:
    return pa.scalar(time, schema.field("time").type)
