"""The comparison of two contestants as a part of the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Input, Output, State, html
from dash.development.base_component import Component

from components.profiling.replay import Replay, load_replay
from dashboards.pages.policies.comparison import (
    Contestant,
    Figure,
    Paired,
    changes,
    contestant,
    decisions,
    paired,
    side_by_side,
)
from dashboards.pages.policies.pareto import not_alike
from dashboards.pages.policies.reports import POLICY, KnownPolicy, task_of
from dashboards.pages.policies.runs import Run
from dashboards.sources import Sources
from dashboards.widgets.parts import SCHEME, chart, titled_card, warning_card
from dashboards.widgets.tables import plain_table
from dashboards.widgets.theme import INKS, Scheme, figure, lone_marks, scheme_of
from foundation.errors import GearshiftError, InvalidInput
from inference_graph.contract import LADDER

FIRST, SECOND, SWAP = "compare-first", "compare-second", "compare-swap"
_FIGURES, _PAIRED, _SETTINGS, _CURVES = (
    "compare-figures",
    "compare-paired",
    "compare-settings",
    "compare-curves",
)
_BETTER = {"first": "first", "second": "second", "neither": ""}


def policy_title(one: KnownPolicy) -> str:
    """A policy's name, with the aliases that point to it."""
    aliases = one.version.aliases if one.version is not None else ()
    return f"{one.name} ({', '.join(aliases)})" if aliases else one.name


def comparison_layout(
    shown: KnownPolicy, policies: Mapping[str, KnownPolicy], first: str, second: str
) -> Component:
    """Two choices, and what their difference is.

    Args:
        shown: whose alternatives can be chosen beside the policies.
        policies: all of them, by key.
        first: key of the first contestant.
        second: key of the second.
    """
    choices = [
        {
            "group": "Policies",
            "items": [{"value": one.key, "label": policy_title(one)} for one in policies.values()],
        },
        {
            "group": f"In the report of {shown.name}",
            "items": [
                {"value": Contestant(shown, row).key, "label": row.name}
                for row in shown.judgement.rows
                if row.name != POLICY
            ],
        },
    ]

    def select(name: str, label: str, value: str) -> Component:
        return dmc.Select(
            id=name,
            label=label,
            data=choices,
            value=value,
            searchable=True,
            allowDeselect=False,
            checkIconPosition="right",
        )

    return dmc.Stack(
        [
            dmc.Group(
                [
                    html.Div(select(FIRST, "First", first), className="grows"),
                    dmc.Button("Swap", id=SWAP, variant="default", size="sm"),
                    html.Div(select(SECOND, "Second", second), className="grows"),
                ],
                align="flex-end",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        titled_card("Figures", html.Div(id=_FIGURES)), span={"base": 12, "lg": 6}
                    ),
                    dmc.GridCol(
                        dmc.Stack(
                            [
                                chart(_CURVES, "Every operating point"),
                                titled_card(
                                    "The same held-out clips, frame by frame",
                                    html.Div(id=_PAIRED),
                                ),
                            ],
                            gap="sm",
                        ),
                        span={"base": 12, "lg": 6},
                    ),
                    dmc.GridCol(
                        titled_card("Settings that differ", html.Div(id=_SETTINGS)), span=12
                    ),
                ],
                gutter="sm",
            ),
        ],
        gap="sm",
    )


def register_comparison(
    app: Dash, sources: Sources, known: Callable[[], Mapping[str, KnownPolicy]]
) -> None:
    """The comparison's callbacks.

    Args:
        app: the application.
        sources: what to read.
        known: gives the policies that can be read, by key.
    """
    app.clientside_callback(
        "function(clicks, first, second) { return [second, first]; }",
        Output(FIRST, "value", allow_duplicate=True),
        Output(SECOND, "value", allow_duplicate=True),
        Input(SWAP, "n_clicks"),
        State(FIRST, "value"),
        State(SECOND, "value"),
        prevent_initial_call=True,
    )

    @app.callback(
        Output(_FIGURES, "children"),
        Output(_CURVES, "figure"),
        Output(f"{_CURVES}-words", "children"),
        Output(_PAIRED, "children"),
        Output(_SETTINGS, "children"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
        Input(SCHEME, "computedColorScheme"),
    )
    def compare(first: str | None, second: str | None, scheme: str | None) -> tuple[Any, ...]:
        """Everything that the two differ in."""
        policies = known()
        one, other = (contestant(key or "", policies) for key in (first, second))
        look = scheme_of(scheme)
        if one is None or other is None:
            nothing = dmc.Text("Choose two to compare.", c="dimmed", size="sm")
            return nothing, figure(look), "", nothing, nothing
        return (
            _figures(one, other),
            _curves(one, other, look),
            _curve_words(one, other),
            _paired_card(one, other, sources.runs, look),
            _settings(one, other),
        )


def _figures(one: Contestant, other: Contestant) -> Component:
    unlike = not_alike(one.policy, [other.policy])
    return html.Div(
        [
            *(
                [warning_card("Not measured alike; part of the difference is that", unlike)]
                if unlike
                else []
            ),
            plain_table(
                ("", one.name, other.name, "difference", "ahead"),
                [
                    _figure_row(found)
                    for found in side_by_side(one.row, other.row, task_of(one.policy.report))
                ],
                cells="number",
                narrow=True,
            ),
        ]
    )


def _figure_row(found: Figure) -> tuple[str, ...]:
    return found.name, found.first, found.second, found.difference or "–", _BETTER[found.better]


def _curves(one: Contestant, other: Contestant, scheme: Scheme) -> go.Figure:
    made = figure(
        scheme,
        height=380,
        hovermode="closest",
        xaxis={"title": "mean latency over large's", "tickformat": ".0%"},
        yaxis={"title": "accuracy retained", "tickformat": ".1%"},
    )
    ink = INKS[scheme]
    hull = one.policy.judgement.hull
    made.add_scatter(
        x=[spot.latency_ratio for spot in hull],
        y=[spot.retained for spot in hull],
        **lone_marks([spot.retained for spot in hull]),
        name="fixed rungs and random mixes",
        line={"color": ink.reference, "dash": "dash", "width": 1.5},
    )
    for which, colour, dash, symbol in (
        (one, ink.accent, "solid", "circle"),
        (other, ink.bad, "dashdot", "diamond"),
    ):
        if which.row.name == POLICY:
            curve = which.policy.judgement.curve
            made.add_scatter(
                x=[spot.latency_ratio for spot in curve],
                y=[spot.retained for spot in curve],
                text=[spot.setting for spot in curve],
                mode="lines+markers",
                name=f"{which.name}, its curve",
                line={"color": colour, "dash": dash, "width": 2},
                marker={"symbol": symbol, "size": 6},
                hovertemplate="%{text}<br>%{y:.1%} at %{x:.1%}<extra>" + which.name + "</extra>",
            )
        if which.row.retained is not None:
            made.add_scatter(
                x=[which.row.latency_ratio],
                y=[which.row.retained],
                mode="markers",
                name=which.name if which.row.name != POLICY else f"{which.name}, released",
                marker={
                    "symbol": symbol,
                    "size": 15,
                    "color": colour,
                    "line": {"width": 2, "color": ink.text},
                },
                hovertemplate="%{y:.1%} at %{x:.1%}<extra>" + which.name + "</extra>",
            )
    return made


def _curve_words(one: Contestant, other: Contestant) -> str:
    return ". ".join(
        f"{which.name} as compared: {which.row.retained or 0:.1%} retained "
        f"at {which.row.latency_ratio:.1%}"
        for which in (one, other)
    )


def _paired_card(
    one: Contestant, other: Contestant, runs: Sequence[Run], scheme: Scheme
) -> Component:
    """Their decisions on the same frames, or why they cannot be held against each other."""
    try:
        run = _common_run(one, other, runs)
        replay = _replay_of(run.replay, (run.replay / "replay.npz").stat().st_mtime_ns)
        weight = one.policy.judgement.latency_weight
        found = paired(replay, decisions(one, replay), decisions(other, replay), weight)
    except GearshiftError as error:
        return dmc.Text(str(error), c="dimmed", size="sm", className="wraps")
    low, high = found.reward_interval
    sure = "" if low <= 0 <= high else " (more than chance)"
    types = ", ".join(f"{name} {share:.0%}" for name, share in found.differing_by_type.items())
    summary = (
        f"They differ on {found.differing:.1%} of {found.frames:,} frames of "
        f"{found.clips} clips ({types}). Second less first, per frame: "
        f"quality {found.quality:+.4f}, latency {found.latency_ms:+.2f} ms, "
        f"reward {found.reward:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}{sure}, "
        f"at latency weight {found.latency_weight:.3g}."
    )
    return html.Div(
        [
            dmc.Text(summary.replace("-", "−"), size="sm", mb="xs"),
            _confusion(found, one.name, other.name, scheme),
            dmc.Text(f"Clips held out by run {run.name}.", size="xs", c="dimmed", mt="xs"),
        ]
    )


def _confusion(found: Paired, first: str, second: str, scheme: Scheme) -> Component:
    """Frames by both decisions, as a table whose shade follows the share."""
    total = max(1, found.frames)
    accent = INKS[scheme].accent

    def cell(count: int, same: bool) -> Component:
        shade = round(45 * (count / total) ** 0.5)
        return dmc.TableTd(
            f"{count:,}",
            style={
                "background": f"color-mix(in srgb, {accent} {shade}%, transparent)",
                "fontWeight": 700 if same else 400,
                "textAlign": "right",
            },
        )

    return dmc.Table(
        [
            dmc.TableCaption(f"frames by rung: {first} (rows), {second} (columns)"),
            dmc.TableThead(
                dmc.TableTr([dmc.TableTh("")] + [dmc.TableTh(rung, ta="right") for rung in LADDER])
            ),
            dmc.TableTbody(
                [
                    dmc.TableTr(
                        [html.Th(rung, scope="row", className="row-head")]
                        + [cell(count, row == column) for column, count in enumerate(counts)]
                    )
                    for row, (rung, counts) in enumerate(zip(LADDER, found.confusion, strict=True))
                ]
            ),
        ],
        withTableBorder=True,
        withColumnBorders=True,
        tabularNums=True,
        captionSide="top",
        fz="sm",
    )


def _settings(one: Contestant, other: Contestant) -> Component:
    if one.policy.key == other.policy.key:
        return dmc.Text("Both stand in one report: nothing differs.", c="dimmed", size="sm")
    try:
        found = changes(one.policy, other.policy)
    except GearshiftError as error:
        return dmc.Text(str(error), c="dimmed", size="sm", className="wraps")
    if not found:
        return dmc.Text("No setting that is recorded of both differs.", c="dimmed", size="sm")
    return html.Div(
        plain_table(
            ("setting", one.policy.name, other.policy.name),
            [(change.name, change.first, change.second) for change in found],
            cells="breaks",
            narrow=True,
        ),
        className="tall",
        tabIndex="0",
        role="region",
        **{"aria-label": "Settings that differ"},
    )


def _common_run(one: Contestant, other: Contestant, runs: Sequence[Run]) -> Run:
    """The run whose held-out clips both are routed over: the first's, the second's, or any."""
    mine = [which.policy.run for which in (one, other) if which.policy.run is not None]
    for run in (*mine, *runs):
        if (run.replay / "replay.npz").is_file():
            return run
    raise InvalidInput(
        "no run on this machine has its replay (replay/replay.npz), on which both could be "
        "routed; gearshift pipeline run leaves it"
    )


@lru_cache(maxsize=2)
def _replay_of(folder: Path, changed: int) -> Replay:
    return load_replay(folder).part("test")
