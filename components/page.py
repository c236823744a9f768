"""HTML pages that need nothing from outside: one style, plotly.js once, tables and charts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

RUNG_COLOURS = {"nano": "#56b4e9", "small": "#e69f00", "large": "#8f3b76"}
"""Safe for the colour-blind (after Okabe and Ito's palette)."""

STYLE = """
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: #1c2733; line-height: 1.45; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #d9e0e6;
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.ours { background: #eef4fa; font-weight: 600; }
code { font-size: .85em; overflow-wrap: anywhere; }
"""


def page(title: str, body: str) -> str:
    """A whole page; ``body`` is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style>"
        f"<script>{get_plotlyjs()}</script></head><body><main><h1>{escape(title)}</h1>"
        f"{body}</main></body></html>\n"
    )


def section(title: str, body: str) -> str:
    """A titled part of a page; ``body`` is HTML."""
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def chart(figure: go.Figure, name: str) -> str:
    """A chart as HTML. The name is its id: the same data give the same page, byte for byte."""
    return str(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=name,
            config={"displaylogo": False, "responsive": True},
        )
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, highlighted: str | None = None
) -> str:
    """A table whose first column names the row; all others are numbers.

    Args:
        header: column titles.
        rows: cells as text; they are escaped.
        highlighted: first cell of the row to set off.
    """
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)
    body = "".join(
        f"<tr{' class=ours' if row[0] == highlighted else ''}>"
        f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f'<td class="number">{escape(cell)}</td>' for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
