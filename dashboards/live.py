"""Live: where frames go now, how long that takes, what it saves and what accuracy it costs."""

from __future__ import annotations

from collections.abc import Mapping

import dash_mantine_components as dmc
from dash import Dash
from dash.development.base_component import Component

from dashboards.pages import Page
from dashboards.parts import empty_card, page_title
from dashboards.sources import Sources


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; without a log, the commands that make one."""
    title = page_title("Live", "Where frames go now, what that saves and what accuracy it costs.")
    return dmc.Stack([title, *([no_log(sources)] if sources.log.is_empty() else [])])


def no_log(sources: Sources) -> Component:
    """What to type where nothing was logged yet."""
    return empty_card(
        "No answer was logged yet",
        f"The dashboard reads the prediction log at {sources.log.place.name}. "
        "Start the services and send them a video; the page fills by itself.",
        (
            "gearshift up --open-access",
            "gearshift stream runs/demo/street.mp4 --tag condition=day",
        ),
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""


PAGE = Page("/", "Live", "live", layout, register)
