"""A JSON object read one element at a time, so that its size does not matter.

An annotation file of a hundred thousand images has half a gigabyte; as Python objects it takes
several. Here only the element that is read is in memory, and a buffer of a few megabytes.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

_CHUNK = 1 << 20
_LARGEST = 64 << 20
"""Characters of one element; a picture's polygons take some hundred thousand at most."""
_NEAR = 1 << 12
"""Characters from the buffer's end within which an error may mean that the rest is missing."""
_SPACE = " \t\n\r"
_AFTER = tuple(f"{_SPACE},:]}}")


class Element(NamedTuple):
    """An element of a list in the object, or a value that is no list.

    Attributes:
        key: the object's key.
        value: the element or value; None stands for a list's beginning.
        text: its JSON text, as it is in the file; empty for a list's beginning.
        place: position in the list; -1 for a list's beginning and for what is no list's.
    """

    key: str
    value: Any
    text: str
    place: int


def elements(file: Path) -> Iterator[Element]:
    """Yield what a JSON object holds: the elements of its lists, other values whole.

    Nothing is yielded of JSON that is no object.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no JSON, or one of its elements is too large.
        RecursionError: an element is nested too deeply.
    """
    with file.open("rb") as stream:
        text = _Text(iter(lambda: stream.read(_CHUNK), b""))
        if not text.comes("{"):
            text.value()
            return
        first = True
        while not text.comes("}"):
            if not first:
                text.take(",")
            first = False
            key, _ = text.value()
            if not isinstance(key, str):
                raise ValueError("an object's key is no text")
            text.take(":")
            if not text.comes("[", consume=False):
                yield Element(key, *text.value(), -1)
                continue
            text.take("[")
            yield Element(key, None, "", -1)
            place = 0
            while not text.comes("]"):
                if place:
                    text.take(",")
                yield Element(key, *text.value(), place)
                place += 1
        if text.next():
            raise ValueError("something follows the object's end")


class _Text:
    """The text of a file, of which a part is in memory."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._ended = False
        if self.next() == "\ufeff":
            self._at += 1

    def next(self) -> str:
        """The next character that is no space; empty at the end. It is not taken."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def comes(self, character: str, consume: bool = True) -> bool:
        """Whether this character comes next; it is taken then."""
        found = self.next() == character
        self._at += found and consume
        return found

    def take(self, character: str) -> None:
        """Take this character; raises ValueError where another one comes."""
        if not self.comes(character):
            raise ValueError(f"{self.next()!r} where {character!r} belongs")

    def value(self) -> tuple[Any, str]:
        """Take a value; returns it and its text."""
        self.next()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
            except json.JSONDecodeError as error:
                # An unclosed text is reported where it begins.
                cut = len(self._text) - error.pos < _NEAR or "Unterminated" in error.msg
                if not cut or not self._more():
                    raise ValueError(error.msg) from None
                continue
            # Of 12.5 the buffer may hold only 12. so far.
            if self._text[end : end + 1] in _AFTER or not self._more():
                text = self._text[self._at : end]
                self._at = end
                return value, text

    def _more(self) -> bool:
        if self._ended:
            return False
        if len(self._text) - self._at > _LARGEST:
            raise ValueError(f"an element has more than {_LARGEST} characters")
        chunk = next(self._chunks, b"")
        self._ended = not chunk
        self._text = self._text[self._at :] + self._decode(chunk, not chunk)
        self._at = 0
        return True
