"""Accuracy against latency: frontiers, and what share of the gap between two of them is won.

A *point* is (mean latency, accuracy). Any two ways of routing can be mixed at random, so what a
family of points reaches at a latency lies on its upper concave hull.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foundation.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Frontier:
    """Upper concave hull of points.

    Attributes:
        latency: float64 [k], rising.
        accuracy: float64 [k], strictly rising: a slower point that is no better has no place.
    """

    latency: NDArray[np.float64]
    accuracy: NDArray[np.float64]

    @classmethod
    def of(cls, points: Iterable[tuple[float, float]]) -> Frontier:
        """Build the frontier of points (latency, accuracy).

        Raises:
            InvalidInput: there is no point, or one is no number.
        """
        table = np.array(list(points), np.float64).reshape(-1, 2)
        if not len(table) or not np.isfinite(table).all():
            raise InvalidInput("a frontier needs at least one point, and numbers only")
        order = np.lexsort((-table[:, 1], table[:, 0]))
        kept: list[tuple[float, float]] = []
        for x, y in table[order].tolist():
            if kept and y <= kept[-1][1]:
                continue
            while len(kept) > 1 and _slope(kept[-2], kept[-1]) <= _slope(kept[-2], (x, y)):
                kept.pop()
            if kept and x == kept[-1][0]:
                kept.pop()
            kept.append((x, y))
        hull = np.array(kept)
        return cls(hull[:, 0], hull[:, 1])

    def at(self, latency: float) -> float:
        """Accuracy at a mean latency: mixed between two points, held beyond either end.

        A latency below the cheapest point cannot be had; its accuracy stands in.
        """
        return float(np.interp(latency, self.latency, self.accuracy))

    def mean(self, low: float, high: float) -> float:
        """Mean accuracy over all latencies from ``low`` to ``high``."""
        inside = self.latency[(self.latency > low) & (self.latency < high)]
        xs = np.concatenate([[low], inside, [high]])
        ys = np.array([self.at(x) for x in xs])
        return float(np.sum((ys[1:] + ys[:-1]) / 2 * np.diff(xs)) / (high - low))


def _slope(a: tuple[float, float], b: tuple[float, float]) -> float:
    return (b[1] - a[1]) / (b[0] - a[0]) if b[0] > a[0] else np.inf


def gap_share(latency: float, accuracy: float, baseline: Frontier, oracle: Frontier) -> float:
    """Share of the gap between baseline and oracle that a point wins at its own latency.

    ``(accuracy - baseline) / (oracle - baseline)``: 0 is a random mix of fixed rungs, 1 the
    oracle. NaN where the oracle does not beat the baseline, so that there is no gap to share.
    """
    low, high = baseline.at(latency), oracle.at(latency)
    return (accuracy - low) / (high - low) if high - low > 1e-9 else float("nan")


def average_gap_recovered(
    frontier: Frontier, weak: tuple[float, float], strong: tuple[float, float]
) -> float:
    """APGR: the recovered gap between a weak and a strong model, averaged over all budgets.

    RouteLLM (Ong et al. 2024, arXiv 2406.18665) defines the performance gap recovered as
    ``(accuracy - weak) / (strong - weak)`` and averages it over the share of strong calls. With
    three rungs the budget is the mean latency, from the weakest rung's to the strongest's.

    Args:
        frontier: what the router reaches.
        weak: (latency, accuracy) of the cheapest rung.
        strong: (latency, accuracy) of the heaviest rung.
    """
    return (frontier.mean(weak[0], strong[0]) - weak[1]) / (strong[1] - weak[1])
