"""Questions to the ledger: words, filters, an order; each becomes one SQL query on the index."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import yaml

from components.experiments.index import Index, stored
from components.experiments.nearest import unknown
from components.experiments.outcome import METRICS, Expectation
from components.experiments.schema import Loader
from feature_transformer.errors import ConfigurationError

FIELDS: Mapping[str, str] = {
    "name": "e.name",
    "parent": "e.extends",
    "author": "e.author",
    "objective": "e.objective",
    "hypothesis": "e.hypothesis",
    "tag": "e.tags",
    "under": "e.under",
    "state": "COALESCE(a.state, 'planned')",
    "outcome": "COALESCE(a.verdict, '')",
    "ended": "COALESCE(a.ended, '')",
}
"""What can be filtered by beside options and metrics, and its column."""

_FILTER = re.compile(r"\s*([\w.]+)\s*(>=|<=|!=|=|<|>|~)\s*(.*?)\s*", re.DOTALL)
_SAYS_NOTHING = (
    "a all an and any are as at be by did do every experiment experiments find for from had has "
    "have how in into is it its me of on or out over run runs show that the their them they this "
    "to tried try trying want wanted was were what when where which who whose why with"
)
_EMPTY = frozenset(_SAYS_NOTHING.split())
_COLUMNS = (
    "e.name, e.extends, e.author, e.objective, e.hypothesis, e.expected, e.under, e.tags, e.error, "
    "COALESCE(a.state, CASE WHEN e.expected = '' AND e.under = '' THEN 'no contract' "
    "ELSE 'planned' END), "
    "COALESCE(a.verdict, ''), COALESCE(a.reason, ''), "
    "COALESCE(a.figures, '{}'), COALESCE(a.ended, ''), "
    "COALESCE(a.attempt, ''), e.changes"
)


@dataclass(frozen=True)
class Row:
    """An experiment in a list, with its last launch.

    Attributes:
        name: of it.
        parent: whom it extends; empty for a root.
        author: of its contract.
        objective: of its contract.
        hypothesis: of its contract.
        expected: of its contract.
        under: the experiment whose contract holds for it.
        tags: its words.
        error: what is wrong with its file; empty where nothing is.
        state: of the last launch; "planned" before one, "no contract" where none is possible.
        outcome: met, missed, void, or empty before it was scored.
        reason: the figures that decided, or why it failed.
        figures: metrics of the last launch.
        ended: of the last launch, ISO 8601; empty before.
        attempt: name of the last launch.
        changes: what it sets, by path.
    """

    name: str
    parent: str
    author: str
    objective: str
    hypothesis: str
    expected: str
    under: str
    tags: tuple[str, ...]
    error: str
    state: str
    outcome: str
    reason: str
    figures: Mapping[str, float]
    ended: str
    attempt: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What a question found.

    Attributes:
        rows: in their order.
        all_words: whether each row holds every word; without such a row, those with any of them.
    """

    rows: tuple[Row, ...]
    all_words: bool = True


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes:
        words: full text over intent, parameters and outcome; in any order and inflection.
        where: filters ``FIELD OP VALUE``: a field of ``FIELDS``, an option or a metric, with
            ``= != < <= > >=`` or ``~`` for "contains".
        limit: rows at most.
    """

    words: str = ""
    where: tuple[str, ...] = ()
    limit: int = field(default=1_000_000)


def ask(index: Index, question: Question) -> Found:
    """Answer a question.

    Raises:
        ConfigurationError: a filter is not understood; names the nearest right name.
        StorageError: the index cannot be read.
    """
    conditions, values = [], []
    defaults = json.loads(index.meta("defaults") or "{}")
    for text in question.where:
        condition, given = _condition(text, defaults)
        conditions.append(condition)
        values += given
    words = [word for word in re.findall(r"\w+", question.words) if word.lower() not in _EMPTY]
    if not words:
        if question.words.strip():
            words = re.findall(r"\w+", question.words)
        if not words:
            return Found(_rows(index, "", conditions, values, question.limit))
    for joined in (" ", " OR "):
        match = joined.join(f'"{word}"' for word in words)
        rows = _rows(index, match, conditions, values, question.limit, question.words.strip())
        if rows or len(words) == 1:
            return Found(rows, joined == " ")
    return Found((), False)


def _rows(
    index: Index,
    match: str,
    conditions: Sequence[str],
    values: Sequence[Any],
    limit: int,
    name: str = "",
) -> tuple[Row, ...]:
    source = "experiments e LEFT JOIN attempts a ON a.attempt = e.attempt"
    order = "e.name"
    given = list(values)
    if match:
        source = f"texts CROSS JOIN {source}"
        conditions = ["texts MATCH ?", "e.name = texts.name", *conditions]
        given = [match, *given]
        order = "e.name = ? DESC, texts.rank, e.name"  # who types a name means that one
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    if match:
        given.append(name)
    found = index.ask(
        f"SELECT {_COLUMNS} FROM {source}{where} ORDER BY {order} LIMIT ?", (*given, limit)
    )
    return tuple(_row(one) for one in found)


def _row(one: tuple[Any, ...]) -> Row:
    # Ten thousand of them in a list: most have the same few tags and no figures yet.
    return Row(
        name=one[0],
        parent=one[1],
        author=one[2],
        objective=one[3],
        hypothesis=one[4],
        expected=one[5],
        under=one[6],
        tags=() if one[7] == "[]" else tuple(orjson.loads(one[7])),
        error=one[8],
        state=one[9],
        outcome=one[10],
        reason=one[11],
        figures=orjson.loads(one[12]),
        ended=one[13],
        attempt=one[14],
        changes=orjson.loads(one[15]),
    )


def _condition(text: str, defaults: Mapping[str, Any]) -> tuple[str, list[Any]]:
    read = _FILTER.fullmatch(text)
    if read is None:
        raise ConfigurationError(
            f"the filter {text!r} is not understood; write for example outcome=missed or "
            "refine.learning_rate<=1e-3"
        )
    name, sign, said = read.groups()
    value: Any = said
    if name in FIELDS:
        column, given = FIELDS[name], []
        if name == "tag":
            if sign not in ("=", "~"):
                raise ConfigurationError(f"the filter {text!r} compares words; write tag=WORD")
            return "EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ?)", [said]
    elif name in defaults:
        column = "COALESCE((SELECT value FROM effective v WHERE v.name = e.name AND v.path = ?), ?)"
        given = [name, stored(defaults[name])]
        value = _typed(said)
    elif _is_metric(name):
        column, given = "json_extract(a.figures, ?)", [f'$."{name}"']
        value = _typed(said)
        if isinstance(value, str):
            raise ConfigurationError(f"the filter {text!r} compares a metric; give a number")
    else:
        known = (*FIELDS, *defaults, *METRICS)
        raise ConfigurationError(f"the filter {text!r}: {unknown(name, known)}")
    if sign == "~":
        return f"instr(lower({column}), lower(?)) > 0", [*given, str(said)]
    return f"{column} {sign} ?", [*given, value]


def _typed(text: str) -> Any:
    try:
        return stored(yaml.load(text, Loader))  # noqa: S506  # a SafeLoader
    except (yaml.YAMLError, ValueError):
        return text


def _is_metric(name: str) -> bool:
    try:
        Expectation.read(f"{name} > 0")
    except ConfigurationError:
        return False
    return True
