"""GJSON's modifiers ``@name`` and ``@name:argument``, on parsed values.

Rules: "Modifiers" in the Go library's SYNTAX.md; for values they are not meant for, the library.
One difference is known: the library searches the text that ``@tostr`` makes for brackets, as if it
were JSON; here a text holds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from inference_graph.graph.query import MISSING, as_text, truth_of

Find = Callable[[Any, str], Any]
Modifier = Callable[[Any, str, Find], Any]


def _unchanged(value: Any, argument: str, find: Find) -> Any:
    """Formatting, which a parsed value does not have."""
    return value


def _reverse(value: Any, argument: str, find: Find) -> Any:
    if isinstance(value, dict):
        return dict(reversed(value.items()))
    return value[::-1] if isinstance(value, list) else value


def _flatten(value: Any, argument: str, find: Find) -> Any:
    if not isinstance(value, list):
        return value
    return list(_flat(value, _option(argument, "deep")))


def _flat(items: Iterable[Any], deep: bool) -> Iterable[Any]:
    for item in items:
        if not isinstance(item, list):
            yield item
        elif deep:
            yield from _flat(item, deep)
        else:
            yield from item


def _join(value: Any, argument: str, find: Find) -> Any:
    if not isinstance(value, list):
        return value
    first_counts = _option(argument, "preserve")
    joined: dict[str, Any] = {}
    for item in value:
        if isinstance(item, dict):
            joined = {**joined, **item, **joined} if first_counts else {**joined, **item}
    return joined


def _keys(value: Any, argument: str, find: Find) -> Any:
    if isinstance(value, dict):
        return list(value)
    return [None] * len(_values(value, argument, find))


def _values(value: Any, argument: str, find: Find) -> Any:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, list):
        return value
    return [] if value is MISSING else [value]


def _tostr(value: Any, argument: str, find: Find) -> Any:
    if value is MISSING:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _fromstr(value: Any, argument: str, find: Find) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else json.loads(as_text(value))
    except ValueError:
        return MISSING


def _group(value: Any, argument: str, find: Find) -> Any:
    if not isinstance(value, dict):
        return MISSING
    columns = {key: items for key, items in value.items() if isinstance(items, list)}
    rows = max(map(len, columns.values()), default=0)
    return [
        {key: items[row] for key, items in columns.items() if row < len(items)}
        for row in range(rows)
    ]


def _dig(value: Any, argument: str, find: Find) -> Any:
    found = [] if (here := find(value, argument)) is MISSING else [here]
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            found += _dig(item, argument, find)
    return found


def _option(argument: str, name: str) -> bool:
    try:
        options = json.loads(argument)
    except ValueError:
        return False
    return isinstance(options, dict) and truth_of(options.get(name)) is True


MODIFIERS: Mapping[str, Modifier] = {
    "dig": _dig,
    "flatten": _flatten,
    "fromstr": _fromstr,
    "group": _group,
    "join": _join,
    "keys": _keys,
    "pretty": _unchanged,
    "reverse": _reverse,
    "this": _unchanged,
    "tostr": _tostr,
    "ugly": _unchanged,
    "valid": _unchanged,
    "values": _values,
}
"""By name; each takes the value or :data:`MISSING`, its argument, and how to look up a path."""
