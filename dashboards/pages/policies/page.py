"""Policies: what each keeps and costs, what the reward asks for, and how two of them differ."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Mapping
from typing import Any

import dash_mantine_components as dmc
from dash import ALL, Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from dashboards.page import Page
from dashboards.pages.policies.comparison import Contestant
from dashboards.pages.policies.comparison_view import (
    FIRST,
    SECOND,
    comparison_layout,
    policy_title,
    register_comparison,
)
from dashboards.pages.policies.reports import ALWAYS, ORACLE, POLICY, KnownPolicy, known_policies
from dashboards.pages.policies.reward_view import (
    DEFAULT_PART,
    PART,
    QUERY_NAMES,
    WEIGHTS,
    number_id,
    own_weights,
    register_reward,
    reward_layout,
)
from dashboards.pages.policies.trade_off import (
    COMPARE,
    contestants,
    register_trade_off,
    trade_off_layout,
)
from dashboards.sources import Sources
from dashboards.widgets.parts import empty_card, page_title, query_id, query_store, warning_card
from foundation.errors import GearshiftError

_NAME = "policies"
_SHOWN, _TABS, _BODY, _DEFAULTS = (
    "policies-shown",
    "policies-tabs",
    "policies-body",
    "policies-defaults",
)
_VIEWS = {"trade-off": "Trade-off", "reward": "Reward calculator", "compare": "Comparison"}
_FIRST_VIEW = "trade-off"
_TEXT = "What each policy keeps and costs, held against every honest alternative."

# Values beside their names; what stands at its default is left out of the address.
_ADDRESS = """function(report, view, first, second, parts, weights, defaults) {
    const names = %s;
    const given = {report: report, view: view, first: first, second: second, part: parts[0]};
    names.forEach((name, place) => { given[name] = weights[place]; });
    return Object.fromEntries(Object.entries(given)
        .filter(([name, value]) => value !== undefined && value !== null && value !== ''
            && value !== defaults[name])
        .map(([name, value]) => [name, String(value)]));
}"""


def layout(sources: Sources, query: Mapping[str, str]) -> Component:
    """The page; without a policy, the command that makes one."""
    policies, troubles = readable(sources)
    trouble = [warning_card("Not everything could be read", troubles)] if troubles else []
    if not policies:
        return dmc.Stack([page_title("Policies", _TEXT), *trouble, _nothing(sources)])
    shown = policies.get(query.get("report", "")) or next(iter(policies.values()))
    view = query.get("view", "")
    return html.Div(
        [
            page_title("Policies", _TEXT, _shown_select(shown, policies)),
            *trouble,
            query_store(_NAME, query),
            dmc.Tabs(
                [
                    dmc.TabsList(
                        [dmc.TabsTab(label, value=value) for value, label in _VIEWS.items()],
                        mb="sm",
                        className="one-line",
                    ),
                    html.Div(_body(shown, policies, sources, query), id=_BODY),
                ],
                id=_TABS,
                value=view if view in _VIEWS else _FIRST_VIEW,
            ),
        ]
    )


def readable(sources: Sources) -> tuple[dict[str, KnownPolicy], list[str]]:
    """Policies whose reports can be read, by key, and what is wrong with the rest."""
    troubles: list[str] = []
    try:
        registry = sources.registry
    except GearshiftError as error:
        registry = ()
        troubles.append(str(error))
    found: dict[str, KnownPolicy] = {}
    for one in known_policies(registry, sources.runs):
        try:
            _ = one.judgement.policy
        except GearshiftError as error:
            troubles.append(str(error))
        else:
            found[one.key] = one
    return found, troubles


def default_pair(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> tuple[str, str]:
    """The shown policy, against the next one or, if it is alone, against its best alternative."""
    other = next((key for key in policies if key != shown.key), None)
    if other is not None:
        return shown.key, other
    rivals = [
        row
        for row in shown.judgement.rows
        if row.name not in (POLICY, ORACLE)
        and not row.name.startswith(ALWAYS)
        and row.retained is not None
    ]
    rows = rivals or [row for row in shown.judgement.rows if row.name != POLICY]
    best = max(rows, key=lambda row: row.retained or 0.0, default=shown.judgement.policy)
    return shown.key, Contestant(shown, best).key


def _body(
    shown: KnownPolicy,
    policies: Mapping[str, KnownPolicy],
    sources: Sources,
    query: Mapping[str, str],
) -> list[Component]:
    """The three views of one report, and what of them the address leaves out."""
    pair = default_pair(shown, policies)
    known = {one.key: one for one in contestants(shown, policies)}
    first, second = (
        wanted if wanted in known else default
        for wanted, default in zip(
            (query.get("first", ""), query.get("second", "")), pair, strict=True
        )
    )
    defaults = {
        "report": next(iter(policies)),
        "view": _FIRST_VIEW,
        "first": pair[0],
        "second": pair[1],
        "part": DEFAULT_PART,
        **own_weights(shown, sources),
    }
    return [
        dcc.Store(id=_DEFAULTS, data=defaults),
        dmc.TabsPanel(trade_off_layout(shown, policies), value="trade-off"),
        dmc.TabsPanel(reward_layout(shown, sources, query), value="reward"),
        dmc.TabsPanel(comparison_layout(shown, policies, first, second), value="compare"),
    ]


def _nothing(sources: Sources) -> Component:
    return empty_card(
        "There is no policy yet",
        f"Nothing is registered in MLflow, and no run left a report in {sources.config.runs}. "
        "The demo trains a policy, judges it, and registers it if it passes the gate.",
        (f"gearshift demo --out {shlex.quote(str(sources.config.runs))}",),
    )


def _shown_select(shown: KnownPolicy, policies: Mapping[str, KnownPolicy]) -> Component:
    return dmc.Select(
        id=_SHOWN,
        label="Report of",
        data=[{"value": one.key, "label": policy_title(one)} for one in policies.values()],
        value=shown.key,
        allowDeselect=False,
        checkIconPosition="right",
        w=230,
    )


def register(app: Dash, sources: Sources) -> None:
    """The page's callbacks."""

    def known() -> dict[str, KnownPolicy]:
        return readable(sources)[0]

    # MLflow takes seconds to load; who opens the page first shall not wait for all of them.
    threading.Thread(target=known, name="policies", daemon=True).start()
    register_trade_off(app, known)
    register_reward(app, sources)
    register_comparison(app, sources, known)

    @app.callback(Output(_BODY, "children"), Input(_SHOWN, "value"), prevent_initial_call=True)
    def show_report(shown: str | None) -> Any:
        """Another report: its alternatives, its run and all defaults change with it."""
        policies = known()
        return _body(policies[shown], policies, sources, {}) if shown in policies else no_update

    app.clientside_callback(
        "function() { window.scrollTo(0, 0); return 'compare'; }",
        Output(_TABS, "value"),
        Input(COMPARE, "n_clicks"),
        prevent_initial_call=True,
    )
    app.clientside_callback(
        # A chart drawn while its view was hidden has the wrong width until the window changes.
        "function() { setTimeout(() => window.dispatchEvent(new Event('resize')), 50); }",
        Input(_TABS, "value"),
    )
    app.clientside_callback(
        _ADDRESS % json.dumps([QUERY_NAMES[name] for name in WEIGHTS]),
        Output(query_id(_NAME), "data"),
        Input(_SHOWN, "value"),
        Input(_TABS, "value"),
        Input(FIRST, "value"),
        Input(SECOND, "value"),
        # A page without the calculator has none of these.
        Input({"kind": PART["kind"], "page": ALL}, "value"),
        Input({"kind": number_id("")["kind"], "weight": ALL}, "value"),
        State(_DEFAULTS, "data"),
        prevent_initial_call=True,
    )


PAGE = Page("/policies", "Policies", "policies", layout, register)
