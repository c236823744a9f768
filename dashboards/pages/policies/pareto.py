"""Accuracy retained against latency: policies, alternatives, and what lies between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import plotly.graph_objects as go

from dashboards.pages.policies.comparison import Contestant
from dashboards.pages.policies.reports import (
    ALWAYS,
    ORACLE,
    POLICY,
    KnownPolicy,
    PolicyRow,
    Spot,
    unlike,
)
from dashboards.widgets.theme import INKS, RUNG_COLOURS, RUNG_MARKERS, Scheme, figure, lone_marks
from inference_graph.contract import LADDER

_FAMILIES = {
    "random-mix": ("circle-open", "#6b7280", "#9ca3af"),
    "edge-density": ("triangle-down", "#0072b2", "#56b4e9"),
    "object-count": ("pentagon", "#a63d00", "#ff9a5c"),
    "cascade": ("triangle-up", "#00735a", "#3ecf9b"),
    "previous-frame": ("cross", "#6b7280", "#9ca3af"),
    "bc": ("triangle-right", "#8a5a00", "#f0c03d"),
    "oracle": ("hexagram", "#374151", "#d1d5db"),
}
_GLYPHS = {
    "circle": "●",
    "square": "■",
    "diamond": "◆",
    "circle-open": "○",
    "triangle-down": "▼",
    "pentagon": "⬟",
    "triangle-up": "▲",
    "cross": "✚",
    "triangle-right": "▶",
    "hexagram": "✶",
    "star": "★",
    "star-open": "☆",
    "x": "✖",
}
"""Marker, colour on a light and on a dark card; no two share both marker and colour."""
_UNKNOWN = ("x", "#374151", "#d1d5db")
_MARGIN = 0.03
_NEAR, _PILE, _FRAME = 0.05, 4, 0.25
"""Marks so near the policy, on both axes, are enlarged where there are so many, with a frame so
wide around them."""
_BELOW = 0.12
"""Points this far below the hull's cheapest end are named below it, or they flatten the rest."""


def pareto(
    shown: KnownPolicy, others: Iterable[KnownPolicy], scheme: Scheme, selected: Collection[str]
) -> go.Figure:
    """The chart of one report, with other policies beside.

    Args:
        shown: whose hull, oracle and alternatives are drawn.
        others: further policies; each is drawn by its own report.
        scheme: light or dark.
        selected: keys of contestants to ring.
    """
    judged, ink = shown.judgement, INKS[scheme]
    made = figure(
        scheme,
        height=440,
        hovermode="closest",
        dragmode=False,
        xaxis={"title": "mean latency over large's", "tickformat": ".0%"},
        yaxis={"title": "accuracy retained", "tickformat": ".0%"},
        showlegend=False,  # the page has one that wraps; a phone has no room for Plotly's
    )
    _line(made, judged.oracle, "oracle", ink.reference, "dot", 1.5)
    _line(made, judged.hull, "fixed rungs and random mixes", ink.reference, "dash", 1.5)
    for family, spots in judged.tried.items():
        if family == "random-mix":
            continue  # the hull is theirs
        _settings(made, family, spots, scheme)
    _line(made, judged.curve, f"{shown.name}, every operating point", ink.accent, "solid", 3)
    entries = [
        *(Contestant(shown, row) for row in judged.rows if row.name != POLICY),
        *(Contestant(one, one.judgement.policy) for one in others if one.key != shown.key),
        Contestant(shown, judged.policy),
    ]
    for one in entries:
        _mark(made, one, scheme, one.policy.key == shown.key)
    chosen = [one for one in entries if one.key in selected and one.row.retained is not None]
    made.add_scatter(
        x=[one.row.latency_ratio for one in chosen],
        y=[one.row.retained for one in chosen],
        mode="markers",
        name="compared",
        hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 24, "line": {"width": 2.5}, "color": ink.bad},
    )
    low, high = _range(one.row for one in entries)
    high = max([high, *(spot.retained + 0.01 for spot in judged.oracle)])
    made.update_yaxes(range=[low, high])
    made.update_xaxes(range=[0, 1.06])
    enlarge(made, [one.row for one in entries if one.row.retained is not None], judged.policy)
    return made


def legend(
    shown: KnownPolicy, others: Iterable[KnownPolicy], scheme: Scheme
) -> list[tuple[str, str, str]]:
    """Sign, colour and name of everything in the chart."""
    ink = INKS[scheme]
    rows = [row.name for row in shown.judgement.rows if row.name != POLICY]
    marks = [(name, *appearance(name, scheme)) for name in rows]
    return [
        ("★", ink.accent, shown.name),
        *(("☆", ink.accent, one.name) for one in others if one.key != shown.key),
        ("━", ink.accent, f"{shown.name}, every operating point"),
        ("┅", ink.reference, "fixed rungs and random mixes"),
        ("┈", ink.reference, "oracle, every operating point"),
        *((_GLYPHS[symbol], colour, name) for name, symbol, colour in marks),
        ("◯", ink.bad, "compared"),
    ]


def pareto_words(shown: KnownPolicy, others: Sequence[KnownPolicy]) -> str:
    """The chart, for those who do not see it."""
    judged = shown.judgement
    rows = [row for row in judged.rows if row.retained is not None]
    summary = "; ".join(
        f"{shown.name if row.name == POLICY else row.name} {row.retained:.1%} "
        f"at {row.latency_ratio:.1%}"
        for row in rows
    )
    more = "; ".join(
        f"{one.name} {one.judgement.policy.retained:.1%} "
        f"at {one.judgement.policy.latency_ratio:.1%}"
        for one in others
        if one.key != shown.key and one.judgement.policy.retained is not None
    )
    return f"Accuracy retained at mean latency over large's: {summary}. {more}".strip()


def outside(shown: KnownPolicy) -> str:
    """Alternatives that the chart leaves out, in words; empty where all are in it."""
    low, _ = _range(shown.judgement.rows)
    left = [
        f"{row.name} ({row.retained:.1%})"
        for row in shown.judgement.rows
        if row.retained is not None and row.retained < low
    ]
    return f"Far below the chart: {', '.join(left)}." if left else ""


def not_alike(shown: KnownPolicy, others: Iterable[KnownPolicy]) -> list[str]:
    """Policies whose figures were not measured as those of the shown one, in words."""
    found = []
    for one in others:
        names = unlike(shown.judgement, one.judgement)
        if names:
            found.append(f"{one.name}: other {', '.join(names)}")
    return found


def appearance(name: str, scheme: Scheme) -> tuple[str, str]:
    """Marker and colour of a row."""
    rung = name.removeprefix(ALWAYS)
    if rung in LADDER:
        return RUNG_MARKERS[rung], RUNG_COLOURS[scheme][rung]
    marker, light, dark = _FAMILIES.get(name, _UNKNOWN)
    return marker, dark if scheme == "dark" else light


def enlarge(made: go.Figure, rows: Sequence[PolicyRow], policy: PolicyRow) -> None:
    """Draw the surroundings of the policy once more, enlarged, where marks pile up there."""
    if policy.retained is None:
        return
    near = [
        row
        for row in rows
        if row.retained is not None
        and abs(row.latency_ratio - policy.latency_ratio) <= _NEAR
        and abs(row.retained - policy.retained) <= _NEAR
    ]
    if len(near) < _PILE:
        return
    across = [row.latency_ratio for row in near]
    up = [row.retained or 0.0 for row in near]
    wide = max(max(across) - min(across), 0.01) * _FRAME
    high = max(max(up) - min(up), 0.01) * _FRAME
    for trace in list(made.data):
        again = go.Scatter(trace)
        again.update(xaxis="x2", yaxis="y2", showlegend=False)
        made.add_trace(again)
    axis = {"showline": True, "mirror": True, "linewidth": 1, "tickformat": ".1%", "nticks": 4}
    made.update_layout(
        xaxis2={
            "domain": [0.5, 0.98],
            "anchor": "y2",
            **axis,
            "range": [min(across) - wide, max(across) + wide],
        },
        yaxis2={
            "domain": [0.1, 0.6],
            "anchor": "x2",
            **axis,
            "range": [min(up) - high, max(up) + high],
        },
        shapes=[
            {
                "type": "rect",
                "x0": min(across) - wide,
                "x1": max(across) + wide,
                "y0": min(up) - high,
                "y1": max(up) + high,
                "line": {"width": 1, "dash": "dot", "color": made.data[0].line.color},
            }
        ],
    )


def _line(
    made: go.Figure, spots: Sequence[Spot], name: str, colour: str, dash: str, width: float
) -> None:
    made.add_scatter(
        x=[spot.latency_ratio for spot in spots],
        y=[spot.retained for spot in spots],
        text=[spot.setting for spot in spots],
        **lone_marks([spot.retained for spot in spots]),
        name=name,
        line={"color": colour, "dash": dash, "width": width},
        hovertemplate="%{text}<br>%{y:.1%} retained at %{x:.1%}<extra>" + name + "</extra>",
    )


def _settings(made: go.Figure, family: str, spots: Sequence[Spot], scheme: Scheme) -> None:
    marker, colour = appearance(family, scheme)
    made.add_scatter(
        x=[spot.latency_ratio for spot in spots],
        y=[spot.retained for spot in spots],
        text=[spot.setting for spot in spots],
        mode="markers",
        legendgroup=family,
        showlegend=False,
        marker={"symbol": marker, "size": 6, "color": colour, "opacity": 0.35},
        hovertemplate="%{text}<br>%{y:.1%} retained at %{x:.1%}"
        f"<extra>{family}, another setting</extra>",
    )


def _mark(made: go.Figure, one: Contestant, scheme: Scheme, of_shown: bool) -> None:
    row, ink = one.row, INKS[scheme]
    if row.retained is None:
        return
    is_policy = row.name == POLICY
    if is_policy:
        symbol, colour = ("star", ink.accent) if of_shown else ("star-open", ink.accent)
    else:
        symbol, colour = appearance(row.name, scheme)
    label = one.name if is_policy else row.name
    bars: dict[str, Any] = {}
    if row.interval is not None and row.name != ORACLE:
        low, high = row.interval
        bars["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [max(0.0, high - row.retained)],
            "arrayminus": [max(0.0, row.retained - low)],
            "thickness": 1.5 if is_policy else 1,
            "width": 4,
            "color": colour,
        }
    made.add_scatter(
        x=[row.latency_ratio],
        y=[row.retained],
        mode="markers",
        name=label,
        legendgroup=one.key if is_policy else row.name,
        customdata=[one.key],
        marker={
            "symbol": symbol,
            "size": 18 if is_policy else 11,
            "color": colour,
            "line": {"width": 1, "color": ink.card} if "open" not in symbol else {"width": 2},
        },
        hovertemplate=_hover_text(row) + f"<extra>{label}</extra>",
        **bars,
    )


def _hover_text(row: PolicyRow) -> str:
    lines = [f"<b>{row.retained:.1%}</b> retained at <b>{row.latency_ratio:.1%}</b>"]
    if row.interval is not None:
        lines.append(f"95 % interval {row.interval[0]:.1%} to {row.interval[1]:.1%}")
    lines.append(f"{row.mean_ms:.1f} ms mean, {row.p95_ms:.1f} ms p95")
    if row.gap is not None:
        lines.append(f"{row.gap:.2f} of the gap to the oracle")
    shares = ", ".join(f"{rung} {share:.0%}" for rung, share in row.shares.items())
    return "<br>".join([*lines, shares, row.setting.replace("<", "&lt;")])


def _range(rows: Iterable[PolicyRow]) -> tuple[float, float]:
    """What the vertical axis shows: every row but those far below the cheapest rung."""
    kept = {row.name: (row.retained, row.interval) for row in rows if row.retained is not None}
    rungs = [retained for name, (retained, _) in kept.items() if name.startswith(ALWAYS)]
    foot = min(rungs, default=0.0) - _BELOW
    ends = [
        end
        for retained, interval in kept.values()
        if retained >= foot
        for end in (retained, *(interval or ()))
    ]
    return min(ends, default=0.0) - _MARGIN, max(ends, default=1.0) + _MARGIN
