"""Live: where frames go now, how long that takes, what it saves and what accuracy it costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import dash_mantine_components as dmc
import plotly.graph_objects as go
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.log.figures import Filter, Totals
from dashboards.log.memory import Reading
from dashboards.log.queries import LogQueries
from dashboards.page import Page
from dashboards.pages.live.figures import (
    agreement_figure,
    judged,
    rate_figure,
    shares_figure,
    stages_figure,
    trouble_figure,
)
from dashboards.pages.live.frames import frame_cards
from dashboards.pages.live.stats import STATS, live_stats
from dashboards.sources import Sources
from dashboards.widgets.local_time import clock, deployments_here, timeline_here
from dashboards.widgets.parts import (
    AGREEMENT_HINT,
    AUTOMATIC_LOG,
    SCHEME,
    chart,
    clear_error,
    empty_card,
    log_picker,
    not_compared,
    page_title,
    paused_while_running,
    query_id,
    query_store,
    stat,
    warning_card,
)
from dashboards.widgets.theme import Scheme, mark_deployments, scheme_of
from dashboards.widgets.wording import few

_WINDOWS = {
    "5m": ("5 min", 300),
    "15m": ("15 min", 900),
    "1h": ("1 h", 3600),
    "24h": ("24 h", 86_400),
}
_WINDOW = "15m"
_FLEET = {"robots": 10.0, "fps": 10.0}
_FRAMES = 6
_CHARTS = ("shares", "stages", "agreement-chart", "rate-chart", "trouble-chart")


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page as the address asks for it."""
    window = query.get("window", "")
    refresh = sources.config.refresh_seconds
    return dmc.Stack(
        [
            page_title(
                "Live",
                "Where frames go now, what that saves and what accuracy it costs.",
                dmc.Text(id="live-updated", size="sm", c="dimmed", className="breaks"),
                log_picker("live-log", sources.logs, query.get("log")),
                dmc.SegmentedControl(
                    id="live-window",
                    data=[{"value": key, "label": name} for key, (name, _) in _WINDOWS.items()],
                    value=window if window in _WINDOWS else _WINDOW,
                    **{"aria-label": "How far back"},
                ),
                dmc.Switch(id="live-follow", label="Follow", checked=query.get("follow") != "no"),
            ),
            html.Div(id="live-hint"),
            html.Div(_body(sources, query), id="live-body", style={"display": "none"}),
            dcc.Interval(id="live-tick", interval=refresh * 1000),
            dcc.Store(id="live-shown"),
            query_store("live", query),
        ],
        gap="md",
    )


def _body(sources: Sources, query: Mapping[str, str]) -> Component:
    return dmc.Stack(
        [
            dmc.SimpleGrid(
                [
                    stat("live-rate", "Frames per second", "Answered, over the time they span."),
                    stat("live-latency", "Time to the answer, p95"),
                    stat("live-agreement", "Agreement with large", AGREEMENT_HINT),
                    stat("live-cost", "Cost per million", "Mean busy time times the price."),
                    stat("live-savings", "Saved per month", "Against large on the same frames."),
                    stat("live-trouble", "Fallbacks and drops"),
                ],
                cols={"base": 2, "sm": 3, "xl": 6},
                spacing="sm",
            ),
            dmc.Grid(
                [
                    dmc.GridCol(
                        chart("live-shares", "Where frames go", "Share of the frames by rung."),
                        span={"base": 12, "md": 7},
                    ),
                    dmc.GridCol(
                        chart(
                            "live-stages",
                            "How long each stage takes",
                            "Median, 95th and 99th percentile; within 1 %.",
                        ),
                        span={"base": 12, "md": 5},
                    ),
                    dmc.GridCol(
                        chart(
                            "live-agreement-chart",
                            "Agreement with large",
                            "Thin line: when the policy was judged.",
                        ),
                        span={"base": 12, "md": 6},
                    ),
                    dmc.GridCol(
                        chart("live-rate-chart", "Frames per second"), span={"base": 12, "md": 6}
                    ),
                    dmc.GridCol(
                        chart("live-trouble-chart", "What went wrong"), span={"base": 12, "md": 7}
                    ),
                    dmc.GridCol(_fleet(sources, query), span={"base": 12, "md": 5}),
                ],
                gutter="sm",
            ),
            dmc.Title("Newest frames", order=2, size="h4"),
            html.Div(id="live-frames"),
        ]
    )


def _fleet(sources: Sources, query: Mapping[str, str]) -> Component:
    """What the reader enters about the fleet, from which the savings follow."""
    fields = (
        ("robots", "Robots", _FLEET["robots"], 1, "that stream around the clock"),
        ("fps", "Frames per second", _FLEET["fps"], 0.1, "of each robot"),
        ("price", "Price of an hour, USD", sources.price_per_hour, 0.001, "of one machine"),
    )
    return dmc.Card(
        [
            dmc.Title("Your fleet", order=2, size="h5"),
            dmc.Text("What it saves follows at once.", size="xs", c="dimmed", mb="xs"),
            *(
                dmc.NumberInput(
                    id=f"live-{name}",
                    label=label,
                    description=hint,
                    min=least,
                    size="sm",
                    value=_number(query.get(name), default),
                    allowNegative=False,
                    mb=4,
                )
                for name, label, default, least, hint in fields
            ),
        ],
        withBorder=True,
        padding="sm",
        h="100%",
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""

    @app.callback(
        output={
            "hint": Output("live-hint", "children"),
            "body": Output("live-body", "style"),
            "updated": Output("live-updated", "children"),
            "stats": [Output(f"live-{name}", "children") for name in STATS],
            "notes": [Output(f"live-{name}-note", "children") for name in STATS],
            "figures": [Output(f"live-{name}", "figure") for name in _CHARTS],
            "words": [Output(f"live-{name}-words", "children") for name in _CHARTS],
            "judged": Output("live-shares-hint", "children"),
            "measured": Output("live-stages-hint", "children"),
        },
        inputs={
            "_": Input("live-tick", "n_intervals"),
            "name": Input("live-log", "value"),
            "window": Input("live-window", "value"),
            "robots": Input("live-robots", "value"),
            "fps": Input("live-fps", "value"),
            "price": Input("live-price", "value"),
            "scheme": Input(SCHEME, "computedColorScheme"),
        },
        running=paused_while_running("live-tick"),
    )
    def show(
        _: int | None,
        name: str,
        window: str,
        robots: float | str,
        fps: float | str,
        price: float | str,
        scheme: str | None,
    ) -> dict[str, Any]:
        """Everything but the frames, from one look at the log."""
        log = sources.log_of(name)
        reading = log.refresh()
        clear_error()
        chosen, now = _window(window)
        totals = log.totals(chosen)
        kept = log.agreement(chosen)
        hint = _hint(log, reading, totals, window, name)
        if not totals.rows:
            shown = {"display": "none"}
            return {
                "hint": hint,
                "body": shown,
                "updated": clock(now),
                "stats": [no_update] * len(STATS),
                "notes": [no_update] * len(STATS),
                "figures": [no_update] * len(_CHARTS),
                "words": [no_update] * len(_CHARTS),
                "judged": no_update,
                "measured": no_update,
            }
        line, stages = timeline_here(log.timeline(chosen, now)), log.stages(chosen)
        deployed = deployments_here(log.deployments(chosen))
        policy = next(iter(totals.policies), "")
        expected, trained = sources.expected_shares(policy), sources.trained_agreement(policy)
        colours = scheme_of(scheme)
        drawn = (
            _marked(shares_figure(line, expected, colours), deployed, colours),
            stages_figure(stages, colours),
            _marked(agreement_figure(line, trained, colours), deployed, colours),
            rate_figure(line, colours),
            trouble_figure(line, colours),
        )
        fleet = (_number(robots, 0.0), _number(fps, 0.0), _number(price, sources.price_per_hour))
        figures = live_stats(
            totals,
            stages["total"].percentile,
            kept,
            log.saved(chosen),
            fleet,
            trained=trained,
            reported_ms=sources.reference_ms(policy),
        )
        return {
            "hint": [*hint, *not_compared(kept.shadowed, totals.unlike_large)],
            "body": {},
            "updated": ", ".join(
                (log.name, _in_use(totals), *_gateway(sources), f"updated {clock(now)}")
            ),
            "stats": [value for value, _ in figures],
            "notes": [note for _, note in figures],
            "figures": [made for made, _ in drawn],
            "words": [words for _, words in drawn],
            "judged": judged(expected),
            "measured": f"Median, 95th and 99th percentile; {few(totals.answered)}within 1 %.",
        }

    @app.callback(
        Output("live-frames", "children"),
        Output("live-shown", "data"),
        Input("live-updated", "children"),
        State("live-log", "value"),
        State("live-window", "value"),
        State("live-shown", "data"),
    )
    def show_frames(
        _: str | None, name: str, window: str, shown: list[str] | None
    ) -> tuple[Any, Any]:
        """The newest frames; those that stand there already are left alone."""
        chosen, _now = _window(window)
        log = sources.log_of(name)
        newest = log.frames(Filter(since=chosen.since, images=True), _FRAMES)
        keys = [frame.key for frame in newest]
        if keys == shown:
            return no_update, no_update
        frames = [log.frame(key) for key in keys]
        found = [frame for frame in frames if frame is not None]
        return frame_cards(found, sources.class_names, _log_query(name)), keys

    @app.callback(Output("live-tick", "disabled"), Input("live-follow", "checked"))
    def follow(checked: bool) -> bool:
        return not checked

    @app.callback(
        Output(query_id("live"), "data"),
        Input("live-log", "value"),
        Input("live-window", "value"),
        Input("live-follow", "checked"),
        Input("live-robots", "value"),
        Input("live-fps", "value"),
        Input("live-price", "value"),
    )
    def address(
        name: str,
        window: str,
        checked: bool,
        robots: float | str,
        fps: float | str,
        price: float | str,
    ) -> dict[str, str]:
        """The address of the view."""
        state = {"log": name, "window": window, "robots": robots, "fps": fps, "price": price}
        usual = {"log": AUTOMATIC_LOG, "window": _WINDOW, **_FLEET, "price": sources.price_per_hour}
        changed = {
            name: str(value)
            for name, value in state.items()
            if value not in ("", None) and value != usual[name]
        }
        return changed | ({} if checked else {"follow": "no"})


def _window(name: str) -> tuple[Filter, datetime]:
    now = datetime.now(UTC)
    _, seconds = _WINDOWS.get(name, _WINDOWS[_WINDOW])
    return Filter(since=now - timedelta(seconds=seconds)), now


def _marked(
    drawn: tuple[go.Figure, str], deployments: Sequence[tuple[datetime, str]], scheme: Scheme
) -> tuple[go.Figure, str]:
    made, words = drawn
    return made, words + mark_deployments(made, deployments, scheme)


def _in_use(totals: Totals) -> str:
    """Which policies decided in the window, the most frequent first."""
    names = [name or "none" for name in totals.policies]
    return "no policy" if not names else f"policy {' and '.join(names[:3])}"


def _gateway(sources: Sources) -> list[str]:
    """Where the gateway is that the page Health watches; empty without one."""
    host = urlsplit(sources.config.gateway_url).netloc
    return [f"gateway {host}"] if host else []


def _log_query(name: str) -> str:
    """The end of an address that keeps a chosen log."""
    return "" if name == AUTOMATIC_LOG else f"&log={quote(name)}"


def _hint(
    log: LogQueries, reading: Reading, totals: Totals, window: str, name: str
) -> list[Component]:
    """What stands above the figures: what is missing, or what cannot be read."""
    notices: list[Component] = []
    if reading.problems:
        notices.append(warning_card("A part of the log is left out", reading.problems))
    if not reading.complete:
        notices.append(
            dmc.Text(
                f"Reading the log: {reading.parts} of {reading.parts_found} files, newest first.",
                size="sm",
                c="dimmed",
            )
        )
    if totals.rows:
        return notices
    span = log.span()
    if span is None:
        return notices if reading.problems or not reading.complete else [*notices, no_log(log)]
    first = max(span[0], span[1] - timedelta(hours=1))
    notices.append(
        dmc.Card(
            [
                dmc.Title(f"Nothing arrived in the last {_WINDOWS[window][0]}", order=2, size="h4"),
                dmc.Text(
                    f"The newest answer is from {clock(span[1])}. The page goes on by itself when "
                    "frames arrive.",
                    c="dimmed",
                    mt=4,
                ),
                dmc.Anchor(
                    "Look at the last hour there was in Explore",
                    href=f"/explore?from={quote(first.strftime('%Y-%m-%dT%H:%M'))}"
                    + _log_query(name),
                    mt="sm",
                ),
            ],
            withBorder=True,
            padding="lg",
            className="empty",
        )
    )
    return notices


def no_log(log: LogQueries) -> Component:
    """What to type where nothing was logged yet."""
    return empty_card(
        "No answer was logged yet",
        f"The dashboard reads the prediction log at {log.name}. "
        "Start the services and send them a video; the page fills by itself.",
        (
            "gearshift up --open-access",
            "gearshift stream runs/demo/street/clips/*.mp4 --tag condition=day",
        ),
    )


def _number(given: float | str | None, usual: float) -> float:
    """A number as the reader typed it; the usual one for anything else."""
    try:
        value = float(given) if given not in ("", None) else usual
    except ValueError:
        return usual
    return value if math.isfinite(value) and value >= 0 else usual


PAGE = Page("/", "Live", "live", layout, register)
