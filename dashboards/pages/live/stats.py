"""The figures at the head of the live page, in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from dashboards.log.figures import Totals
from dashboards.pages.live.savings import cost_per_million, savings_per_month
from dashboards.widgets.wording import milliseconds, money, number, percent
from inference_graph.prediction_log.retained import Retained

STATS = ("rate", "latency", "retained", "cost", "savings", "trouble")
"""Ids of the figures, in their order."""


def live_stats(
    totals: Totals,
    total_ms: Callable[[float], float],
    kept: Retained,
    fleet: tuple[float, float, float],
    reported_ms: float | None,
) -> list[tuple[str, str]]:
    """Every stat with its note, in the order of ``STATS``.

    Args:
        totals: sums over the window.
        total_ms: percentiles of the time to the answer.
        kept: accuracy retained.
        fleet: robots, frames per second of each, and the price of an hour in USD.
        reported_ms: what large alone took when the policy was judged, where that is known.
    """
    span = (totals.last - totals.first).total_seconds() if totals.first and totals.last else 0.0
    rate = totals.answered / span if span > 0 else math.nan
    robots, fps, price = fleet
    cost = cost_per_million(totals.busy_ms, totals.shadow_ms, price)
    measured = not math.isnan(totals.reference_ms)
    reference_ms = totals.reference_ms if measured else (reported_ms or math.nan)
    alone = cost_per_million(reference_ms, 0.0, price)
    interval = (
        f"95 % interval {percent(kept.low)} to {percent(kept.high)}, "
        if not math.isnan(kept.low) and kept.shadowed
        else ""
    )
    return [
        (number(rate, 1), f"{number(totals.answered)} answered"),
        (
            milliseconds(total_ms(0.95)),
            f"median {milliseconds(total_ms(0.5))}, p99 {milliseconds(total_ms(0.99))}",
        ),
        (
            percent(kept.share),
            f"{interval}{number(kept.shadowed)} looks of the shadow"
            if kept.shadowed
            else "no shadow has looked yet",
        ),
        (
            money(cost),
            f"large alone {money(alone)}{'' if measured else ', from the report'}"
            if not math.isnan(alone)
            else "large has not answered here",
        ),
        (
            money(savings_per_month(cost, alone, robots, fps)),
            f"{number(robots)} robots at {number(fps, 1)} frames per second",
        ),
        (
            f"{number(totals.fallbacks)} / {number(totals.dropped)}",
            f"{number(totals.failed)} unanswered",
        ),
    ]
