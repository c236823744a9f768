"""The few numbers of an answer that figures are made of: about 50 bytes where the log has 1,500.

Names become small integers, milliseconds become the number of a bin: bin ``b`` holds
``0.001 * 1.02^b <= ms < 0.001 * 1.02^(b + 1)``, so a percentile read off the bins is within 1 % of
the exact one.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from inference_graph.contract import GEARS, LADDER
from inference_graph.prediction_log.row import FALLBACKS, SOURCES

UNANSWERED = 255
"""In place of a gear where none answered."""
STAGES = ("decode", "observe", "decide", "queue", "detect", "total")
"""Stages of an answer, in the order a frame goes through them; the whole comes last."""

_LOWEST_MS, _RATIO, _BINS = 0.001, 1.02, 1100
_UNKNOWN_BIN = -1

TEXTS = ("session", "condition", "policy_revision", "source", "rung", "answered_by", "fallback")
"""Columns of few different texts; they are read as a dictionary and indices."""
_NUMBERS = (
    *(f"{stage}_ms" for stage in STAGES),
    "shadow_ms",
    "agreement",
    "dropped_before",
    "detections",
)
READ = ("time", *TEXTS, *_NUMBERS, "image_kept")
"""Columns of the log that are read; ``tags`` too where a part lacks ``condition``."""

TABLE = (
    ("time", "BIGINT"),  # microseconds since 1970, UTC
    ("session", "INTEGER"),
    ("condition", "INTEGER"),
    ("policy", "INTEGER"),
    ("source", "UTINYINT"),
    ("rung", "UTINYINT"),
    ("answered", "UTINYINT"),
    ("fallback", "UTINYINT"),
    *((f"{stage}_bin", "SMALLINT") for stage in STAGES),
    ("busy_ms", "FLOAT"),
    ("shadow_ms", "FLOAT"),
    ("agreement", "FLOAT"),
    ("dropped", "INTEGER"),
    ("detections", "SMALLINT"),
    ("image_kept", "BOOLEAN"),
)
"""Columns kept in memory, with DuckDB's types."""

_CODES = {"source": SOURCES, "rung": LADDER, "answered_by": GEARS, "fallback": FALLBACKS}


class Words:
    """Numbers for names; a name keeps its number. Safe for several threads."""

    def __init__(self) -> None:
        """Start with the empty name, whose number is 0."""
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {"": 0}
        self._names: list[str] = [""]

    def numbers(self, names: Iterable[str]) -> npt.NDArray[np.int32]:
        """Numbers of names, int32 [n]; new names get new ones."""
        with self._lock:
            found = []
            for name in names:
                number = self._numbers.get(name)
                if number is None:
                    number = self._numbers[name] = len(self._names)
                    self._names.append(name)
                found.append(number)
        return np.array(found, np.int32)

    def known(self, names: Iterable[str]) -> list[int]:
        """Numbers of those names that have one."""
        with self._lock:
            return [self._numbers[name] for name in names if name in self._numbers]

    def name(self, number: int) -> str:
        """The name of a number."""
        return self._names[number]


def narrow(table: pa.Table, words: Words) -> pa.Table:
    """The columns of ``TABLE``, made of those of ``READ``.

    Args:
        table: rows of the log; a column that is not there counts as unknown. Texts may be
            dictionary-encoded.
        words: gets the names that occur.

    Returns:
        As many rows, with columns named and typed as in ``TABLE``.
    """
    rows = len(table)
    made: dict[str, npt.NDArray[np.generic] | pa.Array] = {
        "time": np.asarray(table["time"].cast(pa.int64())),
        "session": _named(_text(table, "session"), words),
        "condition": _named(_condition(table), words),
        "policy": _named(_text(table, "policy_revision"), words),
    }
    for column, name in (
        ("source", "source"),
        ("rung", "rung"),
        ("answered", "answered_by"),
        ("fallback", "fallback"),
    ):
        made[column] = _coded(_text(table, name), _CODES[name])
    numbers = {name: _floats(table, name) for name in _NUMBERS}
    for stage in STAGES:
        made[f"{stage}_bin"] = bins(numbers[f"{stage}_ms"])
    # Answers of the graph know no stages; what is not known is not counted as nothing.
    busy = numbers["detect_ms"] + sum(
        np.nan_to_num(numbers[f"{stage}_ms"]) for stage in ("observe", "decide")
    )
    for column, values in (
        ("busy_ms", busy),
        ("shadow_ms", numbers["shadow_ms"]),
        ("agreement", numbers["agreement"]),
    ):
        made[column] = pa.array(values.astype(np.float32), mask=np.isnan(values))
    made["dropped"] = np.nan_to_num(numbers["dropped_before"]).astype(np.int32)
    made["detections"] = np.minimum(np.nan_to_num(numbers["detections"]), 32_000).astype(np.int16)
    made["image_kept"] = (
        pc.fill_null(table["image_kept"], False)
        if "image_kept" in table.schema.names
        else np.zeros(rows, np.bool_)
    )
    return pa.table([made[name] for name, _ in TABLE], names=[name for name, _ in TABLE])


def bins(milliseconds: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Bins of milliseconds, int16 [n]; -1 where the time is not known (NaN)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        places = np.log(milliseconds.astype(np.float32) / np.float32(_LOWEST_MS))
        places /= np.float32(math.log(_RATIO))
        found = np.clip(np.floor(places), 0, _BINS - 1)
    return np.where(np.isnan(milliseconds), _UNKNOWN_BIN, np.nan_to_num(found)).astype(np.int16)


def bin_ms(number: int | npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """The middle (geometric mean of both ends) of bins, milliseconds."""
    return np.asarray(_LOWEST_MS * _RATIO ** (np.asarray(number) + 0.5))


def bin_ms_sql(column: str) -> str:
    """``bin_ms`` of a column in SQL; 0 where the time is not known."""
    return f"CASE WHEN {column} >= 0 THEN {_LOWEST_MS} * pow({_RATIO}, {column} + 0.5) ELSE 0 END"


def bin_range(low_ms: float, high_ms: float) -> tuple[int, int]:
    """First and last bin whose middle lies between two times, both included."""
    scale = math.log(_RATIO)
    first = math.ceil(math.log(max(low_ms, _LOWEST_MS) / _LOWEST_MS) / scale - 0.5)
    last = math.floor(math.log(max(high_ms, _LOWEST_MS) / _LOWEST_MS) / scale - 0.5)
    return max(first, 0), min(last, _BINS - 1)


def _text(table: pa.Table, name: str) -> pa.DictionaryArray:
    """A column of texts as dictionary and indices; nulls where the table lacks it."""
    if name not in table.schema.names:
        return pa.nulls(len(table), pa.string()).dictionary_encode()
    column = table[name]
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    return column.unify_dictionaries().combine_chunks()


def _condition(table: pa.Table) -> pa.DictionaryArray:
    """The column, or in parts from before there was one the tag of that name."""
    if "condition" in table.schema.names or "tags" not in table.schema.names:
        return _text(table, "condition")
    found = [dict(tags or ()).get("condition", "") for tags in table["tags"].to_pylist()]
    return pa.array(found, pa.string()).dictionary_encode()


def _named(column: pa.DictionaryArray, words: Words) -> npt.NDArray[np.generic]:
    numbers = words.numbers(name or "" for name in column.dictionary.to_pylist())
    return _taken(column, numbers, 0)


def _coded(column: pa.DictionaryArray, known: tuple[str, ...]) -> npt.NDArray[np.generic]:
    numbers = [
        known.index(name) if name in known else UNANSWERED for name in column.dictionary.to_pylist()
    ]
    return _taken(column, np.array(numbers, np.uint8), UNANSWERED)


def _taken(
    column: pa.DictionaryArray, numbers: npt.NDArray[np.generic], missing: int
) -> npt.NDArray[np.generic]:
    """Numbers of the dictionary's entries, row by row."""
    places = np.asarray(pc.fill_null(column.indices, -1))
    whole = np.append(numbers, np.array([missing], numbers.dtype))
    return np.asarray(whole[places])


def _floats(table: pa.Table, name: str) -> npt.NDArray[np.float64]:
    """float64 [n], NaN where null."""
    if name not in table.schema.names:
        return np.full(len(table), np.nan)
    column = table[name].cast(pa.float64())
    return np.asarray(pc.fill_null(column, math.nan))
