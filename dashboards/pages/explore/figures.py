"""The charts of the explore page, each with a sentence for whoever does not see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboards.log.columns import STAGES
from dashboards.log.figures import PERCENTILES, Histogram, Timeline
from dashboards.widgets.theme import (
    INKS,
    RUNG_COLOURS,
    RUNG_PATTERNS,
    Scheme,
    count_axis,
    figure,
    mark_deployments,
    say_empty,
)
from dashboards.widgets.wording import milliseconds, number, percent
from inference_graph.contract import LADDER

_BARS_PER_DECADE = 12


def frames_figure(
    line: Timeline, scheme: Scheme, deployments: Sequence[tuple[datetime, str]] = ()
) -> tuple[go.Figure, str]:
    """Frames over time by rung, stacked; a range of it can be brushed."""
    most = float(line.answered.max()) if len(line.start) else 0.0
    axis = count_axis(f"frames per {line.seconds:g} s", most)
    drawn = _brushed(scheme, yaxis=axis, bargap=0)
    if not most:
        say_empty(drawn, "No frame fits this choice.", scheme)
    for rung, frames in line.frames.items():
        drawn.add_bar(
            x=line.start,
            y=frames,
            name=rung,
            marker=_marker(rung, scheme),
            width=line.seconds * 1000,
            offset=0,
            hovertemplate=f"{rung} %{{y:,}}<extra></extra>",
        )
    total = int(line.answered.sum())
    shares = ", ".join(
        f"{rung} {percent(frames.sum() / max(total, 1))}" for rung, frames in line.frames.items()
    )
    marked = mark_deployments(drawn, deployments, scheme)
    return drawn, (
        f"{number(total)} frames over time: {shares}. Steps of {line.seconds:g} seconds.{marked}"
    )


def latency_figure(
    latencies: Mapping[str, Histogram], chosen: tuple[float, float] | None, scheme: Scheme
) -> tuple[go.Figure, str]:
    """Frames by time to the answer and rung, on a scale of powers of ten, to be brushed.

    Args:
        latencies: of each rung, without the condition on the latency itself.
        chosen: the range that is chosen; it is marked.
        scheme: light or dark.
    """
    counted = {rung: _coarse(histogram) for rung, histogram in latencies.items()}
    drawn = _brushed(
        scheme,
        yaxis=count_axis("frames", float(_stacked(counted))),
        bargap=0,
    )
    if not any(len(places) for places, _ in counted.values()):
        say_empty(drawn, "No answer fits this choice.", scheme)
    low = min((places[0] for places, _ in counted.values() if len(places)), default=0)
    high = max((places[-1] for places, _ in counted.values() if len(places)), default=0)
    for rung, (places, frames) in counted.items():
        drawn.add_bar(
            x=(places + 0.5) / _BARS_PER_DECADE,
            y=frames,
            name=rung,
            marker=_marker(rung, scheme),
            width=1 / _BARS_PER_DECADE,
            customdata=10 ** ((places + 0.5) / _BARS_PER_DECADE),
            hovertemplate=f"{rung} %{{y:,}} at about %{{customdata:.3g}} ms<extra></extra>",
        )
    first, last = int(np.floor(low / _BARS_PER_DECADE)), int(np.ceil((high + 1) / _BARS_PER_DECADE))
    ticks = [
        power + step for power in range(first, last) for step in (0.0, np.log10(2), np.log10(5))
    ]
    drawn.update_xaxes(
        tickvals=[*ticks, last],
        ticktext=[f"{10**tick:.3g}" for tick in [*ticks, last]],
        title_text="milliseconds",
        range=[low / _BARS_PER_DECADE, (high + 1) / _BARS_PER_DECADE],
    )
    if chosen is not None:
        drawn.add_vrect(
            x0=np.log10(max(chosen[0], 1e-3)),
            x1=np.log10(max(chosen[1], 1e-3)),
            fillcolor=INKS[scheme].accent,
            opacity=0.18,
            line_width=0,
        )
    summary = ", ".join(
        f"{rung} median {milliseconds(histogram.percentile(0.5))}"
        for rung, histogram in latencies.items()
    )
    return drawn, f"Time to the answer by rung: {summary}."


def shares_figure(
    groups: Mapping[str, Mapping[str, int]], chosen: Sequence[str], scheme: Scheme
) -> tuple[go.Figure, str]:
    """Shares of the rungs by condition; a bar can be clicked.

    Args:
        groups: frames by condition and rung, without the condition on the conditions themselves.
        chosen: conditions that are chosen; the others are pale. None chosen: all stand out.
        scheme: light or dark.
    """
    names = list(groups)[:8]
    drawn = figure(
        scheme,
        barmode="stack",
        xaxis={
            "title": "share of frames",
            "tickformat": ".0%",
            "range": [0, 1],
            "fixedrange": True,
        },
        yaxis={"autorange": "reversed", "fixedrange": True},
        hovermode="closest",
        clickmode="event",
    )
    if not names:
        say_empty(drawn, "No frame fits this choice.", scheme)
    sums = [max(sum(groups[name].values()), 1) for name in names]
    pale = [1.0 if not chosen or name in chosen else 0.35 for name in names]
    for rung in next(iter(groups.values()), LADDER):
        drawn.add_bar(
            y=[name or "no condition" for name in names],
            customdata=names,
            orientation="h",
            x=[groups[name][rung] / total for name, total in zip(names, sums, strict=True)],
            name=rung,
            marker={**_marker(rung, scheme), "opacity": pale},
            hovertemplate=f"%{{y}}: {rung} %{{x:.1%}}<extra></extra>",
        )
    summary = "; ".join(
        f"{name or 'no condition'}: "
        + ", ".join(f"{rung} {percent(count / total, 0)}" for rung, count in groups[name].items())
        for name, total in zip(names, sums, strict=True)
    )
    return drawn, f"Shares of the rungs by condition: {summary or 'no frames'}."


def stage_rows(stages: Mapping[str, Histogram]) -> list[dict[str, str]]:
    """Percentiles of every stage as the rows of a table."""
    return [
        {"stage": "in all" if stage == "total" else stage}
        | {
            f"p{share * 100:.0f}": milliseconds(stages[stage].percentile(share))
            for share in PERCENTILES
        }
        for stage in STAGES
    ]


def brushed_milliseconds(first: float, last: float) -> tuple[float, float]:
    """What a range of the latency chart's axis means, in milliseconds, rounded to a hundredth."""
    low, high = sorted((first, last))
    return float(f"{10**low:.3g}"), float(f"{10**high:.3g}")


def _brushed(scheme: Scheme, **layout: Any) -> go.Figure:
    drawn = figure(scheme, barmode="stack", dragmode="select", selections=[], **layout)
    drawn.update_layout(newselection={"line": {"color": INKS[scheme].accent, "width": 2}})
    return drawn


def _marker(rung: str, scheme: Scheme) -> dict[str, object]:
    ink = RUNG_COLOURS[scheme][rung]
    pattern = {
        "shape": RUNG_PATTERNS[rung],
        "fillmode": "overlay",
        "fgcolor": INKS[scheme].card,
        "solidity": 0.2,
        "size": 6,
    }
    return {"color": ink, "pattern": pattern, "line": {"width": 0}}


def _stacked(counted: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> int:
    """The highest stack of bars."""
    stacks: dict[int, int] = {}
    for places, frames in counted.values():
        for place, count in zip(places.tolist(), frames.tolist(), strict=True):
            stacks[place] = stacks.get(place, 0) + count
    return max(stacks.values(), default=0)


def _coarse(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Bins of a twelfth of a decade: their numbers, rising, and the frames in them."""
    if not len(histogram.ms):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    places = np.floor(np.log10(histogram.ms) * _BARS_PER_DECADE).astype(np.int64)
    found, inverse = np.unique(places, return_inverse=True)
    return found, np.bincount(inverse, histogram.frames).astype(np.int64)
