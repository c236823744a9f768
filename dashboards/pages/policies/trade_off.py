"""The trade-off of accuracy and latency as a part of the page: figures, chart and table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, ctx, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.pages.policies.comparison import Contestant
from dashboards.pages.policies.comparison_view import FIRST, SECOND
from dashboards.pages.policies.pareto import legend, not_alike, outside, pareto, pareto_words
from dashboards.pages.policies.reports import ALWAYS, ORACLE, POLICY, KnownPolicy, PolicyRow
from dashboards.widgets.parts import SCHEME, chart, warning_card
from dashboards.widgets.tables import csv_button, grid, number_column, register_csv
from dashboards.widgets.theme import scheme_of
from dashboards.widgets.wording import FEW, number
from inference_graph.contract import LADDER

COMPARE = "policies-compare"
"""Id of the button that leads to the comparison."""
_REPORT, _CHART, _LEGEND, _TABLE, _PICKED = (
    "policies-report",
    "policies-pareto",
    "policies-legend",
    "policies-table",
    "policies-picked",
)

_COLUMNS = (
    {"field": "name", "headerName": "Name", "pinned": "left", "width": 150},
    {"field": "kind", "headerName": "Kind", "width": 120},
    number_column("retained", "Retained", ".1%"),
    number_column("low", "From", ".1%", width=90, headerTooltip="low end of the 95 % interval"),
    number_column("high", "To", ".1%", width=90, headerTooltip="high end of the 95 % interval"),
    number_column("latency_ratio", "Latency", ".1%", headerTooltip="mean, over large's"),
    number_column("gap", "Gap share", ".2f", headerTooltip="from random mixes to oracle"),
    number_column("mean_ms", "Mean ms", ".1f"),
    number_column("p95_ms", "p95 ms", ".1f", width=100),
    number_column("p99_ms", "p99 ms", ".1f", width=100),
    number_column("fps", "FPS", ".1f", width=90),
    number_column("usd_per_million", "USD / million", ".3f", width=130),
    *(number_column(rung, rung, ".1%", width=100) for rung in LADDER),
    {"field": "gate", "headerName": "Gate", "width": 100},
    {"field": "made", "headerName": "Made (UTC)", "width": 150},
    {"field": "revision", "headerName": "Revision", "width": 140},
    {"field": "setting", "headerName": "Setting", "width": 260},
)


def trade_off_layout(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> Component:
    """Figures of the shown policy, the chart, and the table of everything in it."""
    return dmc.Stack(
        [
            dcc.Store(id=_REPORT, data=shown.key),
            _facts(shown, policies),
            chart(
                _CHART,
                "Accuracy retained against latency",
                "Bars are 95 % intervals over clips (for policies also over seeds). "
                "Click two points, or two rows below, to compare them.",
                dmc.Button("Compare", id=COMPARE, size="xs"),
            ),
            html.Ul(id=_LEGEND, className="legend", **{"aria-label": "What the chart shows"}),
            dmc.Text("", id=_PICKED, size="sm", **{"aria-live": "polite"}),
            dmc.Group(
                [dmc.Title("All of them", order=2, size="h5"), csv_button(_TABLE)],
                justify="space-between",
            ),
            grid(
                _TABLE,
                "Policies and alternatives",
                _COLUMNS,
                table_rows(shown, policies),
                file_name="gearshift-policies.csv",
                rowSelection={
                    "mode": "singleRow",
                    "checkboxes": False,
                    "enableClickSelection": True,
                },
            ),
        ],
        gap="sm",
    )


def contestants(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> list[Contestant]:
    """All policies, then the alternatives in the shown one's report."""
    others = [row for row in shown.judgement.rows if row.name != POLICY]
    return [
        *(Contestant(one, one.judgement.policy) for one in policies.values()),
        *(Contestant(shown, row) for row in others),
    ]


def table_rows(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> list[dict[str, Any]]:
    """All policies, then the alternatives in the shown one's report."""
    return [_table_row(one) for one in contestants(shown, policies)]


def _table_row(one: Contestant) -> dict[str, Any]:
    row, judged = one.row, one.policy.judgement
    is_policy = row.name == POLICY
    low, high = row.interval or (None, None)
    verdict = {True: "passed", False: "refused", None: ""}[judged.passed] if is_policy else ""
    return {
        "key": one.key,
        "name": one.policy.name if is_policy else row.name,
        "kind": _kind(row),
        "retained": row.retained,
        "low": low,
        "high": high,
        "latency_ratio": row.latency_ratio,
        "gap": row.gap,
        "mean_ms": row.mean_ms,
        "p95_ms": row.p95_ms,
        "p99_ms": row.p99_ms,
        "fps": row.fps,
        "usd_per_million": row.usd_per_million,
        **row.shares,
        "gate": verdict,
        "made": f"{one.policy.created:%Y-%m-%d %H:%M}" if is_policy else "",
        "revision": one.policy.revision if is_policy else "",
        "setting": row.setting,
    }


def _kind(row: PolicyRow) -> str:
    if row.name == POLICY:
        return "policy"
    if row.name == ORACLE:
        return "bound"
    return "fixed rung" if row.name.startswith(ALWAYS) else "alternative"


def _facts(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> Component:
    judged, row = shown.judgement, shown.judgement.policy
    interval = shown.report.get("gap_share_interval") or (None, None)
    verdict = {True: "Passed", False: "Refused", None: "Not known"}[judged.passed]
    why = (
        f"failed: {', '.join(judged.failed)}"
        if judged.failed
        else "every check of the release gate"
        if judged.passed
        else "no verdict beside the report"
    )
    return html.Div(
        [
            *_notes(shown, policies),
            dmc.SimpleGrid(
                [
                    _fact("Accuracy retained", _percent(row.retained), _between(row.interval)),
                    _fact(
                        "Latency over large's",
                        _percent(row.latency_ratio),
                        f"{row.mean_ms:.1f} ms mean, router included",
                    ),
                    _fact(
                        "Share of the gap",
                        "–" if row.gap is None else f"{row.gap:.2f}",
                        "random mixes 0, oracle 1"
                        if interval[0] is None
                        else f"{interval[0]:.2f} to {interval[1]:.2f}; random mixes 0, oracle 1",
                    ),
                    _fact("Release gate", verdict, why),
                ],
                cols={"base": 2, "sm": 4},
                spacing="sm",
            ),
        ]
    )


def _notes(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> list[Component]:
    unlike = not_alike(shown, policies.values())
    clips, frames = (int(shown.report["data"][name]["judge"]) for name in ("clips", "frames"))
    few = " So few say little." if frames < FEW else ""
    return [
        *([warning_card("Not measured as the shown report", unlike)] if unlike else []),
        dmc.Text(
            f"Judged on {number(frames)} frames of {number(clips)} clips.{few}",
            size="sm",
            c="dimmed",
            mb="xs",
        ),
    ]


def _fact(label: str, figure: str, note: str) -> Component:
    return dmc.Card(
        [
            dmc.Text(label, size="sm", c="dimmed"),
            html.Div(figure, className="figure"),
            dmc.Text(note, size="xs", c="dimmed"),
        ],
        withBorder=True,
        padding="sm",
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _between(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.1%} to {interval[1]:.1%}"


def register_trade_off(app: Dash, known: Callable[[], Mapping[str, KnownPolicy]]) -> None:
    """The callbacks of chart and table.

    Args:
        app: the application.
        known: gives the policies that can be read, by key.
    """
    register_csv(app, _TABLE)

    @app.callback(
        Output(_CHART, "figure"),
        Output(f"{_CHART}-words", "children"),
        Output(_LEGEND, "children"),
        Output(_PICKED, "children"),
        Input(_REPORT, "data"),
        Input(SCHEME, "computedColorScheme"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
    )
    def draw(shown: str, scheme: str | None, first: str, second: str) -> tuple[Any, ...]:
        """The chart with what is compared ringed."""
        policies = known()
        if shown not in policies:
            return (no_update,) * 4
        one, others = policies[shown], tuple(policies.values())
        names = {each.key: each.name for each in contestants(one, policies)}
        picked = [names[key] for key in (first, second) if key in names]
        summary = f"Compared now: {' and '.join(picked)}. {outside(one)}"
        look = scheme_of(scheme)
        figure = pareto(one, others, look, {first, second})
        return figure, pareto_words(one, others), _signs(legend(one, others, look)), summary

    @app.callback(
        Output(FIRST, "value", allow_duplicate=True),
        Output(SECOND, "value", allow_duplicate=True),
        Input(_CHART, "clickData"),
        Input(_TABLE, "selectedRows"),
        State(FIRST, "value"),
        State(SECOND, "value"),
        prevent_initial_call=True,
    )
    def pick(
        clicked: Mapping[str, Any] | None,
        rows: Sequence[Mapping[str, Any]] | None,
        first: str | None,
        second: str | None,
    ) -> tuple[Any, Any]:
        """The last two that were clicked are compared."""
        if ctx.triggered_id == _TABLE:
            key = rows[0]["key"] if rows else None
        else:
            key = clicked["points"][0].get("customdata") if clicked else None
        return next_pair(first, second, key)


def _signs(entries: Sequence[tuple[str, str, str]]) -> list[Component]:
    return [
        html.Li([html.Span(sign, style={"color": colour}, **{"aria-hidden": "true"}), name])
        for sign, colour, name in entries
    ]


def next_pair(first: str | None, second: str | None, key: str | None) -> tuple[Any, Any]:
    """What is compared once a point was clicked; the older of the two gives way."""
    if not key or key == second:
        return no_update, no_update
    return second, key
