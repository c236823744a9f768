"""A card with a state: a mark, a word and a colour, and some lines beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

import dash_mantine_components as dmc
from dash import html
from dash.development.base_component import Component

State = Literal["well", "watch", "bad", "unknown"]
_LOOKS: Mapping[State, tuple[str, str]] = {
    "well": ("✓", "teal"),
    "watch": ("!", "yellow"),
    "bad": ("✕", "red"),
    "unknown": ("?", "gray"),
}


def ago(then: datetime | None, now: datetime) -> str:
    """How long ago something was, for people."""
    if then is None:
        return "never"
    seconds = (now - then).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def badge(state: State, word: str) -> Component:
    """A state in one word."""
    mark, colour = _LOOKS[state]
    return dmc.Badge(
        word,
        leftSection=html.Span(mark, **{"aria-hidden": "true"}),
        color=colour,
        variant="light",
        size="lg",
        tt="none",
        # Mantine's yellow on its own tint is hard to read; the mark and the tint suffice.
        c="var(--mantine-color-text)",
    )


def card(title: str, state: State, word: str, lines: Sequence[str]) -> Component:
    """A titled card: the state in one word, and the details."""
    return dmc.Card(
        [
            dmc.Group(
                [dmc.Title(title, order=2, size="h5"), badge(state, word)],
                justify="space-between",
                mb="xs",
            ),
            *(
                dmc.Text(line[:1].upper() + line[1:], size="sm", c="dimmed", className="breaks")
                for line in lines
            ),
        ],
        withBorder=True,
        padding="sm",
        h="100%",
    )
