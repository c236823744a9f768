"""Colours, dashes and markers: the same in every chart, light and dark, safe for the colour-blind.

A rung has one colour, one dash and one marker, so that no chart relies on colour alone. The hues
are Okabe and Ito's; each is lightened or darkened until it stands out from the card it is drawn
on by at least 3:1 (WCAG 2.2, 1.4.11).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

Scheme = Literal["light", "dark"]

RUNG_COLOURS: Mapping[Scheme, Mapping[str, str]] = {
    "light": {"nano": "#2a8cc9", "small": "#c77f00", "large": "#7b2d66", "reuse": "#5d663d"},
    "dark": {"nano": "#56b4e9", "small": "#e69f00", "large": "#d55e9b", "reuse": "#dae5ac"},
}
RUNG_DASHES: Mapping[str, str] = {
    "nano": "dot",
    "small": "dash",
    "large": "solid",
    "reuse": "dashdot",
}
RUNG_MARKERS: Mapping[str, str] = {
    "nano": "circle",
    "small": "square",
    "large": "diamond",
    "reuse": "triangle-up",
}
RUNG_PATTERNS: Mapping[str, str] = {"nano": ".", "small": "/", "large": "", "reuse": "x"}

_MARKED = 6
"""Policies that a figure over time marks, the newest: more would cover it."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"


@dataclass(frozen=True)
class Ink:
    """Colours of one scheme that are no rung's.

    Attributes:
        card: what charts are drawn on.
        text: of labels; at least 4.5:1 on ``card``.
        grid: of lines behind the data.
        accent: of a line that stands for no rung.
        good: of what is well.
        bad: of what is wrong.
        reference: of what was expected.
    """

    card: str
    text: str
    grid: str
    accent: str
    good: str
    bad: str
    reference: str


INKS: Mapping[Scheme, Ink] = {
    "light": Ink("#ffffff", "#374151", "#e5e7eb", "#0b6e4f", "#00785a", "#c2410c", "#4b5563"),
    "dark": Ink("#2e2e2e", "#d1d5db", "#454545", "#3ecf9b", "#2fbf8f", "#ff8a5c", "#b6bcc6"),
}

MANTINE: Mapping[str, Any] = {
    "fontFamily": FONT,
    "headings": {"fontFamily": FONT},
    "primaryColor": "teal",
    "primaryShade": {"light": 9, "dark": 5},
    "defaultRadius": "md",
    "autoContrast": True,
}
"""Mantine's theme: the system's own letters, for no font is fetched."""

GRAPH_CONFIG: Mapping[str, Any] = {
    "displaylogo": False,
    "displayModeBar": False,
    "responsive": True,
}


def scheme_of(given: str | None) -> Scheme:
    """The scheme that the switch reports; light until it has."""
    return "dark" if given == "dark" else "light"


def figure(scheme: Scheme, *, height: int = 260, **layout: Any) -> go.Figure:
    """An empty figure in the dashboard's look.

    Args:
        scheme: light or dark.
        height: in pixels.
        layout: further entries of Plotly's layout; they win.
    """
    made = go.Figure()
    made.update_layout(template=template(scheme), height=height)
    made.update_layout(**layout)
    return made


def mark_deployments(
    drawn: go.Figure, deployments: Sequence[tuple[datetime, str]], scheme: Scheme
) -> str:
    """Draw a line where a policy answered its first frame.

    Args:
        drawn: a figure over time.
        deployments: times, on the clock of the figure, and revisions, oldest first.
        scheme: light or dark.

    Returns:
        The same in words; empty without any.
    """
    ink = INKS[scheme]
    for time, revision in deployments[-_MARKED:]:
        drawn.add_shape(
            type="line",
            x0=time,
            x1=time,
            y0=0,
            y1=1,
            yref="paper",
            line={"color": ink.accent, "width": 1, "dash": "dashdot"},
        )
        drawn.add_annotation(
            x=time,
            y=0,
            yref="paper",
            text=f"policy {revision[:7]}",
            showarrow=False,
            textangle=-90,
            xanchor="right",
            yanchor="bottom",
            font={"size": 10, "color": ink.text},
        )
    summary = ", ".join(f"{revision} at {time:%H:%M:%S}" for time, revision in deployments)
    return f" New policies: {summary}." if summary else ""


def say_empty(drawn: go.Figure, words: str, scheme: Scheme) -> None:
    """Write into a figure without data that there is none; its axes would show made-up ranges."""
    drawn.update_xaxes(visible=False)
    drawn.update_yaxes(visible=False)
    drawn.add_annotation(
        text=words,
        showarrow=False,
        x=0.5,
        y=0.5,
        xref="paper",
        yref="paper",
        font={"size": 13, "color": INKS[scheme].text},
    )


def count_axis(title: str, most: float) -> dict[str, Any]:
    """An axis of counts from 0, with ticks at whole numbers only.

    Args:
        title: what is counted.
        most: the highest count.
    """
    ticks = {"dtick": 1} if most <= 8 else {}
    top = {"range": [0, max(most, 1) * 1.05]} if most <= 1 else {}
    return {
        "title": title,
        "rangemode": "tozero",
        "tickformat": ",d",
        "fixedrange": True,
        **ticks,
        **top,
    }


def template(scheme: Scheme) -> go.layout.Template:
    """Plotly's template of a scheme."""
    ink = INKS[scheme]
    axis = {
        "gridcolor": ink.grid,
        "linecolor": ink.grid,
        "zeroline": False,
        "automargin": True,
        "title": {"font": {"size": 12}},
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": ink.text},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "xaxis": axis,
            "yaxis": axis,
            "colorway": [ink.accent, *RUNG_COLOURS[scheme].values()],
            "legend": {
                "orientation": "h",
                "y": 1.02,
                "yanchor": "bottom",
                "x": 0,
                "traceorder": "normal",
            },
            "hoverlabel": {
                "bgcolor": ink.card,
                "bordercolor": ink.grid,
                "font": {"color": ink.text, "family": FONT},
            },
            "hovermode": "x unified",
            "selectdirection": "h",
        }
    )


def rung_line(rung: str, scheme: Scheme) -> dict[str, Any]:
    """Plotly's line of a rung."""
    return {"color": RUNG_COLOURS[scheme][rung], "dash": RUNG_DASHES[rung], "width": 2}


def lone_marks(values: npt.ArrayLike, symbol: str = "circle") -> dict[str, Any]:
    """Mode and markers of a line that is drawn also where a value has no neighbour.

    A line needs two points; between gaps, a single one would not be seen.

    Args:
        values: of the line, NaN at a gap.
        symbol: of the markers.
    """
    known = np.concatenate([[False], np.isfinite(np.asarray(values, np.float64)), [False]])
    alone = known[1:-1] & ~known[:-2] & ~known[2:]
    return {"mode": "lines+markers", "marker": {"symbol": symbol, "size": np.where(alone, 8, 0)}}
