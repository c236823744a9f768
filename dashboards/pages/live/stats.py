"""The figures at the head of the live page, in words."""

from __future__ import annotations

import math
from collections.abc import Callable

from dashboards.log.figures import Saved, Totals
from dashboards.pages.live.savings import cost_per_million, savings_per_month
from dashboards.widgets.wording import (
    compared_words,
    few,
    milliseconds,
    money,
    number,
    percent,
)
from inference_graph.prediction_log.retained import Retained

_UNKNOWN_LARGE = "no frame was compared with large, and no report has its time"
STATS = ("rate", "latency", "agreement", "cost", "savings", "trouble")
"""Ids of the figures, in their order."""


def live_stats(
    totals: Totals,
    total_ms: Callable[[float], float],
    agreement: Retained,
    saved: Saved,
    fleet: tuple[float, float, float],
    *,
    trained: float | None,
    reported_ms: float | None,
) -> list[tuple[str, str]]:
    """Every stat with its note, in the order of ``STATS``.

    Args:
        totals: sums over the window.
        total_ms: percentiles of the time to the answer.
        agreement: with large.
        saved: detector time that routing saves, where a shadow has looked.
        fleet: robots, frames per second of each, and the price of an hour in USD.
        trained: agreement with large when the policy was judged, where that is known.
        reported_ms: what large alone took when the policy was judged, where that is known.
    """
    span = (totals.last - totals.first).total_seconds() if totals.first and totals.last else 0.0
    small = few(totals.answered)
    rate = totals.answered / span if span > 0 else math.nan
    price = fleet[2]
    return [
        (number(rate, 1), f"{number(totals.answered)} answered"),
        (
            milliseconds(total_ms(0.95)),
            f"{small}median {milliseconds(total_ms(0.5))}, p99 {milliseconds(total_ms(0.99))}",
        ),
        (percent(agreement.share), _agreement_note(agreement, totals, trained)),
        (
            money(cost_per_million(totals.busy_ms, totals.shadow_ms, price)),
            small + _alone(totals, saved, price, reported_ms),
        ),
        _savings(totals, saved, fleet, reported_ms),
        (
            f"{number(totals.fallbacks)} / {number(totals.dropped)}",
            f"{number(totals.failed)} unanswered",
        ),
    ]


def _agreement_note(agreement: Retained, totals: Totals, trained: float | None) -> str:
    judged = "" if trained is None else f"{percent(trained)} when the policy was judged; "
    return judged + compared_words(agreement, totals.answered, totals.unlike_large)


def _alone(totals: Totals, saved: Saved, price: float, reported_ms: float | None) -> str:
    """What large alone costs: on the same frames, else by the report."""
    if not math.isnan(saved.ms):
        return f"large alone {money(cost_per_million(totals.busy_ms + saved.ms, 0.0, price))}"
    if reported_ms is not None:
        return f"large alone {money(cost_per_million(reported_ms, 0.0, price))}, from the report"
    return _UNKNOWN_LARGE


def _savings(
    totals: Totals,
    saved: Saved,
    fleet: tuple[float, float, float],
    reported_ms: float | None,
) -> tuple[str, str]:
    """The range of the savings, or one figure where no shadow has looked."""
    robots, fps, price = fleet

    def monthly(ms: float) -> str:
        return money(savings_per_month(ms - totals.shadow_ms, price, robots, fps))

    same = f"{few(saved.looks)}against large on the same frames"
    size = f"{number(robots)} robots at {number(fps, 1)} frames per second"
    if totals.answered and not totals.unlike_large:
        return monthly(saved.ms), f"large answered every frame; {size}"
    if not math.isnan(saved.low):
        ends = monthly(saved.low), monthly(saved.high)
        words = ends[0] if ends[0] == ends[1] else " to ".join(ends)
        return words, f"95 % interval, {same}; {size}"
    if not math.isnan(saved.ms):
        return monthly(saved.ms), f"{same}, all in one minute of one session: no range; {size}"
    if reported_ms is not None:
        return (
            monthly(reported_ms - totals.busy_ms),
            f"{few(totals.answered)}no frame was compared with large: its time is the report's, "
            f"no range; {size}",
        )
    return money(math.nan), f"{_UNKNOWN_LARGE}; {size}"
