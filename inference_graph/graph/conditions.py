"""Conditions of a graph: a GJSON path that exists in a document, be its value false or null.

KServe's router evaluates conditions with the Go library ``github.com/tidwall/gjson``; the rules
here are those of its SYNTAX.md and, where that is silent, of the library itself (v1.18).
The syntax is parsed step by step while the document is walked, as there, because a component
means different things in an object and in an array: ``#`` and digits are plain keys in an object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from inference_graph.graph.modifiers import MODIFIERS
from inference_graph.graph.query import (
    MISSING,
    GjsonQuery,
    closing_quote,
    matches_pattern,
    parse_query,
)

_WORDS = {"true": True, "false": False, "null": None, "nan": math.nan, "inf": math.inf}


class Condition:
    """A GJSON path that is looked up in every request.

    Attributes:
        path: as written in the manifest. A path that is no GJSON leads nowhere; KServe's router
            starts with it all the same.
    """

    def __init__(self, path: str) -> None:
        """Keep the path; components are parsed when they are first needed, and cached."""
        self.path = path

    def exists(self, document: Any) -> bool:
        """Whether the path leads somewhere in a parsed JSON document."""
        try:
            return find(document, self.path) is not MISSING
        except RecursionError:  # a path or a document of a thousand levels
            return False


def find(value: Any, path: str) -> Any:
    """The value at a GJSON path, or :data:`MISSING`."""
    while True:
        if len(path) > 1 and path[0] in "@![{":
            computed, rest = _computed(value, path)
            if computed is not None:
                value = computed[0]
                if not rest.startswith((".", "|")):
                    return value
                path = rest[1:]
                continue
            path = rest
        search = _Search()
        if path.startswith(".."):  # JSON lines; a parsed document is one line
            search.in_array([] if value is MISSING else [value], path[2:])
        else:
            search.inside(value, path)
        if search.pipe is None:
            return search.value
        value, path = search.value, search.pipe


class _Search:
    """One walk from a container down to the first hit, or to a pipe.

    Attributes:
        value: what was found so far. It may be set without a hit: ``#(…)#`` yields its list and
            lets a wildcard before it go on, as the Go library does.
        pipe: the path after a pipe, to be looked up in ``value``; None without one.
    """

    def __init__(self) -> None:
        self.value: Any = MISSING
        self.pipe: str | None = None

    def inside(self, value: Any, path: str) -> bool:
        """Look into a value; scalars hold nothing. Returns whether there was a hit."""
        if isinstance(value, dict):
            return self._in_object(value, path)
        return isinstance(value, list) and self.in_array(value, path)

    def in_array(self, items: Sequence[Any], path: str) -> bool:
        """Look into the elements of an array."""
        part = _array_part(path)
        if part.rest is None and part.pipe is not None:
            self.pipe = part.pipe
        if part.query is not None:
            return self._in_query(items, part, part.query)
        if part.text == "#":
            if part.rest is None:
                return self._hit(len(items))
            every = self._until_pipe(part.rest)
            found = (find(item, every) for item in items)
            return self._hit([one for one in found if one is not MISSING])
        index = int(part.text) if part.text.isascii() and part.text.isdigit() else -1
        return 0 <= index < len(items) and self._step(items[index], part.rest)

    def _in_object(self, members: dict[str, Any], path: str) -> bool:
        part = _object_part(path)
        if part.rest is None and part.pipe is not None:
            self.pipe = part.pipe
        if not part.wild:
            return part.text in members and self._step(members[part.text], part.rest)
        return any(
            self._step(value, part.rest)
            for key, value in members.items()
            if matches_pattern(key, part.text)
        )

    def _in_query(self, items: Sequence[Any], part: _Part, query: GjsonQuery) -> bool:
        chosen = (item for item in items if _satisfies(item, query))
        if query.all:
            matching = list(chosen)
            if part.rest is not None and matching:
                path = self._until_pipe(part.rest)
                matching = [
                    one for one in (find(item, path) for item in matching) if one is not MISSING
                ]
            if self.value is MISSING:
                self.value = matching
            return False
        for item in chosen:
            rest = None if part.rest is None else self._until_pipe(part.rest)
            return self._hit(item if rest is None else find(item, rest))
        return False

    def _step(self, value: Any, rest: str | None) -> bool:
        return self._hit(value) if rest is None else self.inside(value, rest)

    def _hit(self, value: Any) -> bool:
        self.value = value
        return True

    def _until_pipe(self, path: str) -> str:
        left, pipe = _split_at_pipe(path)
        if pipe is not None:
            self.pipe = pipe
        return left


class _Part(NamedTuple):
    """The first component of a path.

    Attributes:
        text: the key, pattern or index, without escapes.
        rest: the path below it; None where the path ends or a pipe follows.
        pipe: the path after the pipe; None without one.
        wild: ``text`` is a pattern.
        query: the array query it is.
    """

    text: str
    rest: str | None = None
    pipe: str | None = None
    wild: bool = False
    query: GjsonQuery | None = None


@lru_cache(maxsize=1024)
def _object_part(path: str) -> _Part:
    text: list[str] = []
    wild, at = False, 0
    while at < len(path):
        sign = path[at]
        if sign in ".|":
            return _ended("".join(text), path, at, wild=wild)
        if sign == "\\":
            at += 1
            text.append(path[at : at + 1])
        else:
            wild = wild or sign in "*?"
            text.append(sign)
        at += 1
    return _Part("".join(text), wild=wild)


@lru_cache(maxsize=1024)
def _array_part(path: str) -> _Part:
    query, at = None, 0
    if path.startswith(("#(", "#[")):
        query = parse_query(path)
        if query.end is None:  # it never closes: the library takes it for ``#()``
            return _Part(path, query=query)
        at = query.end
    while at < len(path) and path[at] not in ".|":
        at += 1
    # A modifier or a multipath behind ``#`` is for each element, behind an index for the element.
    return _ended(path[:at], path, at, query=query, piped="#" not in path[:at])


def _ended(
    text: str,
    path: str,
    end: int,
    *,
    wild: bool = False,
    query: GjsonQuery | None = None,
    piped: bool = True,
) -> _Part:
    """The component that ends before ``path[end]``: at a dot, at a pipe, or with the path."""
    if end >= len(path):
        return _Part(text, wild=wild, query=query)
    rest = path[end + 1 :]
    if path[end] == "|" or (piped and _is_computed(rest)):
        return _Part(text, pipe=rest, wild=wild, query=query)
    return _Part(text, rest=rest, wild=wild, query=query)


def _is_computed(path: str) -> bool:
    """Whether a path starts with a modifier or a multipath, which a dot pipes to."""
    if not path.startswith("@"):
        return path.startswith(("[", "{"))
    end = next((at for at, sign in enumerate(path) if sign in ".|:"), len(path))
    return path[1:end] in MODIFIERS


@lru_cache(maxsize=1024)
def _split_at_pipe(path: str) -> tuple[str, str | None]:
    """Cut a path at its first pipe outside queries."""
    if path.startswith("{"):
        end = _squashed(path)
        return (path[:end], path[end + 1 :]) if path[end : end + 1] == "|" else (path, None)
    at = 0
    while at < len(path):
        if path[at] == "|":
            return path[:at], path[at + 1 :]
        if path[at] == "\\":
            at += 1
        elif path.startswith((".#(", ".#["), at):
            at = _balanced(path, at + 2)
        at += 1
    return path, None


def _balanced(path: str, start: int) -> int:
    """The position of the bracket that closes the one at ``start``; the end without one."""
    opening, closing = path[start], {"(": ")", "[": "]"}[path[start]]
    at, depth = start + 1, 1
    while at < len(path):
        if path[at] == "\\":
            at += 1
        elif path[at] == '"':
            at = closing_quote(path, at)
        elif path[at] == opening:
            depth += 1
        elif path[at] == closing:
            depth -= 1
            if not depth:
                break
        at += 1
    return at


def _squashed(text: str, depth: int = 0) -> int:
    """The position behind the brackets that ``text`` starts with, whatever kinds they are."""
    at = 0
    while at < len(text):
        sign = text[at]
        if sign == '"':
            at = closing_quote(text, at)
            if not depth:
                return at + 1
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return len(text)


def _satisfies(item: Any, query: GjsonQuery) -> bool:
    if isinstance(item, dict | list):
        return query.holds(find(item, query.path))
    return not query.path and query.holds(item)


def _computed(value: Any, path: str) -> tuple[tuple[Any] | None, str]:
    """What a modifier, a literal or a multipath at the start of a path gives, and what follows.

    None where it is none of them; then what follows is the path to look up in the value.
    """
    if path[0] == "@":
        return _modified(value, path)
    if path[0] == "!":
        return _literal(path)
    parts, rest = _multipath(path)
    if parts is None or not rest.startswith((".", "|")) and rest:
        return None, rest
    found = [(name, one) for name, sub in parts if (one := find(value, sub)) is not MISSING]
    if path[0] == "[":
        return ([one for _, one in found],), rest
    return (dict(reversed(found)),), rest  # the library finds the first of equal names


@lru_cache(maxsize=256)
def _multipath(path: str) -> tuple[Sequence[tuple[str, str]] | None, str]:
    """The names and paths of ``{name:path,…}`` or ``[path,…]``, and what follows.

    One that never closes has no parts, and nothing follows it.
    """
    parts: list[tuple[str, str]] = []
    at, start, depth, colon, modifier = 1, 1, 1, 0, False

    def push() -> None:
        nonlocal start, colon, modifier
        sub = path[colon + 1 if colon else start : at]
        parts.append((_member_name(path[start:colon] if colon else "", sub), sub))
        start, colon, modifier = at + 1, 0, False

    while at < len(path):
        sign = path[at]
        if sign == "\\":
            at += 1
        elif sign == "@" and path[at - 1] in ".|":
            modifier = True
        elif sign == ":" and depth == 1 and not modifier and not colon:
            colon = at
        elif sign == "," and depth == 1:
            push()
        elif sign == '"':
            at = closing_quote(path, at)
        elif sign in "[({":
            depth += 1
        elif sign in "])}":
            depth -= 1
            if not depth:
                push()
                return parts, path[at + 1 :]
        at += 1
    return None, ""


def _member_name(name: str, path: str) -> str:
    """The name of a member of a ``{…}`` multipath, which may be left out."""
    if name:
        try:
            return str(json.loads(name)) if name.startswith('"') else name
        except ValueError:
            return name
    ends = [
        at for at, sign in enumerate(path) if sign in "|." and not (at and path[at - 1] == "\\")
    ]
    last = path[ends[-1] + 1 :] if ends else path
    return "_" if set(last) & set("[]{}()#|!") or any(sign < " " for sign in last) else last


def _modified(value: Any, path: str) -> tuple[tuple[Any] | None, str]:
    end = next((at for at, sign in enumerate(path) if sign in ":|."), len(path))
    modifier = MODIFIERS.get(path[1:end])
    if modifier is None:
        return None, path
    rest, argument = path[end:], ""
    if rest.startswith(":"):
        rest = rest[1:]
        end = _argument_end(rest)
        argument, rest = rest[:end], rest[end:]
    return (modifier(value, argument, find),), rest


def _argument_end(text: str) -> int:
    if text.startswith(("{", "[", '"')):
        return _squashed(text)
    at = 0
    while at < len(text) and text[at] != "|":
        at += _squashed(text[at:]) if text[at] in '{["(' else 1
    return at


def _literal(path: str) -> tuple[tuple[Any] | None, str]:
    """The value of ``!`` and a JSON value, and what follows."""
    name = path[1:]
    if name[0] in '{["+-0123456789':
        # The library balances brackets from behind the first sign, whatever it is.
        end = 1 + _squashed(name[1:], depth=1)
        try:
            return (json.loads(name[:end]),), name[end:]
        except ValueError:
            return (name[:end],), name[end:]
    end = next((at for at, sign in enumerate(name) if sign in "|."), len(name))
    word = name[:end]
    if word.lower() not in ("true", "false", "null", "nan", "inf"):
        return None, path
    return (_WORDS.get(word, MISSING if word[0] in "TF" else 0.0),), name[end:]
