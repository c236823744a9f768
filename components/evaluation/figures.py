"""Figures of the report: each way to route against the hull, the oracle and the best rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation.alternatives import (
    Bench,
    Routing,
    Tuned,
    fixed_rungs,
    oracle,
    random_mixes,
)
from components.evaluation.frontier import Frontier, average_gap_recovered, gap_share
from components.evaluation.report_schema import (
    CurvePoint,
    Estimate,
    NamedPoint,
    ObjectClass,
    Point,
    Reuse,
    Row,
    SeedFigures,
    Tracked,
)
from components.evaluation.resamples import LEAST_GAP, Resamples, certified_floor, estimate
from components.evaluation.tracked import tracked
from components.profiling.timing import Timings
from inference_graph.contract import LADDER
from inference_graph.tracking import ReuseConfig

_TRACKED_MIXES = (1, 4, 7, 10, 13, 16)
"""Which of `random_mixes` stand in the tracked hull: three of each two neighbours in the ladder."""


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """What every figure is measured against.

    Attributes:
        resamples: the judged frames and resamples of their clips.
        times: latencies, and the price of an hour.
        fixed: each rung alone.
        mixes: the fixed rungs and their random mixes.
        oracle: the optimal labels at several operating points.
        hull: what the mixes reach.
        best: what the oracle reaches.
    """

    resamples: Resamples
    times: Timings
    fixed: Mapping[str, Routing]
    mixes: Sequence[Routing]
    oracle: Sequence[Routing]
    hull: Frontier
    best: Frontier

    @classmethod
    def of(cls, bench: Bench, times: Timings, bootstrap: int, seed: int) -> Yardsticks:
        """Route by every yardstick, and draw the resamples."""
        fixed = fixed_rungs(bench)
        mixes = [*fixed.values(), *random_mixes(bench, seed)]
        # The oracle's curve must span all latencies that a policy can have.
        labels = oracle(bench, np.geomspace(1e-3, 20.0, 24).tolist())
        return cls(
            Resamples(bench, bootstrap, seed),
            times,
            fixed,
            mixes,
            labels,
            frontier_of(mixes, bench),
            frontier_of(labels, bench),
        )

    @property
    def bench(self) -> Bench:
        """What is judged."""
        return self.resamples.bench

    @property
    def large(self) -> Routing:
        """The heaviest rung alone."""
        return self.fixed[f"always-{LADDER[-1]}"]

    @property
    def unit_ms(self) -> float:
        """Mean latency of the heaviest rung, milliseconds."""
        return self.large.mean_ms

    def retained(self, accuracy: float) -> float:
        """Accuracy over large's; NaN where large finds nothing, so that nothing can be kept."""
        large = self.bench.accuracy(self.large)
        return accuracy / large if large > 0 else float("nan")

    def figures(self, routing: Routing) -> SeedFigures:
        """Accuracy, latency and share of the gap at the routing's own latency."""
        accuracy, at = self.bench.accuracy(routing), routing.mean_ms
        share = gap_share(at, accuracy, self.hull, self.best)
        gap = self.retained(self.best.at(at) - self.hull.at(at))
        return SeedFigures(
            retained=self.retained(accuracy),
            latency_ratio=at / self.unit_ms,
            gap_share=share if gap > LEAST_GAP else None,
        )

    def curve_point(self, routing: Routing, latency_weight: float, confidence: float) -> CurvePoint:
        """One operating point of the policy."""
        return CurvePoint(
            **self.figures(routing).model_dump(),
            latency_weight=latency_weight,
            certified=certified_floor(self.resamples.retained(routing), confidence),
        )

    def row(self, name: str, routing: Routing) -> Row:
        """The row of one way to route."""
        accuracy, mean_ms = self.bench.accuracy(routing), routing.mean_ms
        p50, p95, p99 = np.percentile(routing.latency_ms, (50, 95, 99)).tolist()
        interval = estimate(self.resamples.retained(routing))
        return Row(
            name=name,
            map=accuracy,
            retained=self.retained(accuracy),
            retained_interval=(interval.low, interval.high),
            mean_ms=mean_ms,
            p50_ms=p50,
            p95_ms=p95,
            p99_ms=p99,
            latency_ratio=mean_ms / self.unit_ms,
            fps=1e3 / mean_ms,
            usd_per_million=self.times.usd_per_million(mean_ms),
            setting=routing.name,
            shares=routing.shares(),
        )

    def gap_share_interval(self, routing: Routing) -> Estimate:
        """Share of the gap at the routing's own latency, over clips."""
        ratio = routing.mean_ms / self.unit_ms
        shares, _ = self.resamples.gap_shares([routing], self.mixes, self.oracle, [ratio])
        return shares[0]

    def tracked(
        self,
        compared: Mapping[str, Routing],
        policy: Routing,
        reusing: Routing,
        config: ReuseConfig,
        tracker_ms: float,
    ) -> Tracked:
        """Every way to route once more, with a tracker behind it.

        Args:
            compared: the ways to route, by name; the oracle's labels know nothing of tracks.
            policy: the policy's routing.
            reusing: the tracked policy that may reuse its tracks.
            config: of that.
            tracker_ms: milliseconds of one update.
        """
        with_tracker = {
            name: tracked(self.bench, routing, tracker_ms)
            for name, routing in compared.items()
            if name != "oracle" and routing is not policy
        }
        ours = tracked(self.bench, policy, tracker_ms)
        hull = [with_tracker[name] for name in self.fixed] + self._tracked_mixes(tracker_ms)
        return Tracked(
            tracker_ms=tracker_ms,
            rows=tuple(
                self.row(name, routing)
                for name, routing in {**with_tracker, "gearshift": ours}.items()
            ),
            over_hull=self.resamples.lift(ours, self.mixes),
            over_tracked_hull=self.resamples.lift(ours, hull),
            reuse=Reuse(
                longest=config.longest,
                doubt=config.doubt,
                share=float(np.mean(reusing.choice >= len(LADDER))),
                row=self.row("gearshift", reusing),
                over_tracked_hull=self.resamples.lift(reusing, hull),
            ),
        )

    def tracked_hull(self, tracker_ms: float) -> list[Routing]:
        """The fixed rungs and some of their mixes with a tracker behind them."""
        fixed = [tracked(self.bench, routing, tracker_ms) for routing in self.fixed.values()]
        return fixed + self._tracked_mixes(tracker_ms)

    def _tracked_mixes(self, tracker_ms: float) -> list[Routing]:
        mixes = self.mixes[len(LADDER) :]
        return [tracked(self.bench, mixes[index], tracker_ms) for index in _TRACKED_MIXES]

    def classes(self, policy: Routing) -> dict[str, ObjectClass]:
        """How the policy does on every class of objects, or by the task's other measures."""
        ours, large = (
            self.bench.answers(routing).class_accuracies(0) for routing in (policy, self.large)
        )
        return {
            name: ObjectClass(
                objects=int(self.bench.matched.truths[:, index].sum()),
                ap=float(ours[index]),
                retained=float(ours[index] / large[index]) if large[index] > 0 else None,
            )
            for index, name in enumerate(self.bench.task.parts(self.bench.classes))
        }

    def apgr(self, curves: Mapping[str, Sequence[Routing]]) -> dict[str, float]:
        """Average performance gap recovered, by way to route; empty where large is no better."""
        ends = [self.fixed[f"always-{rung}"] for rung in (LADDER[0], LADDER[-1])]
        weak, strong = ((end.mean_ms, self.bench.accuracy(end)) for end in ends)
        if not strong[1] > weak[1]:
            return {}
        return {
            name: average_gap_recovered(frontier_of(routings, self.bench), weak, strong)
            for name, routings in curves.items()
        }

    def at_equal_latency(
        self, curves: Mapping[str, Sequence[Routing]], policy: Routing
    ) -> dict[str, float]:
        """Accuracy retained by the frontier of every alternative at the policy's mean latency."""
        return {
            name: self.retained(frontier_of(routings, self.bench).at(policy.mean_ms))
            for name, routings in curves.items()
            if name != "gearshift"
        }

    def points(self, routings: Sequence[Routing]) -> tuple[NamedPoint, ...]:
        """Every setting of one way to route."""
        return tuple(
            NamedPoint(
                name=routing.name,
                latency_ratio=routing.mean_ms / self.unit_ms,
                retained=self.retained(self.bench.accuracy(routing)),
            )
            for routing in routings
        )

    def line(self, frontier: Frontier) -> tuple[Point, ...]:
        """The corners of a frontier."""
        return tuple(
            Point(latency_ratio=x / self.unit_ms, retained=self.retained(y))
            for x, y in zip(frontier.latency.tolist(), frontier.accuracy.tolist(), strict=True)
        )


def frontier_of(routings: Sequence[Routing], bench: Bench) -> Frontier:
    """What some routings reach at each latency."""
    return Frontier.of((routing.mean_ms, bench.accuracy(routing)) for routing in routings)


def best_rule(rules: Mapping[str, Tuned], latency_ms: float) -> str:
    """The rule that is best at a latency on the frames it was tuned on."""
    return max(rules, key=lambda name: rules[name].learned.at(latency_ms))
