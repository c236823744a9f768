"""Questions to the ledger: words, filters, an order; each becomes one SQL query on the index."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson
import yaml

from components.experiments.index import Index, stored
from components.experiments.outcome import METRICS, is_metric
from components.experiments.schema import read_yaml
from foundation.errors import ConfigurationError
from foundation.nearest import unknown

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


class ExperimentRow(NamedTuple):
    """An experiment in a list, with its last launch; ten thousand of them are made in 20 ms.

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
class QueryResult:
    """What a question found.

    Attributes:
        rows: in their order; those that were asked for.
        all_words: whether each row holds every word; without such a row, those with any of them.
        total: how many there are, whatever the limit.
    """

    rows: tuple[ExperimentRow, ...]
    all_words: bool = True
    total: int = 0


@dataclass(frozen=True)
class Question:
    """What is asked for.

    Attributes:
        words: full text over intent, parameters and outcome; in any order and inflection.
        where: filters ``FIELD OP VALUE``: a field of ``FIELDS``, an option or a metric, with
            ``= != < <= > >=`` or ``~`` for "contains".
        limit: rows at most.
        offset: rows to leave out before the first.
        sort: a field, an option or a metric to sort by, with ``-`` before it the greatest first;
            who has none comes last. Without it by name, or the best match first.
    """

    words: str = ""
    where: tuple[str, ...] = ()
    limit: int = 1_000_000
    offset: int = 0
    sort: str = ""


def ask(index: Index, question: Question) -> QueryResult:
    """Answer a question.

    Raises:
        ConfigurationError: a filter or what to sort by is not understood; names the nearest name.
        StorageError: the index cannot be read.
    """
    conditions, values = [], []
    defaults = json.loads(index.meta("defaults") or "{}")
    for text in question.where:
        condition, given = _condition(text, defaults)
        conditions.append(condition)
        values += given
    order = _order(question.sort, defaults)
    words = [word for word in re.findall(r"\w+", question.words) if word.lower() not in _EMPTY]
    words = words or re.findall(r"\w+", question.words)
    if not words:
        return _found(index, question, "", conditions, values, order)
    both = " ".join(f'"{word}"' for word in words)
    found = _found(index, question, both, conditions, values, order)
    if found.total or len(words) == 1:
        return found
    some = _found(index, question, both.replace('" "', '" OR "'), conditions, values, order)
    return replace(some, all_words=False)


def _found(
    index: Index,
    question: Question,
    match: str,
    conditions: Sequence[str],
    values: Sequence[Any],
    order: tuple[str, list[Any]],
) -> QueryResult:
    source = "experiments e LEFT JOIN attempts a ON a.attempt = e.attempt"
    by, sorted_by = order
    given = list(values)
    if match:
        source = f"texts CROSS JOIN {source}"
        conditions = ["texts MATCH ?", "e.name = texts.name", *conditions]
        given = [match, *given]
        if not by:  # who types a name means that one
            by, sorted_by = "e.name = ? DESC, texts.rank", [question.words.strip()]
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    rows = index.ask(
        f"SELECT {_COLUMNS} FROM {source}{where} ORDER BY {by + ', ' if by else ''}e.name "
        "LIMIT ? OFFSET ?",
        (*given, *sorted_by, question.limit, question.offset),
    )
    total = question.offset + len(rows)
    if len(rows) == question.limit or (question.offset and not rows):
        total = int(index.ask(f"SELECT count(*) FROM {source}{where}", given)[0][0])
    return QueryResult(tuple(map(_row, rows)), total=total)


def _order(text: str, defaults: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """What to sort by, and the values of its question marks; empty texts come last."""
    if not text:
        return "", []
    name = text.removeprefix("-")
    column, given = _column(name, defaults, "sort by")
    down = " DESC" if text.startswith("-") else ""
    return f"({column}) IS NULL OR ({column}) = '', {column}{down}", given * 3


def _row(one: tuple[Any, ...]) -> ExperimentRow:
    # Most have the same few tags.
    tags = () if one[7] == "[]" else tuple(orjson.loads(one[7]))
    name, parent, author, objective, hypothesis, expected, under, _, error, *rest = one
    state, outcome, reason, figures, ended, attempt, changes = rest
    return ExperimentRow(
        name,
        parent,
        author,
        objective,
        hypothesis,
        expected,
        under,
        tags,
        error,
        state,
        outcome,
        reason,
        orjson.loads(figures),
        ended,
        attempt,
        orjson.loads(changes),
    )


def _condition(text: str, defaults: Mapping[str, Any]) -> tuple[str, list[Any]]:
    read = _FILTER.fullmatch(text)
    if read is None:
        raise ConfigurationError(
            f"the filter {text!r} is not understood; write for example outcome=missed or "
            "refine.learning_rate<=1e-3"
        )
    name, sign, operand = read.groups()
    if name == "tag":
        if sign not in ("=", "~"):
            raise ConfigurationError(f"the filter {text!r} compares words; write tag=WORD")
        return "EXISTS (SELECT 1 FROM json_each(e.tags) WHERE value = ?)", [operand]
    column, given = _column(name, defaults, f"the filter {text!r}:")
    value = operand if name in FIELDS else _typed(operand)
    if name not in FIELDS and name not in defaults and isinstance(value, str):
        raise ConfigurationError(f"the filter {text!r} compares a metric; give a number")
    if sign == "~":
        return f"instr(lower({column}), lower(?)) > 0", [*given, str(operand)]
    return f"{column} {sign} ?", [*given, value]


def _column(name: str, defaults: Mapping[str, Any], where: str) -> tuple[str, list[Any]]:
    """A field, an option of the resolved configuration or a metric as SQL, with its values."""
    if name in FIELDS:
        return FIELDS[name], []
    if name in defaults:
        own = "(SELECT value FROM effective v WHERE v.name = e.name AND v.path = ?)"
        return f"COALESCE({own}, ?)", [name, stored(defaults[name])]
    if is_metric(name):
        return "json_extract(a.figures, ?)", [f'$."{name}"']
    raise ConfigurationError(f"{where} {unknown(name, (*FIELDS, *defaults, *METRICS))}")


def _typed(text: str) -> Any:
    try:
        return stored(read_yaml(text))
    except yaml.YAMLError:
        return text
