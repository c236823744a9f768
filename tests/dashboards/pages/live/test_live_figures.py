"""Formulas of the live page, worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dashboards.pages.live.savings import cost_per_million, savings_per_month
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


def test_costs_by_hand() -> None:
    # A million frames of 18 ms are 5 hours.
    assert cost_per_million(16.0, 2.0, 0.36) == pytest.approx(1.8)
    # 10 robots, 10 frames a second: 262.8 million frames in 730 hours.
    assert savings_per_month(60.0, 0.36, 10, 10) == pytest.approx(262.8 * 6)
    assert savings_per_month(-60.0, 0.36, 10, 10) == pytest.approx(-262.8 * 6)
