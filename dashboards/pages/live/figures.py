"""The charts of the live page, each with a sentence for whoever does not see it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from dashboards.log.figures import PERCENTILES, Histogram, Timeline
from dashboards.widgets.theme import (
    INKS,
    RUNG_MARKERS,
    Scheme,
    count_axis,
    figure,
    lone_marks,
    rung_line,
    say_empty,
)
from dashboards.widgets.wording import milliseconds, number, percent
from inference_graph.contract import REFERENCE

_STILL = "live"
"""The same at each refresh, so that a zoom and hidden lines stay."""
_NAMES = {
    "decode": "decode",
    "observe": "observe",
    "decide": "decide",
    "queue": "queue",
    "detect": "detect",
    "total": "in all",
}


def shares_figure(
    line: Timeline, expected: Mapping[str, float] | None, scheme: Scheme
) -> tuple[go.Figure, str]:
    """Share of the answered frames by rung over time, and what the policy's judges saw."""
    drawn = figure(
        scheme,
        yaxis={
            "title": "share of frames",
            "tickformat": ".0%",
            "range": [0, 1.02],
            "fixedrange": True,
        },
        uirevision=_STILL,
    )
    answered = line.answered
    if not answered.sum():
        say_empty(drawn, "No frame was answered in this window.", scheme)
    summary = []
    for rung, frames in line.frames.items():
        with np.errstate(invalid="ignore"):
            shares = np.where(answered > 0, frames / np.maximum(answered, 1), np.nan)
        drawn.add_scatter(
            x=line.start,
            y=shares,
            name=rung,
            line=rung_line(rung, scheme),
            **lone_marks(shares, RUNG_MARKERS[rung]),
            connectgaps=False,
            hovertemplate=f"{rung} %{{y:.1%}}<extra></extra>",
        )
        now = frames.sum() / max(answered.sum(), 1)
        words = f"{rung} {percent(now)}"
        if expected is not None and rung in expected:
            line_of = {**rung_line(rung, scheme), "width": 1}
            drawn.add_hline(y=expected[rung], line=line_of, opacity=0.65)
            words += f" ({percent(expected[rung])} when the policy was judged)"
        summary.append(words)
    return drawn, f"Share of the frames: {', '.join(summary)}."


def judged(expected: Mapping[str, float] | None) -> str:
    """What the thin lines of the shares are."""
    if expected is None:
        return "Share of the frames by rung; the report that judged this policy is not at hand."
    summary = ", ".join(f"{rung} {percent(share, 0)}" for rung, share in expected.items())
    return f"Share of the frames by rung. Thin lines: when the policy was judged ({summary})."


def stages_figure(stages: Mapping[str, Histogram], scheme: Scheme) -> tuple[go.Figure, str]:
    """Median, 95th and 99th percentile of every stage, on a scale of powers of ten."""
    ink = INKS[scheme]
    drawn = figure(
        scheme,
        xaxis={"type": "log", "title": "milliseconds", "fixedrange": True, "dtick": 1},
        yaxis={"autorange": "reversed", "fixedrange": True},
        hovermode="closest",
        uirevision=_STILL,
    )
    known = {stage: h for stage, h in stages.items() if len(h.ms)}
    if not known:
        say_empty(drawn, "Nothing was measured in this window.", scheme)
    values = {stage: [h.percentile(share) for share in PERCENTILES] for stage, h in known.items()}
    for stage, times in values.items():
        drawn.add_scatter(
            x=times,
            y=[_NAMES[stage]] * len(times),
            mode="lines",
            showlegend=False,
            line={"color": ink.grid, "width": 4},
            hoverinfo="skip",
        )
    looks = (("circle", ink.reference), ("square", ink.accent), ("diamond", ink.bad))
    for index, (share, (symbol, colour)) in enumerate(zip(PERCENTILES, looks, strict=True)):
        drawn.add_scatter(
            x=[times[index] for times in values.values()],
            y=[_NAMES[stage] for stage in values],
            name=f"p{share * 100:.0f}",
            mode="markers",
            marker={"symbol": symbol, "size": 10, "color": colour},
            hovertemplate=f"%{{y}}: p{share * 100:.0f} %{{x:.3g}} ms<extra></extra>",
        )
    summary = "; ".join(
        f"{_NAMES[stage]} {', '.join(milliseconds(value) for value in times)}"
        for stage, times in values.items()
    )
    return drawn, f"Median, 95th and 99th percentile by stage: {summary or 'nothing measured'}."


def agreement_figure(
    line: Timeline, trained: float | None, scheme: Scheme
) -> tuple[go.Figure, str]:
    """Agreement with large over time, and what it was when the policy was judged.

    Args:
        line: figures by time.
        trained: agreement on the held-out frames of the training; None where it is not known.
        scheme: light or dark.
    """
    known = line.agreement[~np.isnan(line.agreement)]
    drawn = figure(
        scheme,
        yaxis={"title": "agreement", "tickformat": ".0%", "fixedrange": True, "range": [0, 1.02]},
        uirevision=_STILL,
    )
    drawn.add_scatter(
        x=line.start,
        y=line.agreement,
        mode="lines+markers",
        showlegend=False,
        line={"color": INKS[scheme].accent, "width": 2},
        marker={"size": 4},
        connectgaps=True,
        hovertemplate="%{y:.1%} agreement<extra></extra>",
    )
    unlike_large = int((line.answered - line.frames[REFERENCE]).sum())
    summary = (
        f"0 of {number(unlike_large)} frames compared with large."
        if unlike_large
        else "No frame was answered in this window."
    )
    if len(known):
        drawn.update_yaxes(range=[min(float(known.min()), trained or 1.0) - 0.05, 1.02])
        summary = f"Agreement with large: {percent(known.min())} to {percent(known.max())} by step."
    else:
        say_empty(drawn, summary, scheme)
    if trained is not None:
        drawn.add_hline(
            y=trained,
            line={"color": INKS[scheme].reference, "width": 1, "dash": "dash"},
            annotation_text=f"when judged: {percent(trained)}",
            annotation_position="bottom left",
        )
        summary += f" When the policy was judged: {percent(trained)}."
    return drawn, summary


def rate_figure(line: Timeline, scheme: Scheme) -> tuple[go.Figure, str]:
    """Frames answered per second over time."""
    axis = {"title": "frames per second", "rangemode": "tozero", "fixedrange": True}
    drawn = figure(scheme, yaxis=axis, uirevision=_STILL)
    rates = line.answered / line.seconds
    if not rates.sum():
        say_empty(drawn, "No frame was answered in this window.", scheme)
    drawn.add_scatter(
        x=line.start,
        y=rates,
        **lone_marks(rates),
        name="frames per second",
        showlegend=False,
        line={"color": INKS[scheme].accent, "width": 2},
        fill="tozeroy",
        hovertemplate="%{y:.1f} frames per second<extra></extra>",
    )
    highest = float(rates.max()) if len(rates) else math.nan
    return drawn, f"Frames answered per second; at most {number(highest, 1)} in a step."


def trouble_figure(line: Timeline, scheme: Scheme) -> tuple[go.Figure, str]:
    """Frames another rung answered, that were dropped, or that have no answer."""
    ink = INKS[scheme]
    troubles = line.fallbacks + line.dropped + line.failed
    axis = count_axis("frames per step", float(troubles.max()) if len(troubles) else 0.0)
    drawn = figure(scheme, barmode="stack", yaxis=axis, uirevision=_STILL)
    if not troubles.sum():
        say_empty(drawn, "Nothing went wrong in this window.", scheme)
    kinds = (
        ("fallbacks", line.fallbacks, ink.accent, "/"),
        ("dropped", line.dropped, ink.reference, "."),
        ("unanswered", line.failed, ink.bad, ""),
    )
    for name, counts, colour, pattern in kinds:
        drawn.add_bar(
            x=line.start,
            y=counts,
            name=name,
            marker={
                "color": colour,
                "pattern": {
                    "shape": pattern,
                    "fillmode": "overlay",
                    "fgcolor": ink.card,
                    "size": 6,
                    "solidity": 0.25,
                },
            },
            hovertemplate=f"{name} %{{y}}<extra></extra>",
        )
    summary = ", ".join(f"{number(int(counts.sum()))} {name}" for name, counts, *_ in kinds)
    return drawn, f"What went wrong: {summary}."
