"""HTML pages that need nothing from outside: one style, plotly.js once, tables and charts.

Every part is a jinja2 template, which escapes the text that it is given. Parts are ``Markup``: a
plain text in the place of a part is escaped, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup
from plotly.offline import get_plotlyjs

RUNG_COLOURS = {"nano": "#2a8cc9", "small": "#c77f00", "large": "#a8558f"}
"""Safe for the colour-blind (after Okabe and Ito's palette), and at least 3:1 on a light and on a
dark page."""
OURS, MUTED = "#0f9d76", "#7b8794"
"""Colours of the policy, and of what it is compared with; they stand out on both pages too."""

_CLEAR, _GRID = "rgba(0,0,0,0)", "rgba(128,128,128,.28)"

STYLE = """
:root { color-scheme: light dark;
        --ink: #1c2733; --page: #ffffff; --line: #d9e0e6; --ours: #eef4fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #d9dfe5; --page: #1b1f24; --line: #3a424b; --ours: #263340; } }
body { font-family: system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; padding: 0 1rem;
       color: var(--ink); background: var(--page); line-height: 1.45; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: .6rem 0; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line);
         vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; }
tr.ours { background: var(--ours); font-weight: 600; }
code { font-size: .85em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.pictures { display: grid; gap: 1rem;
            grid-template-columns: repeat(auto-fit, minmax(min(17rem, 100%), 1fr)); }
.pictures figure { margin: 0; } .pictures img { width: 100%; height: auto; border-radius: 6px; }
figcaption, .note { font-size: .9em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; } dd { margin: 0; }
dt { font-weight: 600; }
@media (max-width: 40rem) { body { margin: 1rem auto; } dl { grid-template-columns: 1fr; } }
.js-plotly-plot text:not(.heatmap-label *, .hoverlayer *) { fill: var(--ink) !important; }
"""


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title><style>{{ style }}</style>
<script>{{ plotly }}</script></head><body><main><h1>{{ title }}</h1>
{%- for part in parts %}{{ part }}{% endfor %}</main></body></html>
"""
_TABLE = """<table><thead><tr>
{%- for cell in header %}<th scope="col">{{ cell }}</th>{% endfor %}</tr></thead><tbody>
{%- for row in rows %}<tr{% if row[0] == highlighted %} class="ours"{% endif %}>
<th scope="row">{{ row[0] }}</th>
{%- for cell in row[1:] %}<td class="number">{{ cell }}</td>{% endfor %}</tr>
{%- endfor %}</tbody></table>"""


def html(template: str, **values: Any) -> Markup:
    """A part of a page.

    Args:
        template: for jinja2; a constant of the program, never text from elsewhere.
        values: what the template names; all that is not ``Markup`` is escaped.
    """
    return Markup(_template(template).render(values))


def page(title: str, *parts: Markup) -> str:
    """A whole page."""
    plotly, style = Markup(get_plotlyjs()), Markup(STYLE)
    return f"{html(_PAGE, title=title, style=style, plotly=plotly, parts=parts)}\n"


def section(title: str, *parts: Markup) -> Markup:
    """A titled part of a page."""
    return html(
        "<section><h2>{{ title }}</h2>{% for part in parts %}{{ part }}{% endfor %}</section>",
        title=title,
        parts=parts,
    )


def paragraph(text: str | Markup) -> Markup:
    """Text as a paragraph."""
    return html("<p>{{ text }}</p>", text=text)


def chart(figure: go.Figure, name: str) -> Markup:
    """A chart. The name is its id: the same data give the same page, byte for byte."""
    # The page's background and the colour of its words hold in both schemes.
    figure.update_layout(paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR)
    figure.update_xaxes(gridcolor=_GRID, zerolinecolor=_GRID, automargin=True)
    figure.update_yaxes(gridcolor=_GRID, zerolinecolor=_GRID, automargin=True)
    return Markup(
        figure.to_html(
            full_html=False,
            include_plotlyjs=False,
            div_id=name,
            config={"displaylogo": False, "responsive": True},
        )
    )


def table(
    header: Sequence[str], rows: Iterable[Sequence[str]], *, highlighted: str | None = None
) -> Markup:
    """A table whose first column names the row; all others are numbers.

    Args:
        header: column titles.
        rows: cells.
        highlighted: first cell of the row to set off.
    """
    return scrolled(html(_TABLE, header=header, rows=rows, highlighted=highlighted), "Table")


def scrolled(part: Markup, label: str) -> Markup:
    """A part that scrolls sideways by itself where a phone is too narrow for it."""
    return html(
        '<div class="scroll" tabindex="0" role="region" aria-label="{{ label }}">{{ part }}</div>',
        part=part,
        label=label,
    )


@lru_cache(maxsize=64)
def _template(source: str) -> Template:
    return Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
