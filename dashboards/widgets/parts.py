"""What pages are made of: headings, figures, charts with words, and cards for what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import dash_mantine_components as dmc
from dash import Output, dcc, html, set_props
from dash.development.base_component import Component

from dashboards.widgets.theme import GRAPH_CONFIG
from inference_graph.contract import REFERENCE

SCHEME = "scheme"
"""Id of the switch between light and dark; its ``computedColorScheme`` is an input of figures."""
NOTICE = "notice"
"""Id of the place above the page where errors are shown."""
QUERY = "query"
AUTOMATIC_LOG = "in-use"
"""Value of a log picker for the log that the configuration chooses."""
AGREEMENT_HINT = (
    "F1 of the answers with large's detections taken for the truth (of texts, how alike the two "
    "are, as 1 − normalised edit distance); frames that large answered count as 1. It needs no "
    "labels; accuracy retained, on the page Policies, does."
)
"""What the agreement is, on every page that shows it."""
_BLANK = {
    "layout": {
        "height": 260,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"visible": False},
        "yaxis": {"visible": False},
    }
}
"""Before the first figure: nothing, in either scheme, as high as what comes."""


def read_query(search: str | None) -> dict[str, str]:
    """The query string of an address as a mapping; of a name that comes twice the last counts."""
    return dict(parse_qsl((search or "").removeprefix("?")))


def query_store(page: str, query: Mapping[str, str] | None = None) -> Component:
    """The store from which the shell writes the page's address; see ``pages``.

    Args:
        page: name of the page, which is its path without the slash; ``live`` for the first.
        query: what the address holds already.
    """
    return dcc.Store(id=query_id(page), data=dict(query or {}))


def query_id(page: str) -> dict[str, str]:
    """Id of a page's query store."""
    return {"type": QUERY, "page": page}


def log_picker(name: str, logs: Sequence[str], chosen: str | None) -> Component:
    """A field to choose a prediction log.

    Args:
        name: id of the field.
        logs: names of all logs.
        chosen: value in the address; ``AUTOMATIC_LOG`` for a name that is none.
    """
    return dmc.Select(
        id=name,
        data=[{"value": AUTOMATIC_LOG, "label": "Log in use"}, *logs],
        value=chosen if chosen in logs else AUTOMATIC_LOG,
        allowDeselect=False,
        checkIconPosition="right",
        size="sm",
        w=190,
        **{"aria-label": "Prediction log"},
    )


def page_title(title: str, text: str, *beside: Component) -> Component:
    """The page's heading, one sentence on it, and what stands at its right."""
    return dmc.Group(
        [
            html.Div([dmc.Title(title, order=1, size="h2"), dmc.Text(text, c="dimmed", size="sm")]),
            dmc.Group(list(beside), gap="sm"),
        ],
        justify="space-between",
        align="flex-end",
        mb="md",
    )


def stat(name: str, label: str, hint: str = "") -> Component:
    """A figure with its label; fill ``<name>`` with the figure and ``<name>-note`` with words.

    Args:
        name: id of the figure.
        label: what it is.
        hint: how it is computed; read to screen readers.
    """
    return dmc.Card(
        [
            dmc.Text(label, size="sm", c="dimmed", id=f"{name}-label"),
            html.Div("–", id=name, className="figure", **{"aria-labelledby": f"{name}-label"}),
            dmc.Text("", size="xs", c="dimmed", id=f"{name}-note"),
            *([dmc.VisuallyHidden(hint)] if hint else []),
        ],
        withBorder=True,
        padding="sm",
    )


def chart(name: str, title: str, hint: str = "", *beside: Component, **graph: Any) -> Component:
    """A chart in a card; fill ``<name>`` with the figure and ``<name>-words`` with what it shows.

    The words are read to screen readers in place of the picture.

    Args:
        name: id of the graph.
        title: heading of the card.
        hint: one sentence below the heading.
        beside: what stands at the right of the heading.
        graph: further properties of ``dcc.Graph``.
    """
    return dmc.Card(
        [
            dmc.Group(
                [
                    html.Div(
                        [
                            dmc.Title(title, order=2, size="h5", id=f"{name}-title"),
                            *(
                                [dmc.Text(hint, size="xs", c="dimmed", id=f"{name}-hint")]
                                if hint
                                else []
                            ),
                        ]
                    ),
                    dmc.Group(list(beside), gap="xs"),
                ],
                justify="space-between",
                align="flex-start",
            ),
            html.Div(
                [
                    dcc.Graph(id=name, config=dict(GRAPH_CONFIG), **({"figure": _BLANK} | graph)),
                    dmc.VisuallyHidden(id=f"{name}-words"),
                ],
                role="figure",
                **{"aria-labelledby": f"{name}-title", "aria-describedby": f"{name}-words"},
            ),
        ],
        withBorder=True,
        padding="sm",
        h="100%",
    )


_SHAPES = {"nano": "●", "small": "■", "large": "◆", "reuse": "▲"}


def rung_badge(rung: str) -> Component:
    """A rung's name with its colour and its marker."""
    return dmc.Badge(
        f"{_SHAPES.get(rung, '')} {rung or 'unanswered'}",
        className=f"rung rung-{rung or 'unanswered'}",
        variant="default",
        tt="none",
    )


def titled_card(title: str, body: Component, **options: Any) -> Component:
    """A card with a heading; options are further properties of Mantine's card."""
    heading = dmc.Title(title, order=2, size="h5", mb="xs")
    return dmc.Card([heading, body], withBorder=True, padding="sm", **options)


def not_compared(compared: int, unlike_large: int) -> list[Component]:
    """Why there is no agreement, and what brings it; nothing where frames were compared.

    Args:
        compared: frames that large looked at beside the rung that answered.
        unlike_large: frames that another rung answered.
    """
    if compared or not unlike_large:
        return []
    frames = (
        "The one frame was not" if unlike_large == 1 else f"None of {unlike_large:,} frames was"
    )
    return [
        dmc.Text(
            f"{frames} compared with {REFERENCE}, so agreement with {REFERENCE} is not known. "
            f"{REFERENCE.capitalize()} looks at a sampled share of the frames, 5 % unless "
            "gearshift up --shadow-share gives another, and at none while frames wait for their "
            "turn: on a busy machine, send fewer frames per second.",
            size="sm",
        )
    ]


def error_card(error: BaseException) -> Component:
    """A failure in words: what is wrong and what to do."""
    return dmc.Alert(
        dmc.Text(str(error), style={"overflowWrap": "anywhere"}),
        title="This could not be shown",
        color="red",
        variant="light",
    )


def warning_card(title: str, lines: Sequence[str]) -> Component:
    """What is wrong with a part of the data while the rest is shown."""
    return dmc.Alert(
        dmc.List([dmc.ListItem(line) for line in lines], size="sm", className="wraps"),
        title=title,
        color="yellow",
        variant="light",
    )


def empty_card(title: str, text: str, commands: Sequence[str] = ()) -> Component:
    """What to do where there is nothing to show yet.

    Args:
        title: what is missing.
        text: why, and what brings it.
        commands: what to type, one per line.
    """
    return dmc.Card(
        [
            dmc.Title(title, order=2, size="h4"),
            dmc.Text(text, c="dimmed", mt=4),
            *(
                [dmc.Code("\n".join(commands), block=True, mt="sm", className="wraps")]
                if commands
                else []
            ),
        ],
        withBorder=True,
        padding="lg",
        className="empty",
    )


def paused_while_running(interval: str) -> list[tuple[Output, int, int]]:
    """For a callback's ``running``: its interval stands still until the answer is there.

    Dash drops an answer when the same callback was asked again meanwhile; with an interval shorter
    than the answer takes, the page would never change.
    """
    return [(Output(interval, "max_intervals"), 0, -1)]


def show_error(error: BaseException) -> None:
    """From within a callback: show a failure above the page."""
    set_props(NOTICE, {"children": error_card(error)})


def clear_error() -> None:
    """From within a callback: remove the error that an earlier callback showed."""
    set_props(NOTICE, {"children": None})
