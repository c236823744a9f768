"""Conditions of a graph: a GJSON path that exists in a document, be its value false or null.

Plain paths, wildcards, modifiers and multipaths are the ``gjson`` package's; array queries and
what is mapped over an array are evaluated here, for the reason that :mod:`.query` gives. The
package is GPL-3 and an extra of its own, so it is imported when a graph with conditions is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from foundation.errors import ConfigurationError
from inference_graph.graph.query import MISSING, Comparison, closing_quote, parse_query

_Get = Callable[[Any, str], Any]


class Condition:
    """A GJSON path, read once and asked for every request.

    Attributes:
        path: as written in the manifest; an empty one exists nowhere.
    """

    def __init__(self, path: str) -> None:
        """Read a path.

        A path that is no GJSON is none that exists: KServe's router starts with it all the same.

        Raises:
            ConfigurationError: the ``gjson`` package is not installed.
        """
        self.path = path
        get = _package()
        pieces = _pieces(path)
        self._steps = None if not pieces else _compiled(pieces, get)

    def exists(self, document: Any) -> bool:
        """Whether the path leads somewhere in a parsed JSON document."""
        return self._steps is not None and _follow(document, self._steps) is not MISSING


def _package() -> _Get:
    try:
        import gjson
    except ImportError:
        raise ConfigurationError(
            "the graph has conditions, and they need the gjson package: "
            "pip install 'gearshift[graph]'"
        ) from None
    return gjson.get


@dataclass(frozen=True)
class _Piece:
    """One component of a path with the separator before it: '', '.' or '|'."""

    separator: str
    text: str
    query: tuple[str, Comparison] | None = None
    all: bool = False


_Step = Callable[[Any], Any]


def _pieces(path: str) -> list[_Piece] | None:
    """Cut a path at its dots and pipes, but not at those inside brackets; None if it is broken."""
    found: list[_Piece] = []
    at, separator = 0, ""
    while True:
        if path.startswith("#(", at):
            query = parse_query(path, at)
            if query is None:
                return None
            end = query.end
            every = path.startswith("#", end)
            end += every
            comparison = Comparison(query.op, query.value)
            found.append(_Piece(separator, path[at:end], (query.path, comparison), every))
        else:
            end = _plain_end(path, at)
            if end == at:
                return None
            found.append(_Piece(separator, path[at:end]))
        if end >= len(path):
            return found
        if path[end] not in ".|":
            return None
        at, separator = end + 1, path[end]


def _plain_end(path: str, start: int) -> int:
    # Only a modifier, a multipath or a literal may hold dots of its own.
    nests = path[start : start + 1] in ("@", "[", "{", "!")
    at, depth = start, 0
    while at < len(path):
        sign = path[at]
        if sign == "\\":
            at += 1
        elif nests and sign == '"':
            at = closing_quote(path, at)
        elif nests and sign in "[{(":
            depth += 1
        elif nests and sign in ")}]":
            depth -= 1
        elif sign in ".|" and depth <= 0:
            break
        at += 1
    return min(at, len(path))


def _compiled(pieces: list[_Piece], get: _Get) -> list[_Step]:
    steps: list[_Step] = []
    at = 0
    while at < len(pieces):
        piece = pieces[at]
        mapped = at + 1 < len(pieces) and pieces[at + 1].separator == "."
        if piece.all or (piece.text == "#" and mapped):
            # What follows by dots is looked up in every element, up to the next pipe.
            end = at + 1
            while mapped and end < len(pieces) and pieces[end].separator == ".":
                end += 1
            inner = _compiled(pieces[at + 1 : end], get)
            steps.append(_every(_chosen(piece, get), inner))
            at = end
        elif piece.query is not None:
            steps.append(_first(_chosen(piece, get)))
            at += 1
        else:
            end = at + 1
            while end < len(pieces) and _is_plain(pieces, end):
                end += 1
            joined = "".join(one.separator + one.text for one in pieces[at:end])
            steps.append(_plain(joined.removeprefix(piece.separator), get))
            at = end
    return steps


def _is_plain(pieces: list[_Piece], at: int) -> bool:
    maps = pieces[at].text == "#" and at + 1 < len(pieces) and pieces[at + 1].separator == "."
    return pieces[at].query is None and not maps


def _follow(value: Any, steps: list[_Step]) -> Any:
    for step in steps:
        value = step(value)
        if value is MISSING:
            break
    return value


def _plain(path: str, get: _Get) -> _Step:
    def step(value: Any) -> Any:
        try:
            return get(value, path)
        except Exception:
            # Go's lookup never fails: what cannot be evaluated does not exist.
            return MISSING

    return step


def _chosen(piece: _Piece, get: _Get) -> Callable[[Any], bool]:
    """Whether a query takes an element; a bare ``#`` takes all."""
    if piece.query is None:
        return lambda element: True
    path, comparison = piece.query
    pieces = _pieces(path) if path else []
    steps = None if pieces is None else _compiled(pieces, get)

    def chosen(element: Any) -> bool:
        if steps is None:
            return False
        if not steps and isinstance(element, (dict, list)):
            return comparison.holds(MISSING)  # the empty path leads nowhere in a container
        if steps and not isinstance(element, (dict, list)):
            return False
        return comparison.holds(_follow(element, steps))

    return chosen


def _first(chosen: Callable[[Any], bool]) -> _Step:
    def step(value: Any) -> Any:
        if not isinstance(value, list):
            return MISSING
        return next((element for element in value if chosen(element)), MISSING)

    return step


def _every(chosen: Callable[[Any], bool], inner: list[_Step]) -> _Step:
    def step(value: Any) -> Any:
        if not isinstance(value, list):
            return MISSING
        looked_up = (_follow(element, inner) for element in value if chosen(element))
        return [element for element in looked_up if element is not MISSING]

    return step
