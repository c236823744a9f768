"""Charts of the evaluation report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from components.page import (
    MUTED,
    OURS,
    RUNG_COLOURS,
    html,
)
from inference_graph.contract import LADDER

_TEMPLATE = "plotly_white"
_SYMBOLS = {
    "random-mix": "circle-open",
    "edge-density": "diamond",
    "object-count": "square",
    "cascade": "triangle-up",
    "previous-frame": "cross",
    "bc": "star-triangle-down",
}


def pareto_chart(report: Mapping[str, Any]) -> go.Figure:
    """Accuracy retained against mean latency: alternatives, policy, hull and oracle."""
    figure = go.Figure()
    for key, name, dash in (
        ("oracle_hull", "oracle", "dot"),
        ("hull", "fixed rungs and random mixes", "dash"),
    ):
        line = report[key]
        figure.add_scatter(
            x=[p["latency_ratio"] for p in line],
            y=[p["retained"] for p in line],
            mode="lines" if len(line) > 1 else "markers",  # one point makes no line
            name=name,
            line={"dash": dash, "color": MUTED},
            marker={"color": MUTED},
        )
    for name, points in report["points"].items():
        if name in ("oracle", "gearshift"):
            continue
        figure.add_scatter(
            x=[p["latency_ratio"] for p in points],
            y=[p["retained"] for p in points],
            text=[p["name"] for p in points],
            mode="markers",
            name=name,
            marker={"symbol": _SYMBOLS.get(name, "circle"), "size": 8, "opacity": 0.7},
        )
    curve = report["curve"]
    figure.add_scatter(
        x=[p["latency_ratio"] for p in curve],
        y=[p["retained"] for p in curve],
        text=[f"latency weight {p['latency_weight']:.3f}" for p in curve],
        mode="lines+markers",
        name="gearshift",
        line={"color": OURS, "width": 3},
        marker={"size": 9},
    )
    figure.add_scatter(
        x=[report["latency_ratio"]],
        y=[report["retained"]],
        mode="markers",
        name="gearshift, operating point",
        marker={"symbol": "star", "size": 20, "color": OURS},
    )
    low, high, latest = _window(report)
    figure.update_yaxes(range=[low, high])
    figure.update_xaxes(range=[0, latest])
    return _axes(figure)


def beyond_the_chart(report: Mapping[str, Any]) -> Markup:
    """Alternatives that have settings outside the chart, in words."""
    low, high, latest = _window(report)
    left = []
    for name, points in report["points"].items():
        count = sum(
            _exists(p["retained"])
            and not (low <= p["retained"] <= high and p["latency_ratio"] <= latest)
            for p in points
        )
        if count:
            left.append(f"{name} ({count} of {len(points)} settings)")
    return html(
        '{% if left %}<p class="note">Outside the chart: {{ left }}.</p>{% endif %}',
        left=", ".join(left),
    )


def curve_chart(report: Mapping[str, Any]) -> go.Figure:
    """One policy at every operating point: what it keeps, its latency, its share of the gap."""
    figure = go.Figure()
    weights = [p["latency_weight"] for p in report["curve"]]
    for key, name, colour in (
        ("retained", "accuracy retained", OURS),
        ("latency_ratio", "latency over always-large's", RUNG_COLOURS["large"]),
        ("gap_share", "share of the gap", RUNG_COLOURS["small"]),
    ):
        figure.add_scatter(
            x=weights,
            y=[p[key] for p in report["curve"]],
            mode="lines+markers",
            name=name,
            line={"color": colour},
        )
    figure.add_vline(
        x=report["latency_weight"],
        line_dash="dot",
        line_color=MUTED,
        annotation_text="operating point",
    )
    # A share of a narrow gap can be anything: it must not flatten the other two.
    shown = [p[key] for p in report["curve"] for key in ("retained", "latency_ratio", "gap_share")]
    kept = [min(max(value, -0.25), 1.25) for value in shown if _exists(value)]
    figure.update_yaxes(range=[min([0.0, *kept]) - 0.03, max([1.0, *kept]) + 0.03])
    figure.update_layout(
        template=_TEMPLATE,
        height=420,
        xaxis_title="latency weight (lambda)",
        xaxis_type="log",
        yaxis_tickformat=".0%",
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        legend={"orientation": "h", "y": -0.22},
    )
    return figure


def shares_chart(report: Mapping[str, Any]) -> go.Figure:
    """The rungs that the policy asks for, by scene type and condition."""
    groups = {**report["scene_types"], **report["conditions"]}
    figure = go.Figure()
    for rung in LADDER:
        figure.add_bar(
            y=list(groups),
            x=[group["shares"][rung] for group in groups.values()],
            name=rung,
            orientation="h",
            marker_color=RUNG_COLOURS[rung],
        )
    figure.update_layout(
        template=_TEMPLATE,
        barmode="stack",
        height=120 + 34 * len(groups),
        xaxis_tickformat=".0%",
        margin={"l": 90, "r": 20, "t": 20, "b": 40},
        yaxis={"autorange": "reversed"},
        legend={"orientation": "h", "y": -0.2},
    )
    return figure


def confusion_chart(report: Mapping[str, Any]) -> go.Figure:
    """The policy's choices against the optimal labels."""
    matrix = report["labels"]["confusion"]
    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=list(LADDER),
            y=list(LADDER),
            colorscale="Blues",
            showscale=False,
            text=matrix,
            texttemplate="%{text}",
        )
    )
    labels = report["labels"]
    figure.update_layout(
        template=_TEMPLATE,
        height=380,
        xaxis_title="chosen",
        yaxis_title="optimal",
        yaxis={"autorange": "reversed"},
        margin={"l": 70, "r": 20, "t": 60, "b": 60},
        title=f"balanced accuracy {labels['balanced_accuracy']:.2f} "
        f"(always the same rung: {labels['majority_balanced_accuracy']:.2f}), "
        f"mean regret {labels['mean_regret']:.3f}",
        title_font_size=14,
    )
    return figure


def _window(report: Mapping[str, Any]) -> tuple[float, float, float]:
    """Least accuracy, most accuracy and most latency that the chart shows.

    Hull, oracle and policy are in it whole; one alternative far from them would flatten the rest.
    """
    lines = [*report["hull"], *report["oracle_hull"], *report["curve"], report]
    kept = [p["retained"] for p in lines if _exists(p["retained"])]
    low, high = min(kept, default=0.0), max(kept, default=1.0)
    room = 0.05 * max(high - low, 0.02)
    return low - room, high + room, 1.05 * max(1.0, *(p["latency_ratio"] for p in lines))


def _axes(figure: go.Figure) -> go.Figure:
    figure.update_layout(
        template=_TEMPLATE,
        height=520,
        margin={"l": 60, "r": 20, "t": 20, "b": 60},
        xaxis_title="mean latency over always-large's",
        yaxis_title="accuracy retained",
        xaxis_tickformat=".0%",
        yaxis_tickformat=".1%",
        legend={"orientation": "h", "y": -0.18},
    )
    return figure


def _exists(value: float | None) -> bool:
    return value is not None and value == value
