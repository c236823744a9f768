"""Formulas of the live page, worked out by hand."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from dashboards.log.figures import Saved, Timeline, Totals
from dashboards.pages.live.figures import rate_figure, shares_figure
from dashboards.pages.live.savings import cost_per_million, savings_per_month
from dashboards.pages.live.stats import STATS, live_stats
from inference_graph.prediction_log.retained import retained, student


def test_agreement_by_hand() -> None:
    # Three sessions: 2 of 1.0; 2 of 0.5; 4 of 0.75 -> mean 6 / 8; half the frames were large's.
    found = retained([(2, 2.0), (2, 1.0), (4, 3.0)], large_share=0.5)
    assert found.share == pytest.approx(0.5 + 0.5 * 0.75)
    # Deviations of the sums: 0.5, -0.5, 0 -> se = sqrt(3/2 * 0.5 / 64).
    half = 0.5 * 4.302653 * math.sqrt(1.5 * 0.5 / 64)
    assert found.low == pytest.approx(found.share - half, rel=1e-5)
    assert found.high == 1.0  # it cannot be more
    assert (found.shadowed, found.clusters) == (8, 3)


def test_retained_where_little_is_known() -> None:
    none = retained([], large_share=0.2)
    assert math.isnan(none.share) and math.isnan(none.low) and none.shadowed == 0
    assert retained([], large_share=1.0).share == 1.0
    one = retained([(5, 4.0), (0, 0.0)], large_share=0.0)
    assert one.share == 0.8 and math.isnan(one.low) and one.clusters == 1


def test_the_interval_covers_its_share() -> None:
    """Sessions of their own level: 95 of 100 intervals hold the true mean, give or take."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        levels = generator.normal(0.8, 0.05, 15)
        clusters = [
            (20, float(np.clip(generator.normal(level, 0.1, 20), 0, 1).sum())) for level in levels
        ]
        found = retained(clusters, large_share=0.0)
        held += found.low <= 0.8 <= found.high
    assert 0.91 <= held / 400 <= 0.985


@pytest.mark.parametrize(
    ("freedom", "table"),
    [(1, 12.7062), (2, 4.30265), (3, 3.18245), (5, 2.57058), (10, 2.22814), (100, 1.98397)],
)
def test_students_t_as_in_the_tables(freedom: int, table: float) -> None:
    assert student(freedom) == pytest.approx(table, rel=2e-3)


@pytest.mark.parametrize(("answered", "warned"), [(3, True), (99, True), (100, False)])
def test_money_from_few_frames_says_so_and_a_missing_shadow_its_reason(
    answered: int, warned: bool
) -> None:
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    totals = Totals(
        {"nano": answered, "large": 0},
        0,
        0,
        0,
        begin,
        begin + timedelta(seconds=10),
        16.0,
        math.nan,
        0.0,
        {},
    )
    unknown = Saved(math.nan, math.nan, math.nan, 0)
    stats = live_stats(
        totals,
        lambda share: 16.0,
        retained([], large_share=0.0),
        unknown,
        (10, 10, 0.36),
        trained=0.9,
        reported_ms=100.0,
    )
    notes = dict(zip(STATS, (note for _, note in stats), strict=True))
    for name in ("cost", "savings"):
        assert notes[name].startswith(f"from only {answered} frames; ") == warned
    assert (
        notes["agreement"] == f"90.0 % when the policy was judged; 0 of {answered} frames compared"
    )


@pytest.mark.parametrize("drawn", [shares_figure, rate_figure])
def test_a_step_between_empty_ones_is_drawn(drawn: Any) -> None:
    counts, nothing = np.array([0, 5, 0]), np.zeros(3, np.int64)
    begin = datetime(2026, 5, 1, tzinfo=UTC)
    line = Timeline(
        start=tuple(begin + timedelta(minutes=step) for step in range(3)),
        seconds=60,
        frames={"nano": counts, "large": nothing},
        fallbacks=nothing,
        dropped=nothing,
        failed=nothing,
        agreement=np.full(3, np.nan),
    )
    figure, _ = drawn(line, None, "light") if drawn is shares_figure else drawn(line, "light")
    assert all("markers" in trace.mode for trace in figure.data)


def test_costs_by_hand() -> None:
    # A million frames of 18 ms are 5 hours.
    assert cost_per_million(16.0, 2.0, 0.36) == pytest.approx(1.8)
    # 10 robots, 10 frames a second: 262.8 million frames in 730 hours.
    assert savings_per_month(60.0, 0.36, 10, 10) == pytest.approx(262.8 * 6)
    assert savings_per_month(-60.0, 0.36, 10, 10) == pytest.approx(-262.8 * 6)
