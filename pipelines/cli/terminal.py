r"""What a terminal is shown: text as it is, and nothing that the terminal would obey.

File names, comments and tags come from other people. A control character among them moves the
cursor, hides lines or sets the clipboard, so it is shown as an escape: ``\x1b`` for ESC.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from foundation.errors import GearshiftError

_CONTROL = re.compile(
    "["
    "\x00-\x08\x0b-\x1f"  # C0 without tab and line feed
    "\x80-\x9f"  # C1
    "\u202a-\u202e\u2066-\u2069"  # turns the order in which text is shown
    "\ud800-\udfff"  # bytes of a file name that are no UTF-8
    "]"
)


def escaped(text: str) -> str:
    """Text whose control characters are written as escapes."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


_UNLIMITED = 100_000
"""Columns of a file or a pipe: its lines are cut or wrapped by whoever reads them."""


class PlainConsole(Console):
    """A console of rich's that styles text, and escapes what a terminal would obey in it.

    Lines end where they end unless they go to a terminal, or ``COLUMNS`` is set.
    """

    def __init__(self, **options: Any) -> None:
        """Make one with rich's options."""
        super().__init__(**options)
        if not self.is_terminal and not os.environ.get("COLUMNS"):
            self.width = _UNLIMITED

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Segments of a renderable, their text escaped."""
        for segment in super().render(renderable, options):
            if segment.control is None:
                segment = Segment(escaped(segment.text), segment.style)
            yield segment

    @property
    def file(self) -> IO[str]:
        """The stream itself: escapes that rich writes are meant."""
        stream = super().file
        return stream.stream if isinstance(stream, _PlainOutput) else stream

    @file.setter
    def file(self, new: IO[str]) -> None:
        Console.file.fset(self, new)  # type: ignore[attr-defined]  # a property has it


class _PlainOutput:
    """A stream that escapes what is printed to it."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(escaped(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def plain_output() -> Iterator[None]:
    """Escape what the block prints; at the end all of it is out, or an error states why not.

    Raises:
        OSError: standard output cannot be written: its disk is full, or its reader has gone.
    """
    if isinstance(sys.stdout, _PlainOutput):
        yield
        return
    with contextlib.redirect_stdout(_PlainOutput(sys.stdout)):
        try:
            yield
        except GearshiftError:
            raise  # which matters more than what was printed before
        except BaseException:
            sys.stdout.flush()
            raise
        sys.stdout.flush()


def give_up_output() -> None:
    """Drop what could not be printed; Python would try once more at its end, with a traceback."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
