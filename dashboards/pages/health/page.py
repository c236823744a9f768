"""Health: services, alerts, drift, canaries and the log, each as last known and how long ago."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, dcc, html
from dash.development.base_component import Component

from dashboards.log.health import LogHealth, read_log_health
from dashboards.page import Page
from dashboards.pages.health.drift_card import Checked, drift_card
from dashboards.pages.health.poller import Polled, Poller
from dashboards.pages.health.prometheus_alerts import Alert, AlertState, read_prometheus
from dashboards.pages.health.rollout_card import RolloutStatus, rollout_card
from dashboards.pages.health.service_health import GatewayHealth, RungHealth, read_gateway
from dashboards.pages.health.status_card import State, ago, badge, card
from dashboards.sources import Sources
from dashboards.widgets.local_time import clock
from dashboards.widgets.parts import page_title, titled_card
from dashboards.widgets.tables import plain_table
from inference_graph.control.drift_state import read_state
from inference_graph.control.rollout.state import read_state as read_rollout

_TICK, _GATEWAY, _ALERTS, _HISTORY, _LOG, _RUNGS, _VERDICT, _DRIFT, _ROLLOUT = (
    "health-tick",
    "health-gateway",
    "health-alerts",
    "health-history",
    "health-log",
    "health-rungs",
    "health-verdict",
    "health-drift",
    "health-rollout",
)
_EPISODES = 50
_STALE_SECONDS = 300.0
"""A log whose newest row is older is no longer being written, or no stream runs."""

_CIRCUITS: Mapping[str, tuple[State, str]] = {
    "healthy": ("well", "in use"),
    "unhealthy": ("bad", "left alone"),
    "recovering": ("watch", "being probed"),
    # The words of gateways up to 0.1.
    "closed": ("well", "in use"),
    "open": ("bad", "left alone"),
    "half-open": ("watch", "being probed"),
}
"""State and word of a rung by what ``/readyz`` reports of it."""


class Watch:
    """What is looked at; nothing is before the page is open."""

    def __init__(self, sources: Sources) -> None:
        """Look at the gateway, the Prometheus and the log of the configuration."""
        config = sources.config
        token = os.environ.get("GEARSHIFT_TOKEN", "")
        every = max(2.0, config.refresh_seconds)
        self.gateway: Poller[GatewayHealth] | None = (
            Poller(partial(read_gateway, config.gateway_url, token), every)
            if config.gateway_url
            else None
        )
        self.alerts: Poller[AlertState] | None = (
            Poller(partial(read_prometheus, config.prometheus_url), every)
            if config.prometheus_url
            else None
        )
        self.log = Poller(lambda: read_log_health(sources.log.place), max(5.0, every))
        self.drift = Poller(lambda: Checked(read_state(config.drift)), max(5.0, every))
        self.rollout = Poller(lambda: RolloutStatus(read_rollout(config.rollout)), every)


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; it fills as the looks come back."""
    seconds = max(1.0, sources.config.refresh_seconds)
    return dmc.Stack(
        [
            page_title(
                "Health",
                "Whether the services answer, what alerts say, and whether the log is fresh.",
                html.Div(badge("unknown", "looking"), id=_VERDICT, role="status"),
            ),
            dcc.Interval(id=_TICK, interval=seconds * 1000),
            dmc.SimpleGrid(
                [html.Div(id=_GATEWAY), html.Div(id=f"{_ALERTS}-card"), html.Div(id=_LOG)],
                cols={"base": 1, "sm": 3},
                spacing="sm",
            ),
            titled_card("Rungs", html.Div(id=_RUNGS)),
            titled_card("What fires", html.Div(id=_ALERTS)),
            titled_card("What fired in the last 24 hours", html.Div(id=_HISTORY)),
            dmc.SimpleGrid(
                [
                    html.Div(id=_DRIFT),
                    html.Div(id=_ROLLOUT),
                ],
                cols={"base": 1, "sm": 2},
                spacing="sm",
            ),
        ],
        gap="sm",
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callback."""
    watch = Watch(sources)

    @app.callback(
        Output(_VERDICT, "children"),
        Output(_GATEWAY, "children"),
        Output(f"{_ALERTS}-card", "children"),
        Output(_LOG, "children"),
        Output(_RUNGS, "children"),
        Output(_ALERTS, "children"),
        Output(_HISTORY, "children"),
        Output(_DRIFT, "children"),
        Output(_ROLLOUT, "children"),
        Input(_TICK, "n_intervals"),
    )
    def update(ticks: int | None) -> tuple[Component, ...]:
        """What is known now; nothing here waits for a service."""
        gateway = watch.gateway.get() if watch.gateway is not None else None
        alerts = watch.alerts.get() if watch.alerts is not None else None
        log = watch.log.get()
        now = datetime.now(UTC)
        cards = (gateway_card(gateway, now), alerts_card(alerts, now), log_card(log, now))
        asked = (drift_card(watch.drift.get(), now), rollout_card(watch.rollout.get(), now))
        return (
            # A drift check or a rollout that was never started is no problem.
            _verdict([state for state, _ in cards] + [one for one, _ in asked if one != "unknown"]),
            *(card for _, card in cards),
            _rungs(gateway),
            _alerts(alerts, now),
            _history(alerts),
            *(shown for _, shown in asked),
        )


def gateway_card(known: Polled[GatewayHealth] | None, now: datetime) -> tuple[State, Component]:
    """The gateway's state, and its card."""
    if known is None:
        return "unknown", card("Gateway", "unknown", "not configured", ["Give --gateway-url."])
    if known.looking:
        return "unknown", card("Gateway", "unknown", "looking", [])
    if known.failure is not None or known.value is None:
        last = [] if known.seen is None else [f"It last answered {ago(known.seen, now)}."]
        return "bad", card("Gateway", "bad", "does not answer", [str(known.failure), *last])
    found = known.value
    lines = [found.detail] if found.detail else []
    if found.unread:
        lines.append(found.unread)
    if found.frames is not None:
        lines.append(
            f"{found.frames:,} frames answered, {found.fallbacks or 0:,} by another rung than "
            f"chosen, {found.errors or 0:,} without an answer, {found.dropped or 0:,} dropped for "
            f"a newer one; {found.streams or 0} streams open."
        )
    if found.failing:
        lines.append(f"Its log fails to {', '.join(found.failing)}.")
    left_alone = [rung.name for rung in found.rungs if rung.used is False]
    state: State = "well"
    word = "ready"
    if not found.ready:
        state, word = "bad", "answers no frames"
    elif left_alone or found.failing:
        state = "watch"
        word = f"ready, without {' and '.join(left_alone)}" if left_alone else "ready, log failing"
    return state, card("Gateway", state, word, [*lines, f"Seen {ago(known.seen, now)}."])


def alerts_card(known: Polled[AlertState] | None, now: datetime) -> tuple[State, Component]:
    """The alerts' state, and their card."""
    if known is None:
        return "unknown", card(
            "Alerts", "unknown", "not configured", ["No Prometheus is named; see below."]
        )
    if known.looking:
        return "unknown", card("Alerts", "unknown", "looking", [])
    stale = [] if known.failure is None else [str(known.failure)]
    if known.value is None:
        return "bad", card("Alerts", "bad", "not known", stale)
    found = known.value
    pending = len(found.alerts) - found.firing
    lines = [f"{found.rules} rules evaluated, {pending} pending."]
    lines += [f"Cannot be evaluated: {rule}" for rule in found.broken]
    state: State = "well"
    if any(alert.state == "firing" and alert.severity == "critical" for alert in found.alerts):
        state = "bad"
    elif found.firing or found.broken or stale:
        state = "watch"
    word = f"{found.firing} firing" if found.firing else "none firing"
    return state, card("Alerts", state, word, [*stale, *lines, f"Seen {ago(known.seen, now)}."])


def log_card(known: Polled[LogHealth], now: datetime) -> tuple[State, Component]:
    """The log's state, and its card."""
    title = "Prediction log"
    if known.looking:
        return "unknown", card(title, "unknown", "looking", [])
    stale = [] if known.failure is None else [str(known.failure)]
    if known.value is None:
        return "bad", card(title, "bad", "cannot be read", stale)
    found = known.value
    waiting = (
        f"{found.journals} journals, {found.backlog_bytes / 1e6:.1f} MB, wait to become Parquet"
        if found.journals
        else "No journal waits on this machine"
    )
    lines = [f"{waiting}; {found.sessions} summaries of sessions wait."]
    state: State = "well"
    if found.damaged:
        state = "bad"
        lines.append(
            f"{found.damaged} journals were set aside (*.damaged, *.refused); *.reason says why."
        )
    if found.newest is None:
        state, word = ("unknown" if state == "well" else state), "empty"
        lines.insert(0, "Start gearshift up and send frames; each answer becomes a row.")
    else:
        word = f"newest row {ago(found.newest, now)}"
        if (now - found.newest).total_seconds() > _STALE_SECONDS and state == "well":
            state = "watch"
            lines.insert(0, "Nothing was logged since: no stream runs, or the log stalled.")
    if stale and state == "well":
        state = "watch"
    return state, card(title, state, word, [*stale, *lines, f"Seen {ago(known.seen, now)}."])


def _verdict(states: Sequence[State]) -> Component:
    bad, watch = states.count("bad"), states.count("watch")
    if bad:
        return badge("bad", f"{bad} in trouble")
    if watch:
        return badge("watch", f"{watch} to watch")
    if states.count("well") == len(states):
        return badge("well", "All is well")
    return badge("unknown", "Not everything is known")


def _rungs(known: Polled[GatewayHealth] | None) -> Component:
    if known is None or known.value is None or not known.value.rungs:
        return dmc.Text("The rungs are not known: no gateway has answered.", c="dimmed", size="sm")
    old = known.failure is not None
    note = [dmc.Text("As of the gateway's last answer.", size="xs", c="dimmed")] if old else []
    head = ("rung", "state", "waiting", "expected wait", "answers")
    return html.Div([plain_table(head, [rung_row(rung) for rung in known.value.rungs]), *note])


def rung_row(rung: RungHealth) -> list[Any]:
    """The cells of a rung; a failure that did not take it out of use stands behind its state."""
    circuit, _, reason = (rung.circuit or ("healthy" if rung.used else "unhealthy")).partition(": ")
    state, word = _CIRCUITS.get(circuit, ("unknown", circuit))
    if reason and rung.used:
        reason = f"last failure: {reason}"
    return [
        rung.name,
        html.Span([badge(state, word), f" {reason}" if reason else ""]),
        "–" if rung.waiting is None else str(rung.waiting),
        "–" if rung.wait_ms is None else f"{rung.wait_ms:.1f} ms",
        "–" if rung.answers is None else f"{rung.answers:,}",
    ]


def _alerts(known: Polled[AlertState] | None, now: datetime) -> Component:
    if known is None:
        return html.Div(
            [
                dmc.Text(
                    "No Prometheus is named. Start one beside the services, with the project's "
                    "rules, and give its address to the dashboard:",
                    c="dimmed",
                    size="sm",
                ),
                dmc.Code(
                    "gearshift up --monitoring\n"
                    "gearshift dashboard --prometheus-url http://127.0.0.1:9090",
                    block=True,
                    mt="xs",
                    className="wraps",
                ),
            ]
        )
    if known.value is None:
        return dmc.Text(str(known.failure or "Looking."), c="dimmed", size="sm")
    if not known.value.alerts:
        return dmc.Text("No alert is firing or pending.", c="dimmed", size="sm")
    head = ("alert", "state", "severity", "since", "what to do")
    return plain_table(head, [_alert_row(alert, now) for alert in known.value.alerts])


def _history(known: Polled[AlertState] | None) -> Component:
    if known is None or known.value is None:
        return dmc.Text("Not known without a Prometheus.", c="dimmed", size="sm")
    if not known.value.history:
        return dmc.Text("No alert fired.", c="dimmed", size="sm")
    rows = [
        [
            html.Div([one.name, dmc.Text(one.labels, size="xs", c="dimmed", className="breaks")]),
            one.severity or "–",
            clock(one.begin),
            "still firing" if one.end is None else clock(one.end),
        ]
        for one in known.value.history[:_EPISODES]
    ]
    return plain_table(("alert", "severity", "from", "to"), rows)


def _alert_row(alert: Alert, now: datetime) -> list[Any]:
    state: State = "watch"
    if alert.state == "firing" and alert.severity == "critical":
        state = "bad"
    runbook = [dmc.Anchor("Runbook", href=alert.runbook, size="sm")] if alert.runbook else []
    return [
        html.Div([alert.name, dmc.Text(alert.labels, size="xs", c="dimmed", className="breaks")]),
        badge(state, alert.state),
        alert.severity or "–",
        ago(alert.since, now) if alert.since else "–",
        html.Div([dmc.Text(alert.summary or alert.description, size="sm"), *runbook]),
    ]


PAGE = Page("/health", "Health", "health", layout, register)
