"""Data: pictures with their boxes, slices, anomalies one by one, the split, another version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, html, no_update
from dash.development.base_component import Component

from dashboards.page import Page
from dashboards.pages.data.found import KnownData
from dashboards.pages.data.views import CHOICE, STEP, VIEWS
from dashboards.sources import Sources
from dashboards.widgets.parts import (
    SCHEME,
    clear_error,
    empty_card,
    error_card,
    page_title,
    query_id,
    query_store,
)
from foundation.errors import GearshiftError

_NAME = "data"
_SHOWN, _TABS, _BODY = "data-shown", "data-tabs", "data-body"
_TEXT = "What policies are learned from, and what is odd about it."
_KEPT = {"data", "view", "by", "slice", "kind", "at", "other", "change"}


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; without a data set, the command that makes one."""
    known = sources.data_sets
    if not known:
        return dmc.Stack(
            [
                page_title("Data", _TEXT),
                empty_card(
                    "There is no data set yet",
                    "The page shows those of training runs, and those in the folder --data.",
                    [f"gearshift data ingest coco128.zip --out {sources.config.data}/coco128"],
                ),
            ]
        )
    shown, view = _chosen(known, query)
    picker = dmc.Select(
        id=_SHOWN,
        data=list(known),
        value=shown,
        allowDeselect=False,
        size="sm",
        w=210,
        **{"aria-label": "Data set"},
    )
    return html.Div(
        [
            page_title("Data", _TEXT, picker),
            query_store(_NAME, query),
            dmc.Tabs(
                [
                    dmc.TabsList(
                        [dmc.TabsTab(label, value=name) for name, (label, _) in VIEWS.items()],
                        mb="sm",
                        className="one-line",
                    ),
                    html.Div(_body(known, query), id=_BODY),
                ],
                id=_TABS,
                value=view,
            ),
        ]
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""

    @app.callback(
        Output(_BODY, "children"),
        Output(query_id(_NAME), "data"),
        Input(_SHOWN, "value"),
        Input(_TABS, "value"),
        Input({"type": CHOICE, "name": ALL}, "value"),
        Input({"type": STEP, "to": ALL}, "n_clicks"),
        Input(SCHEME, "computedColorScheme"),
        State(query_id(_NAME), "data"),
        prevent_initial_call=True,
    )
    def show(
        shown: str,
        view: str,
        choices: list[str],
        clicks: list[int | None],
        scheme: str,
        query: dict[str, str],
    ) -> tuple[Any, Any]:
        """Draw what was asked for; what a choice depends on stays, what depends on it goes."""
        asked = {name: value for name, value in query.items() if name in _KEPT}
        pressed = ctx.triggered_id
        given = ctx.triggered[0]["value"] if ctx.triggered else None
        if pressed in (_SHOWN, _TABS):
            asked = {"data": shown, "view": view}
        elif isinstance(pressed, Mapping) and pressed["type"] == STEP:
            if not given:
                return no_update, no_update  # the buttons were drawn anew
            asked["at"] = pressed["to"]
        elif isinstance(pressed, Mapping):
            if asked.get(pressed["name"]) == given or pressed["name"] not in _KEPT:
                return no_update, no_update
            asked[pressed["name"]] = str(given)
            asked.pop("at", None)
            if pressed["name"] == "by":
                asked.pop("slice", None)
        clear_error()
        return _body(sources.data_sets, {**asked, "scheme": scheme}), asked


def _chosen(known: Mapping[str, KnownData], asked: Mapping[str, str]) -> tuple[str, str]:
    """Name of the data set and of the view that an address asks for."""
    name, view = asked.get("data", ""), asked.get("view", "")
    return name if name in known else next(iter(known)), view if view in VIEWS else next(
        iter(VIEWS)
    )


def _body(known: Mapping[str, KnownData], asked: Mapping[str, str]) -> Component:
    name, view = _chosen(known, asked)
    try:
        content = VIEWS[view][1](known[name], asked, known)
    except GearshiftError as error:
        content = error_card(error)
    return dmc.TabsPanel(content, value=view)


PAGE = Page("/data", "Data", "data", layout, register)
