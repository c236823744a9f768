"""GJSON's array queries ``#(path op value)``, with the comparisons of the Go library.

They are evaluated here because the ``gjson`` package of Python (1.2.0) differs from the Go library,
which KServe's router uses, just where conditions live: it takes the path of a query for one key,
so ``#(route.model=="nano")`` never matches; it refuses a value without quotes such as
``#(country==IN)``; and to it ``true`` equals 1. The rules below are those that the Go library's
documentation ("Queries" in its SYNTAX.md) states; where it is silent, tests of them say so.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MISSING: Final = object()
"""What stands for a value that does not exist; null exists."""

_OPERATORS = ("!=", "!%", "<=", ">=", "==", "<", ">", "=", "%")
_ORDERINGS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


class QueryText(NamedTuple):
    """A query as written.

    Attributes:
        path: where to look in an element; empty for the element itself.
        op: one of ``= != < <= > >= % !%``; empty asks for existence only.
        value: what to compare with, without its quotes.
        end: the position after the closing parenthesis.
    """

    path: str
    op: str
    value: str
    end: int


def parse_query(text: str, start: int) -> QueryText | None:
    """Read the query that starts at ``text[start:]`` with ``#(``; None when it never closes."""
    depth, at, compare = 1, start + 2, 0
    while at < len(text):
        sign = text[at]
        if depth == 1 and not compare and sign in "!=<>%":
            compare = at
        elif sign == "\\":
            at += 1
        elif sign in "[(":
            depth += 1
        elif sign in "])":
            depth -= 1
            if depth == 0:
                break
        elif sign == '"':
            at = closing_quote(text, at)
        at += 1
    if depth or at >= len(text):
        return None
    if not compare:
        return QueryText(text[start + 2 : at].strip(), "", "", at + 1)
    rest = text[compare:at].strip()
    op = next((one for one in _OPERATORS if rest.startswith(one)), rest[:1])
    value = _unquoted(rest[len(op) :].strip())
    return QueryText(text[start + 2 : compare].strip(), "=" if op == "==" else op, value, at + 1)


def closing_quote(text: str, start: int) -> int:
    """The position of the quote that closes the one at ``start``; the end without one."""
    at = start + 1
    while at < len(text) and text[at] != '"':
        at += 2 if text[at] == "\\" else 1
    return at


def _unquoted(value: str) -> str:
    if len(value) < 2 or value[0] != '"' or value[-1] != '"':
        return value
    try:
        return str(json.loads(value, strict=False))
    except ValueError:
        return value[1:-1]


@dataclass(frozen=True)
class Comparison:
    """The right half of a query: an operator and the text it compares with."""

    op: str
    value: str

    def holds(self, found: Any) -> bool:
        """Whether a value, or :data:`MISSING`, satisfies it.

        Null, objects and arrays satisfy no comparison; a truth value compares with the words
        true and false, a number with a number, a text with the text.
        """
        wanted = self.value
        if wanted.startswith("~"):
            truth = _likeness(wanted[1:], found)
            if truth is None:
                return False
            return Comparison(self.op, "true").holds(truth)
        if found is MISSING:
            return False
        if not self.op:
            return True
        if isinstance(found, bool):
            return self._holds_for_truth(found)
        if isinstance(found, (int, float)):
            return self._ordered(float(found), _number(wanted))
        if isinstance(found, str):
            if self.op in ("%", "!%"):
                return matches_pattern(found, wanted) == (self.op == "%")
            return self._ordered(found, wanted)
        return False

    def _holds_for_truth(self, found: bool) -> bool:
        if self.op in ("=", "!="):
            return (self.value == ("true" if found else "false")) == (self.op == "=")
        # true is more than false; the library knows no other order of the two.
        if self.op == (">" if found else "<"):
            return self.value == ("false" if found else "true")
        return self.op == (">=" if found else "<=")

    def _ordered(self, found: Any, wanted: Any) -> bool:
        ordering = _ORDERINGS.get(self.op)
        return ordering is not None and ordering(found, wanted)


def matches_pattern(text: str, pattern: str) -> bool:
    r"""Whether all of a text fits a pattern: ``*`` is any text, ``?`` any sign, ``\`` takes one.

    It takes steps in proportion to both lengths at most: the text comes from a request.
    """
    at = seen = 0
    star, mark = -1, 0
    while at < len(text):
        step = 2 if pattern[seen : seen + 1] == "\\" and seen + 1 < len(pattern) else 1
        sign = pattern[seen + step - 1 : seen + step]
        if step == 1 and sign == "*":
            star, mark, seen = seen, at, seen + 1
        elif sign and (sign == text[at] or (step == 1 and sign == "?")):
            at, seen = at + 1, seen + step
        elif star >= 0:
            mark += 1
            at, seen = mark, star + 1
        else:
            return False
    return not pattern[seen:].strip("*")


def _number(text: str) -> float:
    try:
        return 0.0 if "_" in text else float(text)
    except ValueError:
        return 0.0  # as Go's parser leaves it


def _likeness(word: str, found: Any) -> bool | None:
    """Whether a value is like ``true``, ``false``, ``null`` or anything (``*``)."""
    if word == "*":
        return found is not MISSING
    if word == "null":
        return found is MISSING or found is None
    if word not in ("true", "false"):
        return None
    if found is MISSING or found is None:
        return word == "false"
    if isinstance(found, str):
        truth = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}
        return truth.get(found.lower()) is (word == "true")
    if isinstance(found, (bool, int, float)):
        return bool(found) is (word == "true")
    return False
