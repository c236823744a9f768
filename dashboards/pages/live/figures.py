"""The charts of the live page, each with a sentence for whoever does not see it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go

from dashboards.log.figures import PERCENTILES, Histogram, Timeline
from dashboards.widgets.theme import INKS, Scheme, figure, rung_line
from dashboards.widgets.wording import milliseconds, number, percent
from inference_graph.contract import LADDER

_STILL = "live"
"""The same at each refresh, so that a zoom and hidden lines stay."""
_NAMES = {"decode": "decode", "observe": "observe", "decide": "decide", "queue": "queue",
          "detect": "detect", "total": "in all"}  # fmt: skip


def shares_figure(
    line: Timeline, expected: Mapping[str, float] | None, scheme: Scheme
) -> tuple[go.Figure, str]:
    """Share of the answered frames by rung over time, and what the policy's judges saw."""
    drawn = figure(
        scheme,
        yaxis={"tickformat": ".0%", "range": [0, 1.02], "fixedrange": True},
        uirevision=_STILL,
    )
    answered = line.answered
    told = []
    for rung in LADDER:
        with np.errstate(invalid="ignore"):
            shares = np.where(answered > 0, line.frames[rung] / np.maximum(answered, 1), np.nan)
        drawn.add_scatter(
            x=line.start, y=shares, name=rung, mode="lines", line=rung_line(rung, scheme),
            connectgaps=False, hovertemplate=f"{rung} %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
        now = line.frames[rung].sum() / max(answered.sum(), 1)
        words = f"{rung} {percent(now)}"
        if expected is not None and rung in expected:
            line_of = {**rung_line(rung, scheme), "width": 1}
            drawn.add_hline(y=expected[rung], line=line_of, opacity=0.65)
            words += f" ({percent(expected[rung])} when the policy was judged)"
        told.append(words)
    return drawn, f"Share of the frames: {', '.join(told)}."


def judged(expected: Mapping[str, float] | None) -> str:
    """What the thin lines of the shares are."""
    if expected is None:
        return "Share of the frames by rung; the report that judged this policy is not at hand."
    told = ", ".join(f"{rung} {percent(share, 0)}" for rung, share in expected.items())
    return f"Share of the frames by rung. Thin lines: when the policy was judged ({told})."


def stages_figure(stages: Mapping[str, Histogram], scheme: Scheme) -> tuple[go.Figure, str]:
    """Median, 95th and 99th percentile of every stage, on a scale of powers of ten."""
    ink = INKS[scheme]
    drawn = figure(
        scheme,
        xaxis={"type": "log", "ticksuffix": " ms", "fixedrange": True, "dtick": 1},
        yaxis={"autorange": "reversed", "fixedrange": True},
        hovermode="closest",
        uirevision=_STILL,
    )
    known = {stage: h for stage, h in stages.items() if len(h.ms)}
    values = {stage: [h.percentile(share) for share in PERCENTILES] for stage, h in known.items()}
    for stage, times in values.items():
        drawn.add_scatter(
            x=times, y=[_NAMES[stage]] * len(times), mode="lines", showlegend=False,
            line={"color": ink.grid, "width": 4}, hoverinfo="skip",
        )  # fmt: skip
    looks = (("circle", ink.reference), ("square", ink.accent), ("diamond", ink.bad))
    for index, (share, (symbol, colour)) in enumerate(zip(PERCENTILES, looks, strict=True)):
        drawn.add_scatter(
            x=[times[index] for times in values.values()],
            y=[_NAMES[stage] for stage in values],
            name=f"p{share * 100:.0f}", mode="markers",
            marker={"symbol": symbol, "size": 10, "color": colour},
            hovertemplate=f"%{{y}}: p{share * 100:.0f} %{{x:.3g}} ms<extra></extra>",
        )  # fmt: skip
    told = "; ".join(
        f"{_NAMES[stage]} {', '.join(milliseconds(value) for value in times)}"
        for stage, times in values.items()
    )
    return drawn, f"Median, 95th and 99th percentile by stage: {told or 'nothing measured'}."


def rate_figure(line: Timeline, scheme: Scheme) -> tuple[go.Figure, str]:
    """Frames answered per second over time."""
    drawn = figure(scheme, yaxis={"rangemode": "tozero", "fixedrange": True}, uirevision=_STILL)
    rates = line.answered / line.seconds
    drawn.add_scatter(
        x=line.start, y=rates, mode="lines", name="frames per second", showlegend=False,
        line={"color": INKS[scheme].accent, "width": 2}, fill="tozeroy",
        hovertemplate="%{y:.1f} frames per second<extra></extra>",
    )  # fmt: skip
    highest = float(rates.max()) if len(rates) else math.nan
    return drawn, f"Frames answered per second; at most {number(highest, 1)} in a step."


def trouble_figure(line: Timeline, scheme: Scheme) -> tuple[go.Figure, str]:
    """Frames another rung answered, that were dropped, or that nobody answered."""
    ink = INKS[scheme]
    drawn = figure(
        scheme,
        barmode="stack",
        yaxis={"rangemode": "tozero", "fixedrange": True},
        uirevision=_STILL,
    )
    kinds = (
        ("fallbacks", line.fallbacks, ink.accent, "/"),
        ("dropped", line.dropped, ink.reference, "."),
        ("unanswered", line.failed, ink.bad, ""),
    )
    for name, counts, colour, pattern in kinds:
        drawn.add_bar(
            x=line.start, y=counts, name=name,
            marker={
                "color": colour,
                "pattern": {
                    "shape": pattern, "fillmode": "overlay", "fgcolor": ink.card, "size": 6,
                    "solidity": 0.25,
                },
            },
            hovertemplate=f"{name} %{{y}}<extra></extra>",
        )  # fmt: skip
    told = ", ".join(f"{number(int(counts.sum()))} {name}" for name, counts, *_ in kinds)
    return drawn, f"What went wrong: {told}."
