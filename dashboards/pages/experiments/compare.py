"""Two experiments side by side: what differs, expected beside actual, and how they learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, html, no_update
from dash.development.base_component import Component

from components.experiments.attempt import Attempt
from components.experiments.export import figure_cells, shown
from components.experiments.ledger import Ledger
from components.experiments.resolve import Difference
from components.experiments.results import ResultDifferences, result_differences
from dashboards.pages.experiments.curves import curves_chart, draw_curves
from dashboards.widgets.parts import SCHEME, titled_card
from dashboards.widgets.theme import figure, scheme_of

FIRST, SECOND = "experiments-first", "experiments-second"
_DIFF, _OUTCOMES, _CURVES, _MEASURE = (
    "experiments-diff",
    "experiments-outcomes",
    "experiments-curves",
    "experiments-measure",
)
_SHOWN = 200
_OFFERED = 50
"""Names that a field offers at a time; typing finds the rest."""


def compare_layout(ledger: Ledger, first: str | None, second: str | None) -> Component:
    """The view; the callback fills it.

    Args:
        ledger: with an experiment at least.
        first: value in the address.
        second: likewise.
    """
    names = _names(ledger, "")
    one = first if first and _names(ledger, first, exact=True) else names[0]
    other = second if second and _names(ledger, second, exact=True) else names[:2][-1]
    return dmc.Stack(
        [
            dmc.Group(
                [
                    choice(ledger, FIRST, "First (−)", one),
                    choice(ledger, SECOND, "Second (+)", other),
                ],
                gap="sm",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        titled_card("What differs", html.Div(id=_DIFF), h="100%"),
                        span={"base": 12, "lg": 6},
                    ),
                    dmc.GridCol(
                        titled_card("Expected beside actual", html.Div(id=_OUTCOMES), h="100%"),
                        span={"base": 12, "lg": 6},
                    ),
                    dmc.GridCol(curves_chart(_CURVES, _MEASURE), span=12),
                ],
                gutter="sm",
            ),
        ],
        gap="sm",
    )


def choice(ledger: Ledger, name: str, label: str, value: str | None, **options: Any) -> Component:
    """A field to choose an experiment by typing a part of its name; needs ``register_choice``.

    Args:
        ledger: whose.
        name: id of the field.
        label: what is chosen.
        value: what is chosen already; ignored where there is no such experiment.
        options: further properties of Mantine's Select.
    """
    kept = value if value and _names(ledger, value, exact=True) else None
    return dmc.Select(
        id=name,
        label=label,
        data=list(dict.fromkeys([*([kept] if kept else []), *_names(ledger, "")])),
        value=kept,
        searchable=True,
        nothingFoundMessage="there is none",
        w=280,
        **{"allowDeselect": False, **options},
    )


def register_choice(app: Dash, name: str, ledger: Callable[[], Ledger | None]) -> None:
    """Let a field of ``choice`` find all experiments, of which the browser gets a few at a time."""

    @app.callback(
        Output(name, "data"),
        Input(name, "searchValue"),
        State(name, "value"),
        prevent_initial_call=True,
    )
    def named(part: str | None, value: str | None) -> Any:
        opened = ledger()
        if opened is None:
            return no_update
        try:
            # The chosen one's name stands in the field and is no search.
            found = _names(opened, "" if part == value else part or "")
        finally:
            opened.close()
        return list(dict.fromkeys([*([value] if value else []), *found]))


def _names(ledger: Ledger, part: str, exact: bool = False) -> list[str]:
    """The first experiments whose name has a part, or is it."""
    if exact:
        rows = ledger.index.ask("SELECT name FROM experiments WHERE name = ?", (part,))
    else:
        rows = ledger.index.ask(
            "SELECT name FROM experiments WHERE instr(lower(name), lower(?)) > 0 "
            "ORDER BY name LIMIT ?",
            (part, _OFFERED),
        )
    return [str(row[0]) for row in rows]


def register_compare(app: Dash, ledger: Callable[[], Ledger | None]) -> None:
    """The comparison's callback.

    Args:
        app: the application.
        ledger: opens the ledger, to be closed; None where there is none.
    """
    for name in (FIRST, SECOND):
        register_choice(app, name, ledger)

    @app.callback(
        Output(_DIFF, "children"),
        Output(_OUTCOMES, "children"),
        Output(_CURVES, "figure"),
        Output(f"{_CURVES}-words", "children"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
        Input(_MEASURE, "value"),
        Input(SCHEME, "computedColorScheme"),
    )
    def compare(
        first: str | None, second: str | None, measure: str | None, scheme: str | None
    ) -> tuple[Any, ...]:
        """Everything that the two differ in."""
        opened = ledger()
        look = scheme_of(scheme)
        nothing = dmc.Text("Choose two to compare.", c="dimmed", size="sm")
        if opened is None or not first or not second:
            return nothing, nothing, figure(look), ""
        try:
            differences = opened.differences(first, second)
            last = {name: opened.attempts(name)[-1:] for name in (first, second)}
            results = result_differences(opened, first, second)
            promised = {name: opened.experiment(name).contract for name in (first, second)}
        finally:
            opened.close()
        launches = {name: found[0] for name, found in last.items() if found}
        outcomes = dmc.Stack(
            [
                outcome_of(name, contract.expected if contract else "", launches.get(name))
                for name, contract in promised.items()
            ]
            + [_result_table(results)],
            gap="sm",
        )
        drawn, words = draw_curves(launches, measure or "reward", scheme)
        return _difference_table(first, second, differences), outcomes, drawn, words


def _difference_table(first: str, second: str, found: Sequence[Difference]) -> Component:
    if not found:
        return dmc.Text("They are the same configuration.", size="sm")
    return html.Table(
        [
            html.Thead(html.Tr([html.Th("option"), html.Th(first), html.Th(second)])),
            html.Tbody(
                [
                    html.Tr(
                        [
                            html.Td(one.path),
                            html.Td(
                                f"− {shown(one.first)}",
                                className="minus",
                                title=f"from {one.first_origin}",
                            ),
                            html.Td(
                                f"+ {shown(one.second)}",
                                className="plus",
                                title=f"from {one.second_origin}",
                            ),
                        ]
                    )
                    for one in found[:_SHOWN]
                ]
            ),
        ],
        className="diff",
    )


def _result_table(results: ResultDifferences) -> Component:
    if not results.figures:
        return dmc.Text("Neither has a finished launch to compare.", size="sm", c="dimmed")
    launches = [one.attempt if one else "–" for one in (results.first, results.second)]
    return dmc.Table(
        data={
            "head": ["metric", *launches, "change"],
            "body": [list(figure_cells(one)) for one in results.figures],
        }
    )


def outcome_of(name: str, expected: str, launch: Attempt | None) -> Component:
    """What was expected of an experiment, and what its launch came to.

    Args:
        name: the heading.
        expected: the contract's expression now; empty without one.
        launch: of the experiment; what it was sealed with goes before ``expected``.
    """
    promised = launch.expected if launch else expected
    lines = [
        dmc.Text(name, fw=600, size="sm"),
        dmc.Text(f"expected: {promised or 'it has no contract'}", size="sm", className="wraps"),
    ]
    if launch is None:
        lines.append(dmc.Text("actual: it was not launched yet", size="sm"))
    else:
        word = launch.verdict or launch.state
        lines.append(
            dmc.Text(f"actual: {word}: {launch.reason}", size="sm", className="wraps", fw=600)
        )
        lines.append(
            dmc.Text(
                f"{launch.attempt}, sealed {launch.sealed_at[:19].replace('T', ' ')} UTC as "
                f"{launch.sha256[:12]}",
                size="xs",
                c="dimmed",
            )
        )
        if launch.failing_step:
            lines.append(dmc.Text(f"failing step: {launch.failing_step}", size="sm"))
    return html.Div(lines)
