"""The reward calculator as a part of the page: three weights, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html, no_update
from dash.development.base_component import Component

from components.profiling.replay import PARTS
from dashboards.pages.policies.reports import KnownPolicy
from dashboards.pages.policies.reward import (
    Calculation,
    Profile,
    Weights,
    calculate,
    load_profile,
    sweep,
)
from dashboards.pages.policies.reward_figures import (
    SWEPT,
    shares_figure,
    shares_words,
    sweep_figure,
    sweep_words,
)
from dashboards.pages.policies.runs import Run
from dashboards.sources import Sources
from dashboards.widgets.parts import SCHEME, chart, empty_card, stat
from dashboards.widgets.theme import scheme_of
from dashboards.widgets.wording import few
from foundation.errors import InvalidInput

WEIGHTS = ("quality", "latency", "cost")
QUERY_NAMES = {"quality": "wq", "latency": "wl", "cost": "wc"}
PART = {"kind": "part", "page": "policies"}
DEFAULT_PART = "test"
_RUN, _RESET = "reward-run", "reward-reset"
_SHARES, _SWEEP = "reward-shares", "reward-sweep"
_STATS = ("latency", "savings", "cost", "quality", "changed")
_HIGHEST = {"quality": 3.0, "latency": 1.0, "cost": 1.0}
_STEP = {"quality": 0.05, "latency": 0.005, "cost": 0.005}
_WHOLE = "all"

# One value, two inputs: whichever was moved sets the other one.
_SYNC = """function(slid, typed) {
    const moved = window.dash_clientside.callback_context.triggered_id;
    const none = window.dash_clientside.no_update;
    if (!moved || slid === typed) { return [none, none]; }
    if (moved.kind === 'slider') { return [none, slid]; }
    return typeof typed === 'number' && isFinite(typed) ? [typed, none] : [none, none];
}"""


def number_id(weight: str) -> dict[str, str]:
    """Id of the number input of a weight."""
    return {"kind": "number", "weight": weight}


def _slider_id(weight: str) -> dict[str, str]:
    return {"kind": "slider", "weight": weight}


def own_weights(shown: KnownPolicy, sources: Sources) -> dict[str, float]:
    """The weights of the run's own labels, as the address names them; none without a profile."""
    run = _run_with_profile(shown, sources.runs)
    if run is None:
        return {}
    own = profile_of(run.profile).own
    return {QUERY_NAMES[name]: getattr(own, name) for name in WEIGHTS}


def _run_with_profile(shown: KnownPolicy, runs: tuple[Run, ...]) -> Run | None:
    """The shown policy's run, or another one whose profile is on this machine; None if none is."""
    mine = [shown.run] if shown.run is not None else []
    return next((run for run in (*mine, *runs) if run.profile.is_file()), None)


def reward_layout(shown: KnownPolicy, sources: Sources, query: Mapping[str, str]) -> Component:
    """The calculator of a policy's run; where no profile is, what makes one."""
    run = _run_with_profile(shown, sources.runs)
    if run is None:
        return empty_card(
            "No profile on this machine",
            "The calculator needs what a run knows of every frame and rung "
            f"(replay/profile.parquet in {sources.config.runs}). A run leaves it there.",
            ("gearshift pipeline run --out runs/mine",),
        )
    profile = profile_of(run.profile)
    own = profile.own
    inputs = [_weight(name, _asked(query, name, getattr(own, name)), own) for name in WEIGHTS]
    part = query.get("part", DEFAULT_PART)
    return html.Div(
        [
            dcc.Store(id=_RUN, data=run.name),
            dmc.Grid(
                [
                    dmc.GridCol(_controls(run, profile, inputs, part), span={"base": 12, "md": 4}),
                    dmc.GridCol(_results(), span={"base": 12, "md": 8}),
                ]
            ),
        ]
    )


def _weight(name: str, value: float, own: Weights) -> Component:
    titles = {"quality": "quality, w_q", "latency": "latency, w_l", "cost": "cost, w_c"}
    return html.Div(
        [
            dmc.Group(
                [
                    dmc.Text(f"Weight of {titles[name]}", size="sm", fw=500),
                    dmc.NumberInput(
                        id=number_id(name),
                        value=value,
                        min=0,
                        max=_HIGHEST[name],
                        step=_STEP[name],
                        decimalScale=4,
                        w=110,
                        size="xs",
                        **{"aria-label": f"Weight of {titles[name]}"},
                    ),
                ],
                justify="space-between",
                wrap="nowrap",
            ),
            dmc.Slider(
                id=_slider_id(name),
                value=value,
                min=0,
                max=_HIGHEST[name],
                step=_STEP[name],
                precision=4,
                label=None,
                updatemode="drag",
                thumbLabel=f"Weight of {titles[name]}",
                marks=[{"value": getattr(own, name)}]
                if getattr(own, name) <= _HIGHEST[name]
                else [],
                mb="xs",
            ),
        ]
    )


def _controls(run: Run, profile: Profile, inputs: list[Component], part: str) -> Component:
    return dmc.Card(
        [
            dmc.Title("What a frame's answer is worth", order=2, size="h5"),
            dmc.Text(
                "w_q · quality − w_l · latency − w_c · cost, the last two over large's means. "
                "The optimal label of a frame is the rung of the highest reward.",
                size="xs",
                c="dimmed",
                mb="sm",
            ),
            dmc.Stack(inputs, gap="xs"),
            *(
                [
                    dmc.Text(
                        "Here cost is latency at one price, so w_l and w_c pull alike.",
                        size="xs",
                        c="dimmed",
                    )
                ]
                if profile.cost_is_latency
                else []
            ),
            dmc.Text("Frames", size="sm", fw=500, mt="sm", id="reward-part-label"),
            dmc.SegmentedControl(
                id=PART,
                value=part if part in (*PARTS, _WHOLE) else DEFAULT_PART,
                data=[
                    {"value": "test", "label": "held out"},
                    {"value": "train", "label": "learned"},
                    {"value": _WHOLE, "label": "all"},
                ],
                size="xs",
                fullWidth=True,
                **{"aria-label": "Frames"},
            ),
            dmc.Button(
                "Back to the weights of this run",
                id=_RESET,
                size="xs",
                variant="default",
                mt="sm",
                fullWidth=True,
            ),
            dmc.Text(f"Profile of run {run.name}.", size="xs", c="dimmed", mt="xs"),
        ],
        withBorder=True,
        padding="sm",
    )


def _results() -> Component:
    titles = {
        "latency": "Mean latency",
        "savings": "Saved",
        "cost": "Cost per million",
        "quality": "Quality kept",
        "changed": "Labels changed",
    }
    return dmc.Stack(
        [
            dmc.SimpleGrid(
                [stat(f"reward-{name}", titles[name]) for name in _STATS],
                cols={"base": 2, "sm": 3, "xl": 5},
                spacing="sm",
            ),
            chart(_SHARES, "Where frames go", "Share of each rung among the optimal labels."),
            chart(
                _SWEEP,
                "The same at every price of latency",
                "Shares over w_l, at the other two weights; the line is where w_l stands.",
            ),
        ],
        gap="sm",
    )


def register_reward(app: Dash, sources: Sources) -> None:
    """The calculator's callbacks."""
    for name in WEIGHTS:
        app.clientside_callback(
            _SYNC,
            Output(_slider_id(name), "value"),
            Output(number_id(name), "value"),
            Input(_slider_id(name), "value"),
            Input(number_id(name), "value"),
            prevent_initial_call=True,
        )

    @app.callback(
        *(Output(number_id(name), "value", allow_duplicate=True) for name in WEIGHTS),
        Input(_RESET, "n_clicks"),
        State(_RUN, "data"),
        prevent_initial_call=True,
    )
    def reset(clicks: int | None, run: str) -> tuple[float, ...]:
        own = _profile_named(run, sources).own
        return own.quality, own.latency, own.cost

    @app.callback(
        Output(_SHARES, "figure"),
        Output(f"{_SHARES}-words", "children"),
        Output(_SWEEP, "figure"),
        Output(f"{_SWEEP}-words", "children"),
        *(Output(f"reward-{name}", "children") for name in _STATS),
        *(Output(f"reward-{name}-note", "children") for name in _STATS),
        *(Input(number_id(name), "value") for name in WEIGHTS),
        Input(PART, "value"),
        Input(SCHEME, "computedColorScheme"),
        Input(_RUN, "data"),
    )
    def answer(
        quality: Any, latency: Any, cost: Any, part: str, scheme: str | None, run: str
    ) -> tuple[Any, ...]:
        """Labels, shares and savings at the weights; half-typed numbers change nothing."""
        try:
            weights = Weights(float(quality), float(latency), float(cost))
        except (TypeError, ValueError, InvalidInput):
            return (no_update,) * (4 + 2 * len(_STATS))
        profile = _profile_named(run, sources)
        found = calculate(profile, weights, part)
        shares = sweep(profile, weights, SWEPT.tolist(), part)
        look = scheme_of(scheme)
        return (
            shares_figure(found, look),
            shares_words(found),
            sweep_figure(shares, weights.latency, look),
            sweep_words(shares),
            *_figures(found),
            *_notes(found, profile),
        )


def profile_of(path: Path) -> Profile:
    """The profile of a run, read once for as long as its file is the same.

    Raises:
        InvalidInput: it is missing or broken.
    """
    try:
        changed = path.stat().st_mtime_ns
    except OSError as error:
        raise InvalidInput(f"{path} is gone; run the pipeline again") from error
    return _read_profile(path, changed)


def _profile_named(name: str, sources: Sources) -> Profile:
    """The profile of a run; the browser sends its name, never a path.

    Raises:
        InvalidInput: there is no such run any more, or its profile is broken.
    """
    for run in sources.runs:
        if run.name == name and run.profile.is_file():
            return profile_of(run.profile)
    raise InvalidInput(f"the profile of run {name[:100]} is gone; reload the page")


@lru_cache(maxsize=4)
def _read_profile(path: Path, changed: int) -> Profile:
    return load_profile(path)


def _asked(query: Mapping[str, str], name: str, default: float) -> float:
    """A weight of the address; the run's own where it holds nothing that can be used."""
    try:
        value = float(query[QUERY_NAMES[name]])
    except (KeyError, ValueError):
        return default
    return value if 0 <= value <= _HIGHEST[name] else default


def _figures(found: Calculation) -> tuple[str, ...]:
    one = found.overall
    return (
        f"{one.latency_ms:.1f} ms",
        f"{one.savings:.1%}",
        f"${one.usd_per_million:.3f}",
        "–" if one.quality_ratio is None else f"{one.quality_ratio:.1%}",
        f"{found.changed:.1%}",
    )


def _notes(found: Calculation, profile: Profile) -> tuple[str, ...]:
    one, own = found.overall, profile.own
    large = one.usd_per_million / (1 - one.savings) if one.savings < 1 else math.nan
    return (
        f"{few(one.frames)}{one.latency_ratio:.1%} of large's, without the router",
        "of what always large costs",
        f"{few(one.frames)}always large: ${large:.3f}",
        "of large's contribution to the accuracy; labels know the answer beforehand",
        f"against this run's: {own.quality:g}, {own.latency:g}, {own.cost:g}",
    )
