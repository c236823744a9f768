"""Experiments: what was tried and why, who extends whom, how two differ, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from components.experiments.export import rows_csv, rows_markdown
from components.experiments.index import INDEX_FILE
from components.experiments.ledger import Ledger, LedgerConfig
from components.experiments.query import FIELDS, ExperimentRow, QueryResult, Question
from components.experiments.scoreboard import Tally, scoreboard
from dashboards.page import Page
from dashboards.pages.experiments.compare import (
    FIRST,
    SECOND,
    compare_layout,
    register_compare,
)
from dashboards.pages.experiments.launch import (
    EXPERIMENT,
    LAUNCH,
    launch_layout,
    register_launch,
)
from dashboards.pages.experiments.tree import ROOT, register_tree, tree_layout
from dashboards.sources import Sources
from dashboards.widgets.parts import (
    empty_card,
    page_title,
    query_id,
    query_store,
    titled_card,
    warning_card,
)
from dashboards.widgets.tables import grid, number_column
from foundation.errors import ConfigurationError

_NAME = "experiments"
_WORDS, _WHERE, _TABLE, _FOUND, _TABS, _CSV, _MARKDOWN, _FILE = (
    "experiments-words",
    "experiments-where",
    "experiments-table",
    "experiments-found",
    "experiments-tabs",
    "experiments-csv",
    "experiments-markdown",
    "experiments-file",
)
_VIEWS = {
    "table": "Table",
    "tree": "Tree",
    "compare": "Comparison",
    "launch": "Launch",
    "scores": "Hypotheses",
}
_TEXT = "What was tried and why, what was expected, and whether it came out so."
_BLOCK = 100
"""Rows that the browser gets at a time."""
_ADDRESS = """function(words, where, view, root, first, second, experiment, launch) {
    return {words: words, where: (where || []).join(','), view: view === 'table' ? null : view,
            root: root, first: first, second: second,
            experiment: view === 'launch' ? experiment : null,
            launch: view === 'launch' ? launch : null};
}"""
_TEXT_COLUMNS = (
    ("name", "experiment", 200),
    ("parent", "extends", 170),
    ("objective", "objective", 190),
    ("author", "author", 110),
    ("state", "state", 110),
    ("outcome", "outcome", 100),
    ("expected", "expected", 260),
    ("reason", "actual", 260),
    ("hypothesis", "hypothesis", 320),
    ("ended", "ended (UTC)", 170),
)


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; without a ledger, the command that begins one."""
    ledger = opened(sources)
    if ledger is None:
        return dmc.Stack([page_title("Experiments", _TEXT), _nothing(sources)])
    try:
        if not ledger.find(Question(limit=1)).rows:
            return dmc.Stack([page_title("Experiments", _TEXT), _nothing(sources)])
        left = ledger.left_out
        words, view = query.get("words", ""), query.get("view", "")
        where = [one for one in query.get("where", "").split(",") if one.strip()]
        return html.Div(
            [
                page_title("Experiments", _TEXT),
                *([warning_card("Some files are left out", left)] if left else ()),
                query_store(_NAME, query),
                dmc.Tabs(
                    [
                        dmc.TabsList(
                            [dmc.TabsTab(label, value=value) for value, label in _VIEWS.items()],
                            mb="sm",
                            className="one-line",
                        ),
                        dmc.TabsPanel(_table(words, where), value="table"),
                        dmc.TabsPanel(tree_layout(ledger, query.get("root")), value="tree"),
                        dmc.TabsPanel(
                            compare_layout(ledger, query.get("first"), query.get("second")),
                            value="compare",
                        ),
                        dmc.TabsPanel(
                            launch_layout(ledger, query.get("experiment"), query.get("launch")),
                            value="launch",
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
    register_launch(app, lambda: opened(sources))
    register_tree(app, lambda: opened(sources), _TABS, "tree")

    @app.callback(
        Output(_TABLE, "getRowsResponse"),
        Output(_FOUND, "children"),
        Input(_TABLE, "getRowsRequest"),
        State(_WORDS, "value"),
        State(_WHERE, "value"),
        prevent_initial_call=True,
    )
    def rows(request: Mapping[str, Any] | None, words: str | None, where: Any) -> Any:
        """The rows that the table shows; the others stay here."""
        ledger = opened(sources)
        if ledger is None or not request:
            return no_update, no_update
        start, end = int(request["startRow"]), int(request["endRow"])
        try:
            found = ledger.find(
                replace(
                    _question(words, where),
                    limit=max(end - start, 1),
                    offset=max(start, 0),
                    sort=_sort(request.get("sortModel")),
                )
            )
        except ConfigurationError as error:
            # Shown where it was typed; a table that gets no answer waits for ever.
            return {"rowData": [], "rowCount": 0}, dmc.Text(str(error), size="sm", c="red")
        finally:
            ledger.close()
        return {"rowData": _cells(found.rows), "rowCount": found.total}, _count_line(
            found, words or ""
        )

    app.clientside_callback(
        # The table keeps what it was given until it is notified that the question changed.
        f"""function() {{
            dash_ag_grid.getApiAsync('{_TABLE}').then(api => {{
                api.paginationGoToFirstPage();
                api.purgeInfiniteCache();
            }});
        }}""",
        Input(_WORDS, "value"),
        Input(_WHERE, "value"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(_FILE, "data"),
        Input(_CSV, "n_clicks"),
        Input(_MARKDOWN, "n_clicks"),
        State(_WORDS, "value"),
        State(_WHERE, "value"),
        State(_TABLE, "getRowsRequest"),
        prevent_initial_call=True,
    )
    def download(
        as_csv: int | None,
        as_markdown: int | None,
        words: str | None,
        where: Any,
        request: Mapping[str, Any] | None,
    ) -> Any:
        """Every row that is found, not only those that are shown, in the table's order."""
        ledger = opened(sources)
        if ledger is None or not (as_csv or as_markdown):
            return no_update
        try:
            asked = replace(_question(words, where), sort=_sort((request or {}).get("sortModel")))
            found = ledger.find(asked).rows
        finally:
            ledger.close()
        if ctx.triggered_id == _CSV:
            return {"content": rows_csv(found), "filename": "experiments.csv"}
        return {"content": rows_markdown(found), "filename": "experiments.md"}

    app.clientside_callback(
        _ADDRESS,
        Output(query_id(_NAME), "data"),
        Input(_WORDS, "value"),
        Input(_WHERE, "value"),
        Input(_TABS, "value"),
        Input(ROOT, "value"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
        Input(EXPERIMENT, "value"),
        Input(LAUNCH, "value"),
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


def _table(words: str, where: Sequence[str]) -> Component:
    columns: list[dict[str, Any]] = [
        {
            "field": field,
            "headerName": heading,
            "width": width,
            "tooltipField": field,
            "pinned": "left" if field == "name" else None,
            "sortable": field in FIELDS,
        }
        for field, heading, width in _TEXT_COLUMNS
    ]
    columns[6:6] = [
        number_column("retained", "retained", ".3f"),
        number_column("latency_ratio", "latency", ".3f"),
    ]
    return dmc.Stack(
        [
            dmc.Group(
                [
                    dmc.TextInput(
                        id=_WORDS,
                        value=words,
                        debounce=400,
                        style={"flexGrow": 2},
                        label="Search intent, parameters and outcome",
                        placeholder="tried to cut deadline misses",
                    ),
                    dmc.TagsInput(
                        id=_WHERE,
                        value=list(where),
                        style={"flexGrow": 1, "minWidth": 220},
                        label="Filters",
                        placeholder="outcome=missed, refine.fleets>=24",
                    ),
                    dmc.Button("Download CSV", id=_CSV, size="xs", variant="default"),
                    dmc.Button("Markdown", id=_MARKDOWN, size="xs", variant="default"),
                    dcc.Download(id=_FILE),
                ],
                align="flex-end",
                gap="sm",
            ),
            html.Div(id=_FOUND, role="status"),
            grid(
                _TABLE,
                "Experiments",
                columns,
                None,
                file_name="experiments.csv",
                row_id="name",
                pagination=True,
                paginationPageSize=20,
                tooltipShowDelay=300,
                cacheBlockSize=_BLOCK,
                maxBlocksInCache=10,
            ),
        ],
        gap="sm",
    )


def _question(words: str | None, where: Any) -> Question:
    return Question(words or "", tuple(str(one) for one in where or () if str(one).strip()))


def _sort(model: Any) -> str:
    """What AG Grid sorts by, as a question names it."""
    if not model:
        return ""
    return f"{'-' if model[0]['sort'] == 'desc' else ''}{model[0]['colId']}"


def _cells(rows: Sequence[ExperimentRow]) -> list[dict[str, Any]]:
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


def _count_line(found: QueryResult, words: str) -> Component:
    count = f"{found.total:,} experiment{'' if found.total == 1 else 's'}"
    some = words and found.rows and not found.all_words
    text = f"{count}; none has all of these words" if some else count
    return dmc.Text(text, size="sm", c="dimmed")


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
        [
            one.name,
            *(str(asdict(one)[word]) for word in head[1:4]),
            "–" if one.share is None else f"{one.share:.0%}",
        ]
        for one in tallies
    ]
    return titled_card(title, dmc.Table(data={"head": list(head), "body": rows}))


PAGE = Page("/experiments", "Experiments", "experiments", layout, register)
