"""GJSON's array queries ``#(path op value)``, with the comparisons of the Go library.

The rules are those that the library's documentation ("Queries" in its SYNTAX.md) states; where it
is silent, those of the library (v1.18).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

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
_TRUTHS = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


@dataclass(frozen=True)
class GjsonQuery:
    """A query as written.

    Attributes:
        path: where to look in an element; empty for the element itself.
        op: one of ``= != < <= > >= % !%``; empty asks for existence only.
        value: what to compare with, without its quotes.
        all: every element that satisfies it (``#(…)#``), not the first.
        end: the position after its brackets; None where they never close.
    """

    path: str = ""
    op: str = ""
    value: str = ""
    all: bool = False
    end: int | None = None

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
            found, wanted = truth, "true"
        if found is MISSING:
            return False
        if not self.op:
            return True
        if isinstance(found, bool):
            return self._holds_for_truth(found, wanted)
        if isinstance(found, int | float):
            return self._ordered(float(found), _number(wanted))
        if isinstance(found, str):
            if self.op in ("%", "!%"):
                return matches_pattern(found, wanted) == (self.op == "%")
            return self._ordered(found, wanted)
        return False

    def _holds_for_truth(self, found: bool, wanted: str) -> bool:
        if self.op in ("=", "!="):
            return (wanted == ("true" if found else "false")) == (self.op == "=")
        # true is more than false; the library knows no other order of the two.
        if self.op == (">" if found else "<"):
            return wanted == ("false" if found else "true")
        return self.op == (">=" if found else "<=")

    def _ordered(self, found: Any, wanted: Any) -> bool:
        ordering = _ORDERINGS.get(self.op)
        return ordering is not None and ordering(found, wanted)


def parse_query(text: str) -> GjsonQuery:
    """Read the query that a path starts with: ``#(…)`` or ``#[…]``, and a ``#`` behind it."""
    depth, at, compare = 1, 2, 0
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
    if depth:
        return GjsonQuery()
    every = text.startswith("#", at + 1)
    if not compare:
        return GjsonQuery(text[2:at].strip(), all=every, end=at + 1)
    rest = text[compare:at].strip()
    op = next((one for one in _OPERATORS if rest.startswith(one)), rest[:1])
    value = _unquoted(rest[len(op) :].strip())
    op = "=" if op == "==" else op
    return GjsonQuery(text[2:compare].strip(), op, value, every, at + 1)


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


def as_text(value: Any) -> str:
    """A value as the library prints it: null and what is missing as nothing."""
    if value is MISSING or value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def truth_of(value: Any) -> bool | None:
    """The truth value of a truth value, a number or a word for one; None for anything else."""
    if isinstance(value, str):
        return _TRUTHS.get(value.lower())
    return bool(value) if isinstance(value, bool | int | float) else None


def _number(text: str) -> float:
    try:
        return float(text) if text.isascii() else 0.0
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
    return truth_of(found) is (word == "true")
