"""One launch: what came of it, every metric, its files, and its curves beside its parent's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from components.experiments.attempt import Attempt
from components.experiments.ledger import Ledger
from components.experiments.results import last_finished
from dashboards.pages.experiments.compare import choice, outcome_of, register_choice
from dashboards.pages.experiments.curves import curves_chart, draw_curves
from dashboards.widgets.parts import SCHEME, titled_card
from dashboards.widgets.theme import figure, scheme_of

EXPERIMENT, LAUNCH = "experiments-one", "experiments-launch"
_OUTCOME, _METRICS, _FILES, _CURVES, _MEASURE, _DOWNLOAD = (
    "experiments-launch-outcome",
    "experiments-launch-metrics",
    "experiments-launch-files",
    "experiments-launch-curves",
    "experiments-launch-measure",
    "experiments-launch-download",
)
_FILE = "experiments-launch-file"
_LOGS = "logs"


def launch_layout(ledger: Ledger, experiment: str | None, launch: str | None) -> Component:
    """The view; the callbacks fill it.

    Args:
        ledger: with an experiment at least.
        experiment: value in the address.
        launch: likewise.
    """
    return dmc.Stack(
        [
            dmc.Group(
                [
                    choice(ledger, EXPERIMENT, "Experiment", experiment or _newest(ledger)),
                    dmc.Select(id=LAUNCH, label="Launch", value=launch, w=280),
                ],
                gap="sm",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        dmc.Stack(
                            [
                                titled_card("Outcome", html.Div(id=_OUTCOME), h="100%"),
                                titled_card("Files", html.Div(id=_FILES), h="100%"),
                                dcc.Download(id=_DOWNLOAD),
                            ],
                            gap="sm",
                        ),
                        span={"base": 12, "lg": 6},
                    ),
                    dmc.GridCol(
                        titled_card("Metrics", html.Div(id=_METRICS), h="100%"),
                        span={"base": 12, "lg": 6},
                    ),
                    dmc.GridCol(curves_chart(_CURVES, _MEASURE), span=12),
                ],
                gutter="sm",
            ),
        ],
        gap="sm",
    )


def register_launch(app: Dash, ledger: Callable[[], Ledger | None]) -> None:
    """The view's callbacks.

    Args:
        app: the application.
        ledger: opens the ledger, to be closed; None where there is none.
    """
    register_choice(app, EXPERIMENT, ledger)

    @app.callback(
        Output(LAUNCH, "data"),
        Output(LAUNCH, "value"),
        Input(EXPERIMENT, "value"),
        State(LAUNCH, "value"),
    )
    def launches(experiment: str | None, chosen: str | None) -> Any:
        """The launches of an experiment, the newest first and chosen."""
        opened = ledger()
        if opened is None:
            return no_update, no_update
        try:
            names = [one.attempt for one in reversed(opened.attempts(experiment or ""))]
        finally:
            opened.close()
        return names, chosen if chosen in names else next(iter(names), None)

    @app.callback(
        Output(_OUTCOME, "children"),
        Output(_METRICS, "children"),
        Output(_FILES, "children"),
        Output(_CURVES, "figure"),
        Output(f"{_CURVES}-words", "children"),
        Input(LAUNCH, "value"),
        Input(_MEASURE, "value"),
        Input(SCHEME, "computedColorScheme"),
    )
    def shown(launch: str | None, measure: str | None, scheme: str | None) -> tuple[Any, ...]:
        """Show everything about a launch."""
        found = _launches(ledger, launch)
        if not found:
            nothing = dmc.Text("It was not launched yet.", c="dimmed", size="sm")
            return nothing, "", "", figure(scheme_of(scheme)), ""
        one = found[launch or ""]
        drawn, words = draw_curves(found, measure or "reward", scheme)
        return outcome_of(one.attempt, "", one), _metrics(one), _files(one), drawn, words

    @app.callback(
        Output(_DOWNLOAD, "data"),
        Input({"type": _FILE, "name": ALL}, "n_clicks"),
        State(LAUNCH, "value"),
        prevent_initial_call=True,
    )
    def download(clicks: list[int | None], launch: str | None) -> Any:
        """A file of the launch; only those that are listed."""
        found = _launches(ledger, launch)
        if not any(clicks) or not found or not isinstance(ctx.triggered_id, dict):
            return no_update
        file = files_of(found[launch or ""]).get(str(ctx.triggered_id.get("name")))
        return no_update if file is None else dcc.send_file(str(file))


def files_of(launch: Attempt) -> dict[str, Path]:
    """Files of a launch's results and its logs, by name, as far as they lie on this machine."""
    out = Path(launch.out)
    if not launch.out or not out.is_dir():
        return {}
    files = [*sorted(out.iterdir()), *sorted((out / _LOGS).glob("*.log"))]
    return {
        str(file.relative_to(out)): file
        for file in files
        if file.is_file() and not file.name.startswith(".")
    }


def _launches(ledger: Callable[[], Ledger | None], launch: str | None) -> dict[str, Attempt]:
    """The parent's last finished launch and the one that is shown, by name; empty without it."""
    opened = ledger()
    if opened is None:
        return {}
    try:
        found = opened.index.attempts("attempt = ?", (launch or "",))
        if not found:
            return {}
        known = opened.known
        experiment = found[0].experiment
        parent = known[experiment].extends if experiment in known else ""
        before = last_finished(opened, parent) if parent else None
    finally:
        opened.close()
    return {one.attempt: one for one in (before, found[0]) if one is not None}


def _newest(ledger: Ledger) -> str | None:
    """The experiment that was launched last."""
    rows = ledger.index.ask(
        "SELECT a.experiment FROM attempts a JOIN experiments e ON e.name = a.experiment "
        "ORDER BY json_extract(a.whole, '$.sealed_at') DESC LIMIT 1"
    )
    return str(rows[0][0]) if rows else None


def _metrics(launch: Attempt) -> Component:
    if not launch.figures:
        return dmc.Text("It has no report yet.", size="sm", c="dimmed")
    rows = [[name, f"{value:.6g}"] for name, value in sorted(launch.figures.items())]
    return dmc.ScrollArea(dmc.Table(data={"head": ["metric", "value"], "body": rows}), h=420)


def _files(launch: Attempt) -> Component:
    files = files_of(launch)
    if not files:
        return dmc.Text("Its results are not on this machine.", size="sm", c="dimmed")
    return dmc.Group(
        [
            dmc.Button(name, id={"type": _FILE, "name": name}, size="compact-xs", variant="default")
            for name in files
        ],
        gap="xs",
    )
