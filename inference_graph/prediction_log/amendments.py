"""What is added to a row after it was logged: the reference's answer, pixel statistics, the image.

The row itself is written when the answer leaves. What comes later is a frame of its own in the
same journal and is put into the row wherever the journal is read or becomes parts, so everybody
sees one row for each event.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from foundation.errors import InvalidInput
from inference_graph.prediction_log.journal_format import Frame, Kind
from inference_graph.prediction_log.row import SCHEMA, check_sizes

_KEY = "event_id"
_SHADOW = ("boxes", "scores", "labels")
AMENDABLE = (
    "blur",
    "noise",
    "shadow",
    "shadow_ms",
    "shadow_boxes",
    "shadow_scores",
    "shadow_labels",
    "shadow_texts",
    "agreement",
    "observation",
    "image_kept",
    "image",
)
"""Columns that may be filled later."""
AMENDMENT_SCHEMA = pa.schema([SCHEMA.field(name) for name in (_KEY, *AMENDABLE)])


@dataclass(frozen=True)
class Amendment:
    """What is added to one row; a column it does not name stays as it is.

    Attributes:
        event_id: key of the row.
        fields: columns of ``AMENDABLE`` with their values; none only counts this one as done.
    """

    event_id: str
    fields: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Refuse what would make no row.

        Raises:
            InvalidInput: a column that may not be amended, or boxes, scores, labels and texts of
                the shadow of different numbers.
        """
        unknown = self.fields.keys() - set(AMENDABLE)
        if unknown:
            raise InvalidInput(f"a row is not amended in {', '.join(sorted(unknown))}")
        boxes, scores, labels = (self.fields.get(f"shadow_{name}", ()) for name in _SHADOW)
        check_sizes(boxes, scores, labels, self.fields.get("shadow_texts"))

    def __getattr__(self, name: str) -> Any:
        """The value of a column, None where the row keeps its own."""
        if name not in AMENDABLE:
            raise AttributeError(name)
        if name == "image_kept" and "image" in self.fields:
            return True
        return self.fields.get(name)


def amendment_message(batch: pa.RecordBatch) -> pa.Buffer:
    """Amendments with their schema, so that they are read also where another version wrote them."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


class AmendedRows:
    """The amendments of one journal, found by the keys of rows; only places are kept in memory."""

    def __init__(
        self,
        frames: Iterable[Frame],
        again: Callable[[int], Frame | None],
        read: Callable[[pa.Buffer], Iterable[pa.RecordBatch]],
    ) -> None:
        """Note where the amendments are.

        Args:
            frames: of the journal.
            again: reads the frame at a place.
            read: batches of an amendment frame's payload.
        """
        self._again, self._read = again, read
        self._places: dict[str, list[int]] = {}
        for frame in frames:
            if frame.kind == Kind.AMENDMENTS:
                for key in {key for batch in read(frame.payload) for key in _keys(batch)}:
                    self._places.setdefault(key, []).append(frame.at)

    def into(self, batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
        """A batch with what was added to its rows later.

        Args:
            batch: rows with their keys.
            columns: those that are wanted; others need not be filled.
        """
        if not self._places:
            return batch
        wanted = [name for name in AMENDABLE if name in columns and name in batch.schema.names]
        if not wanted:
            return batch
        index = {key: number for number, key in enumerate(_keys(batch)) if key in self._places}
        if not index:
            return batch
        values: dict[str, dict[int, pa.Array]] = {name: {} for name in wanted}
        for at in sorted({at for key in index for at in self._places[key]}):
            frame = self._again(at)
            for added in [] if frame is None else self._read(frame.payload):
                for row, key in enumerate(_keys(added)):
                    if key in index:
                        _collect(values, index[key], added, row)
        columns_ = [
            _filled(batch.column(number), values.get(field.name, {}))
            for number, field in enumerate(batch.schema)
        ]
        return pa.RecordBatch.from_arrays(columns_, schema=batch.schema)


def _collect(
    values: dict[str, dict[int, pa.Array]], number: int, added: pa.RecordBatch, row: int
) -> None:
    for name, known in values.items():
        if name in added.schema.names and added.column(name)[row].is_valid:
            known[number] = added.column(name).slice(row, 1)


def _filled(column: pa.Array, values: Mapping[int, pa.Array]) -> pa.Array:
    """A column with other values in some places.

    Put together of slices: the first of Arrow's compute functions would cost a gateway 40 MB.
    """
    if not values:
        return column
    pieces, start = [], 0
    for number in sorted(values):
        pieces += [column.slice(start, number - start), values[number].cast(column.type)]
        start = number + 1
    return pa.concat_arrays([*pieces, column.slice(start)])


def _keys(batch: pa.RecordBatch) -> list[str]:
    keys: list[str] = batch.column(_KEY).to_pylist()
    return keys
