"""Confidence intervals over clips: every routing is judged on the same resamples.

Frames of a clip resemble each other, so whole clips are drawn with replacement. All routings see
the same draws, so a difference between two of them is paired: what makes a draw easy or hard is
in both. Arrays hold the frames as they are first, then one value for each resample.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.evaluation.alternatives import Bench, Routing
from components.evaluation.frontier import Frontier
from components.evaluation.report_schema import CurvePoint, Estimate, Guarantee

_TAIL = 2.5
LEAST_GAP = 1e-3
"""Accuracy retained; where hull and oracle are closer, there is no gap to share."""

Values = NDArray[np.float64]


class Resamples:
    """The frames of a bench, then ``count`` resamples of its clips.

    Args:
        bench: what is judged.
        count: resamples.
        seed: entropy of the draws.
    """

    def __init__(self, bench: Bench, count: int, seed: int) -> None:
        self.bench = bench
        bounds = bench.replay.clip_bounds
        rng = np.random.default_rng(seed)
        clips = len(bounds)
        drawn = [np.ones(clips)]
        drawn += [
            np.bincount(rng.integers(0, clips, clips), minlength=clips).astype(np.float64)
            for _ in range(count)
        ]
        self._weights = np.repeat(np.array(drawn), bounds[:, 1] - bounds[:, 0], axis=1)
        self._accuracy: dict[Routing, Values] = {}
        large = np.full(len(bench.replay), bench.replay.latency_ms.shape[1] - 1)
        self._large = bench.rung("large", large)

    def accuracy(self, routing: Routing) -> Values:
        """The task's accuracy, float64 [1 + count]."""
        if routing not in self._accuracy:
            answers = self.bench.answers(routing)
            self._accuracy[routing] = np.array(
                [answers.accuracy(0, weights) for weights in self._weights]
            )
        return self._accuracy[routing]

    def retained(self, routing: Routing) -> Values:
        """Accuracy over that of large on the same clips; NaN where large finds nothing."""
        large = self.accuracy(self._large)
        return np.divide(
            self.accuracy(routing), large, out=np.full(len(large), np.nan), where=large > 0
        )

    def latency_ms(self, routing: Routing) -> Values:
        """Mean latency in milliseconds."""
        return np.asarray(self._weights @ routing.latency_ms / self._weights.sum(axis=1))

    def retained_at(self, curve: Sequence[Routing], latency_ms: Values) -> Values:
        """What a curve retains at the latency that each resample asks for.

        Beyond an end of the curve its last routing stands.
        """
        points = [
            np.stack([self.latency_ms(routing), self.retained(routing)], axis=1)
            for routing in self._vertices(curve)
        ]
        found = np.full(len(latency_ms), np.nan)
        for row, at in enumerate(latency_ms.tolist()):
            table = [point[row] for point in points if np.isfinite(point[row]).all()]
            if table:
                found[row] = Frontier.of((float(x), float(y)) for x, y in table).at(at)
        return found

    def lift(self, routing: Routing, curve: Sequence[Routing]) -> Estimate:
        """Accuracy retained above a curve's, at the routing's own mean latency."""
        above = self.retained(routing) - self.retained_at(curve, self.latency_ms(routing))
        return estimate(above)

    def gap_shares(
        self,
        curve: Sequence[Routing],
        hull: Sequence[Routing],
        oracle: Sequence[Routing],
        ratios: Sequence[float],
    ) -> tuple[list[Estimate], Estimate]:
        """Shares of the gap between hull and oracle at fixed latencies, and their mean.

        See `gap_share_values`.
        """
        rows, mean = self.gap_share_values(curve, hull, oracle, ratios)
        return [estimate(row) for row in rows], estimate(mean)

    def gap_share_values(
        self,
        curve: Sequence[Routing],
        hull: Sequence[Routing],
        oracle: Sequence[Routing],
        ratios: Sequence[float],
    ) -> tuple[list[Values], Values]:
        """The same for the frames as they are and for each resample.

        A share is missing at a latency that the curve does not go down to, and where there is no
        gap. The mean is over the others.

        Args:
            curve: what is judged.
            hull: fixed rungs and their mixes.
            oracle: the optimal labels at several operating points.
            ratios: latencies over large's.
        """
        unit = self.latency_ms(self._large)
        cheapest = min(float(self.latency_ms(routing)[0]) for routing in curve)
        rows = []
        for ratio in ratios:
            at = ratio * unit
            low, high = self.retained_at(hull, at), self.retained_at(oracle, at)
            gap = high - low
            share = np.divide(
                self.retained_at(curve, at) - low,
                gap,
                out=np.full(len(gap), np.nan),
                where=gap > LEAST_GAP,
            )
            missing = cheapest > at[0] * (1 + 1e-9) or not gap[0] > LEAST_GAP
            rows.append(np.full(len(gap), np.nan) if missing else share)
        known = [row for row in rows if np.isfinite(row[0])]
        mean = np.mean(known, axis=0) if known else np.full(len(unit), np.nan)
        return rows, mean

    def _vertices(self, curve: Sequence[Routing]) -> list[Routing]:
        """The routings that make up the curve's frontier on all frames."""
        points = [(routing.mean_ms, self.bench.accuracy(routing)) for routing in curve]
        known = [index for index, point in enumerate(points) if np.isfinite(point).all()]
        if not known:
            return []
        frontier = Frontier.of(points[index] for index in known)
        corners = set(zip(frontier.latency.tolist(), frontier.accuracy.tolist(), strict=True))
        return [curve[index] for index in known if points[index] in corners]


def estimate(values: Values) -> Estimate:
    """The first value with the 95 % interval of the others, which is made to hold it.

    Percentiles of resamples may leave out the estimate where the figure is biased under resampling,
    such as one that depends on which corner of a hull is the nearest.
    """
    value, drawn = float(values[0]), values[1:]
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value):
        return Estimate(value=None, low=None, high=None)
    if not len(drawn):
        return Estimate(value=value, low=None, high=None)
    low, high = np.percentile(drawn, (_TAIL, 100 - _TAIL)).tolist()
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def certified_floor(values: Values, confidence: float) -> float | None:
    """The accuracy retained that holds with this confidence, from one test on the clips.

    It is the one-sided lower bound: the hypothesis "less than the floor is retained" is rejected
    for every floor below it.
    """
    drawn = values[1:][np.isfinite(values[1:])]
    if not len(drawn):
        return None
    return min(float(np.quantile(drawn, 1 - confidence)), float(values[0]))


def guarantee(curve: Sequence[CurvePoint], asked: float, confidence: float) -> Guarantee:
    """The cheapest operating point up to which all points are certified.

    Fixed-sequence testing as in Learn then Test (Angelopoulos et al. 2021, arXiv 2110.01052): the
    points are tested in an order set beforehand, and the first that fails ends the search, so the
    chance that the point chosen breaks its promise is that of a single test.

    Args:
        curve: operating points, the lowest weight of latency and so the dearest first.
        asked: accuracy that must be retained.
        confidence: of each point's ``certified``.
    """
    chosen = None
    for point in curve:
        if point.certified is None or point.certified < asked:
            break
        chosen = point
    return Guarantee(
        asked=asked,
        confidence=confidence,
        latency_weight=None if chosen is None else chosen.latency_weight,
        latency_ratio=None if chosen is None else chosen.latency_ratio,
    )
