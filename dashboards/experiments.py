"""Experiments: what was tried and why, who extends whom, how two differ, and what came of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from components.experiments.export import rows_markdown
from components.experiments.index import INDEX_FILE
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.query import Found, Question, Row
from components.experiments.scoreboard import Tally, scoreboard
from components.experiments.tree import tree_view
from dashboards.experiments_compare import (
    FIRST,
    SECOND,
    compare_layout,
    register_compare,
)
from dashboards.pages import Page
from dashboards.parts import empty_card, page_title, query_id, query_store
from dashboards.sources import Sources
from dashboards.tables import csv_button, grid, number_column, register_csv

_NAME = "experiments"
_WORDS, _TABLE, _FOUND, _TABS, _MARKDOWN, _FILE = (
    "experiments-words", "experiments-table", "experiments-found", "experiments-tabs",
    "experiments-markdown", "experiments-file",
)  # fmt: skip
_VIEWS = {"table": "Table", "tree": "Tree", "compare": "Comparison", "scores": "Hypotheses"}
_TEXT = "What was tried and why, what was expected, and whether it came out so."
_TREE_NODES = 1000
"""Experiments of the tree at most: more are found by words, not by looking."""
_ADDRESS = """function(words, view, first, second) {
    return {words: words, view: view === 'table' ? null : view, first: first, second: second};
}"""
_TEXT_COLUMNS = (
    ("name", "experiment", 200), ("parent", "extends", 170), ("objective", "objective", 190),
    ("author", "author", 110), ("state", "state", 110), ("outcome", "outcome", 100),
    ("expected", "expected", 260), ("reason", "actual", 260), ("hypothesis", "hypothesis", 320),
    ("ended", "ended (UTC)", 170),
)  # fmt: skip


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; without a ledger, the command that begins one."""
    ledger = opened(sources)
    if ledger is None:
        return dmc.Stack([page_title("Experiments", _TEXT), _nothing(sources)])
    try:
        words = query.get("words", "")
        found = ledger.find(Question(words))
        names = [row.name for row in found.rows] if not words else _names(ledger)
        if not names:
            return dmc.Stack([page_title("Experiments", _TEXT), _nothing(sources)])
        view = query.get("view", "")
        return html.Div(
            [
                page_title("Experiments", _TEXT),
                query_store(_NAME, query),
                dmc.Tabs(
                    [
                        dmc.TabsList(
                            [dmc.TabsTab(label, value=value) for value, label in _VIEWS.items()],
                            mb="sm",
                            className="one-line",
                        ),
                        dmc.TabsPanel(_table(found, words), value="table"),
                        dmc.TabsPanel(_tree(ledger, len(names)), value="tree"),
                        dmc.TabsPanel(
                            compare_layout(names, query.get("first"), query.get("second")),
                            value="compare",
                        ),
                        dmc.TabsPanel(_scores(ledger), value="scores"),
                    ],
                    id=_TABS,
                    value=view if view in _VIEWS else "table",
                ),
            ]
        )
    finally:
        ledger.close()


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""
    register_compare(app, lambda: opened(sources))
    register_csv(app, _TABLE)

    @app.callback(
        Output(_TABLE, "rowData"),
        Output(_FOUND, "children"),
        Input(_WORDS, "value"),
        prevent_initial_call=True,
    )
    def search(words: str | None) -> Any:
        """The rows that the words find, the best first."""
        ledger = opened(sources)
        if ledger is None:
            return no_update, no_update
        try:
            found = ledger.find(Question(words or ""))
        finally:
            ledger.close()
        return _cells(found.rows), _said(found, words or "")

    @app.callback(
        Output(_FILE, "data"),
        Input(_MARKDOWN, "n_clicks"),
        State(_WORDS, "value"),
        prevent_initial_call=True,
    )
    def markdown(clicks: int | None, words: str | None) -> Any:
        """The rows that are shown, as Markdown."""
        ledger = opened(sources)
        if ledger is None or not clicks:
            return no_update
        try:
            rows = ledger.find(Question(words or "")).rows
        finally:
            ledger.close()
        return {"content": rows_markdown(rows), "filename": "experiments.md"}

    app.clientside_callback(
        _ADDRESS,
        Output(query_id(_NAME), "data"),
        Input(_WORDS, "value"),
        Input(_TABS, "value"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        # A chart drawn while its view was hidden has the wrong width until the window changes.
        "function() { setTimeout(() => window.dispatchEvent(new Event('resize')), 50); }",
        Input(_TABS, "value"),
    )


def opened(sources: Sources) -> Ledger | None:
    """The ledger as its index has it, to be closed; None where there is none yet.

    Raises:
        StorageError: the index cannot be read.
    """
    folder = sources.config.ledger
    if not (folder / INDEX_FILE).is_file():
        return None
    return Ledger(LedgerConfig(ledger=folder))


def _names(ledger: Ledger) -> list[str]:
    return [name for name, _ in ledger.tree()]


def _nothing(sources: Sources) -> Component:
    return empty_card(
        "There is no experiment yet",
        f"No ledger is in {sources.config.ledger}. The demo is a launch of the shipped baseline; "
        "an experiment of your own extends it.",
        (
            "gearshift experiment list",
            "gearshift experiment new NAME --extends baseline --set refine.fleets=24",
        ),
    )


def _table(found: Found, words: str) -> Component:
    columns: list[dict[str, Any]] = [
        {
            "field": field, "headerName": heading, "width": width, "filter": "agTextColumnFilter",
            "tooltipField": field, "pinned": "left" if field == "name" else None,
        }
        for field, heading, width in _TEXT_COLUMNS
    ]  # fmt: skip
    columns[6:6] = [
        number_column("retained", "retained", ".3f", filter="agNumberColumnFilter"),
        number_column("latency_ratio", "latency", ".3f", filter="agNumberColumnFilter"),
    ]
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.TextInput(
                        id=_WORDS, value=words, debounce=400, style={"flexGrow": 1},
                        label="Search intent, parameters and outcome",
                        placeholder="tried to cut deadline misses",
                    ),
                    csv_button(_TABLE),
                    dmc.Button("Markdown", id=_MARKDOWN, size="xs", variant="default"),
                    dcc.Download(id=_FILE),
                ],
                align="flex-end",
                gap="sm",
            ),
            html.Div(_said(found, words), id=_FOUND, role="status"),
            grid(
                _TABLE, "Experiments", columns, _cells(found.rows), file_name="experiments.csv",
                row_id="name", pagination=True, paginationPageSize=20, tooltipShowDelay=300,
            ),
        ],
        gap="sm",
    )  # fmt: skip


def _cells(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            **{field: getattr(row, field) for field, _, _ in _TEXT_COLUMNS},
            "state": "broken" if row.error else row.state,
            "reason": row.error or row.reason,
            "ended": row.ended[:19].replace("T", " "),
            "retained": row.figures.get("retained"),
            "latency_ratio": row.figures.get("latency_ratio"),
        }
        for row in rows
    ]


def _said(found: Found, words: str) -> Component:
    count = f"{len(found.rows):,} experiment{'' if len(found.rows) == 1 else 's'}"
    some = words and found.rows and not found.all_words
    text = f"{count}; none has all of these words" if some else count
    return dmc.Text(text, size="sm", c="dimmed")


def _tree(ledger: Ledger, count: int) -> Component:
    if count > _TREE_NODES:
        return empty_card(
            f"{count:,} experiments are too many for a picture",
            "The terminal draws one branch of them.",
            ("gearshift experiment tree NAME",),
        )
    return dmc.Card(
        html.Ul([_branch(one) for one in tree_view(ledger)], className="lineage"),
        withBorder=True,
        padding="sm",
    )


def _branch(one: Mapping[str, Any]) -> Component:
    changes = ", ".join(f"{path} = {json.dumps(value)}" for path, value in one["changes"].items())
    lost = f"extends {one['missing_parent']}, which is missing" if one["missing_parent"] else ""
    return html.Li(
        [
            dmc.Text(one["name"], span=True, fw=600, size="sm"),
            dmc.Text(f"  {one['outcome'] or one['state']}", span=True, size="sm", c="dimmed"),
            *([dmc.Text(f"  {changes}", span=True, size="sm")] if changes else []),
            *(
                [dmc.Text(f"  ! {one['error'] or lost}", span=True, size="sm", fw=600)]
                if one["error"] or lost
                else []
            ),
            *([html.Ul([_branch(child) for child in one["children"]])] if one["children"] else []),
        ]
    )


def _scores(ledger: Ledger) -> Component:
    board = scoreboard(ledger.index)
    if not board.authors:
        return empty_card("Nothing was scored yet", "A launch that ends is scored by the machine.")
    return dmc.SimpleGrid(
        [_tallies("By author", board.authors), _tallies("By objective", board.objectives)],
        cols={"base": 1, "lg": 2},
        spacing="sm",
    )


def _tallies(title: str, tallies: Sequence[Tally]) -> Component:
    head = ("", "met", "missed", "void", "held")
    rows = [
        [one.name, *(str(asdict(one)[word]) for word in head[1:4]),
         "–" if one.share is None else f"{one.share:.0%}"]
        for one in tallies
    ]  # fmt: skip
    return dmc.Card(
        [
            dmc.Title(title, order=2, size="h5", mb="xs"),
            dmc.Table(data={"head": list(head), "body": rows}),
        ],
        withBorder=True,
        padding="sm",
    )


PAGE = Page("/experiments", "Experiments", "experiments", layout, register)
