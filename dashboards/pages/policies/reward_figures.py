"""Charts of the reward calculator, and their words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.pages.policies.reward import Calculation
from dashboards.widgets.theme import INKS, RUNG_COLOURS, RUNG_PATTERNS, Scheme, figure
from inference_graph.contract import LADDER

SWEPT = np.geomspace(0.005, 1.0, 40)
"""Latency weights of the sweep."""
_TICKS = [0.01, 0.03, 0.1, 0.3, 1]


def shares_figure(found: Calculation, scheme: Scheme) -> go.Figure:
    """Stacked shares: all frames, then each scene type."""
    groups = {"all": found.overall, **found.scene_types}
    names = [f"{name} ({one.frames:,})" for name, one in groups.items()]
    made = figure(
        scheme,
        height=110 + 40 * len(groups),
        barmode="stack",
        hovermode="closest",
        legend={"traceorder": "normal"},
        xaxis={"tickformat": ".0%", "range": [0, 1]},
        yaxis={"autorange": "reversed"},
    )
    for rung in LADDER:
        shares = [one.shares[rung] for one in groups.values()]
        made.add_bar(
            y=names,
            x=shares,
            name=rung,
            orientation="h",
            text=[f"{share:.0%}" if share >= 0.08 else "" for share in shares],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            marker={
                "color": RUNG_COLOURS[scheme][rung],
                "pattern": _pattern(rung, scheme),
            },
            hovertemplate=f"{rung}: %{{x:.1%}}<extra>%{{y}}</extra>",
        )
    return made


def sweep_figure(
    shares: np.ndarray[Any, np.dtype[np.float64]], weight: float, scheme: Scheme
) -> go.Figure:
    """Stacked shares over the latency weight; a line stands at the present one."""
    made = figure(
        scheme,
        height=240,
        legend={"traceorder": "normal"},
        xaxis={"type": "log", "title": "weight of latency, w_l", "tickvals": _TICKS},
        yaxis={"tickformat": ".0%", "range": [0, 1]},
    )
    for index, rung in enumerate(LADDER):
        made.add_scatter(
            x=SWEPT,
            y=shares[:, index],
            name=rung,
            mode="lines",
            stackgroup="shares",
            line={"color": RUNG_COLOURS[scheme][rung], "width": 1},
            fillcolor=RUNG_COLOURS[scheme][rung],
            fillpattern=_pattern(rung, scheme),
            hovertemplate="%{y:.1%}",
        )
    if SWEPT[0] <= weight <= SWEPT[-1]:
        made.add_vline(x=weight, line={"color": INKS[scheme].card, "width": 2, "dash": "dash"})
    made.update_xaxes(range=[math.log10(SWEPT[0]), math.log10(SWEPT[-1])])
    return made


def _pattern(rung: str, scheme: Scheme) -> dict[str, Any]:
    """A rung's colour with its pattern on it."""
    return {
        "shape": RUNG_PATTERNS[rung],
        "bgcolor": RUNG_COLOURS[scheme][rung],
        "fgcolor": INKS[scheme].card,
        "fillmode": "replace",
        "size": 10,
        "solidity": 0.07,
    }


def shares_words(found: Calculation) -> str:
    """The shares, for those who do not see them."""
    groups = {"all frames": found.overall, **found.scene_types}
    return "; ".join(
        f"{name}: " + ", ".join(f"{rung} {share:.0%}" for rung, share in one.shares.items())
        for name, one in groups.items()
    )


def sweep_words(shares: np.ndarray[Any, np.dtype[np.float64]]) -> str:
    """Both ends of the sweep, likewise."""

    def at(place: int) -> str:
        return ", ".join(
            f"{rung} {share:.0%}" for rung, share in zip(LADDER, shares[place], strict=True)
        )

    return f"At weight {SWEPT[0]:g}: {at(0)}; at weight {SWEPT[-1]:g}: {at(-1)}."
