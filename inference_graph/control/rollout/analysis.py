"""Judges a step from the log: continue, roll back, or wait for more frames."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from inference_graph.control.rollout.betting import Wealth
from inference_graph.control.rollout.comparison import ArmComparison, Finding, Scale
from inference_graph.control.rollout.plan import METRICS, POLICY, RolloutPlan
from inference_graph.control.rollout.rows import AnalysisUnit, Arms, Segments, frames_of

Verdict = Literal["breached", "passed", "open"]

_SPLIT_ALPHA = 1e-4
"""Chance that frames which are split as they should be are taken for others, either way."""
_SPLIT_STAKE = 0.1
_LOG_MS = (math.log(1e-3), math.log(1e7))
_REMEMBERED = 200_000
"""Keys of rows that are known; a row is read again for a minute or so after it was written."""


@dataclass(frozen=True)
class Analysis:
    """The state of a step.

    Attributes:
        verdict: "breached": the canary is worse than a limit; "passed": it is shown that it is
            not; "open": neither yet.
        sentence: why, with numbers.
        findings: of each metric.
        units: frames or segments compared, of the stable revision and of the canary.
        left: so many more of both until the step is decided, at the present pace; None where that
            cannot be foreseen.
    """

    verdict: Verdict
    sentence: str
    findings: tuple[Finding, ...]
    units: tuple[int, int]
    left: int | None = None


class StepAnalysis:
    """Follows one step; rows may come in any portions, and more than once."""

    def __init__(self, plan: RolloutPlan, arms: Arms) -> None:
        """An analysis without rows.

        Args:
            plan: limits and error rates.
            arms: what is compared.
        """
        self._plan, self._arms = plan, arms
        scales = _scales(plan, arms.model == POLICY)
        self._metrics = {
            name: ArmComparison(name, scales[name], plan.alpha, plan.missed_harm)
            for name in METRICS
        }
        self._segments = Segments(arms)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._units = [0, 0]
        self._split = (Wealth(), Wealth())
        """Bets that the canary gets more frames than its share, and that it gets fewer."""

    def add(self, table: pa.Table) -> None:
        """Add rows of the log; a row that was added before is ignored.

        Args:
            table: with the columns of :data:`~inference_graph.control.rollout.rows.COLUMNS`, by
            time.
        """
        keys = table.column("event_id").to_pylist()
        fresh = [key not in self._seen for key in keys]
        if not all(fresh):
            table = table.filter(pa.array(fresh, pa.bool_()))
        self._seen.update(dict.fromkeys(keys))
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        if self._arms.model == POLICY:
            self._compare(self._segments.add(table))
        else:
            self._compare(list(frames_of(table, self._arms)))

    def look(self) -> Analysis:
        """The analysis of the rows so far."""
        findings = tuple(metric.finding() for metric in self._metrics.values())
        needed = [
            one
            for one in findings
            if not (self._plan.without_accuracy and one.metric in ("agreement", "retained"))
        ]
        units = (self._units[0], self._units[1])
        if any(bet.rejects(_SPLIT_ALPHA) for bet in self._split):
            # A comparison needs a random split; a revision that loses frames loses rows as well.
            message = (
                f"the traffic is not split as it should be: the canary has {units[1]:,} of "
                f"{sum(units):,} in the log, {self._arms.weight} % were due; nothing can be judged"
            )
            return Analysis("breached", message, findings, units)
        breached = [one for one in findings if one.breached]
        verdict: Verdict = "open"
        if breached:
            verdict = "breached"
        elif all(one.passed for one in needed):
            verdict = "passed"
        sentence = self._sentence(verdict, findings, units)
        return Analysis(verdict, sentence, findings, units, _left(needed, sum(units)))

    def _compare(self, units: list[AnalysisUnit]) -> None:
        drawn = np.array([unit.canary for unit in units], np.float64)
        self._units[1] += int(drawn.sum())
        self._units[0] += len(units) - int(drawn.sum())
        part = self._arms.chance
        stakes = np.full(len(units), _SPLIT_STAKE)
        self._split[0].add(drawn - part, np.full(len(units), part), stakes)
        self._split[1].add(part - drawn, np.full(len(units), 1 - part), stakes)
        for name, metric in self._metrics.items():
            measured = [unit for unit in units if name in unit.values]
            metric.add(
                np.array([unit.values[name] for unit in measured]),
                np.array([unit.canary for unit in measured], np.bool_),
                np.array([unit.chances[name] for unit in measured]),
                [unit.group for unit in measured],
            )

    def _sentence(
        self, verdict: Verdict, findings: Iterable[Finding], units: tuple[int, int]
    ) -> str:
        what = "segments" if self._arms.model == POLICY else "frames"
        base = f"after {units[1]:,} {what} of the canary and {units[0]:,} of the stable revision"
        if verdict == "breached":
            breaches = "; ".join(describe(one, self._plan) for one in findings if one.breached)
            return f"{breaches}; {base}"
        if verdict == "passed":
            return f"no limit is exceeded, {base}: " + "; ".join(
                describe(one, self._plan) for one in findings if one.frames[1]
            )
        waiting = ", ".join(one.metric for one in findings if not one.passed)
        return f"not decided yet ({waiting}), {base}"


def _left(needed: Iterable[Finding], units: int) -> int | None:
    """Units until all is decided; a metric without a value of each has its own part of them."""
    found = list[int]()
    for one in needed:
        if one.left is None or not all(one.frames):
            return None
        found.append(math.ceil(one.left * units / sum(one.frames)))
    return max(found, default=None)


def effect(finding: Finding, plan: RolloutPlan) -> dict[str, Any]:
    """What the canary does to a metric: estimate, 95 % interval and limit, in the limit's unit.

    Errors and agreement are differences, latency and retained shares of the stable revision's.
    """
    limit = {
        "errors": plan.error_limit,
        "latency": plan.latency_limit - 1,
        "agreement": -plan.agreement_limit,
        "retained": -plan.retained_limit,
    }[finding.metric]

    def shown(difference: float) -> float:
        if finding.metric == "latency":
            return math.expm1(min(difference, 100.0))
        if finding.metric == "retained":
            return difference / finding.stable if finding.stable else math.nan
        return difference

    low, high = finding.interval
    return {
        "estimate": shown(finding.difference),
        "interval": [shown(low), shown(high)],
        "limit": limit,
    }


def describe(finding: Finding, plan: RolloutPlan) -> str:
    """A finding in words, with its numbers, its limit and how sure it is."""
    if not all(finding.frames):
        return f"{finding.metric}: nothing to compare yet"
    stable, canary = finding.stable, finding.canary
    if finding.metric == "errors":
        message = (
            f"errors {canary:.2%} against {stable:.2%} "
            f"(at most {plan.error_limit:.2%} more is tolerated)"
        )
    elif finding.metric == "latency":
        ratio = math.exp(canary - stable)
        message = (
            f"latency {math.exp(canary):.1f} ms against {math.exp(stable):.1f} ms, "
            f"{ratio - 1:+.0%} (at most {plan.latency_limit - 1:+.0%} is tolerated)"
        )
    elif finding.metric == "agreement":
        message = (
            f"agreement with the reference {canary:.3f} against {stable:.3f} "
            f"(at most {plan.agreement_limit:g} less is tolerated)"
        )
    else:
        change = canary / stable - 1 if stable else math.nan
        message = (
            f"accuracy retained {canary:.3f} against {stable:.3f}, {change:+.1%} "
            f"(at most {-plan.retained_limit:+.1%} is tolerated)"
        )
    if finding.breached:
        return f"{message}, the chance of this without such harm is at most {finding.worse:.2g}"
    return message


def _scales(plan: RolloutPlan, segments: bool) -> Mapping[str, Scale]:
    """How the values of the metrics are compared.

    A segment's value is a mean and lies close to the stream's: what is beyond the clip counts as
    the clip, and decides sooner.
    """
    latency = math.log(plan.latency_limit)
    return {
        "errors": Scale(
            0.0,
            1.0,
            1,
            plan.error_limit,
            centred=False,
            clip=6 * plan.error_limit if segments else None,
        ),
        "latency": Scale(
            *_LOG_MS,
            1,
            latency,
            clip=5 * latency,
            adapts=segments,
        ),
        "agreement": Scale(
            0.0,
            1.0,
            -1,
            plan.agreement_limit,
            clip=5 * plan.agreement_limit if segments else None,
            adapts=segments,
        ),
        "retained": Scale(
            0.0,
            1.0,
            -1,
            share=1 - plan.retained_limit,
            clip=6 * plan.retained_limit if segments else None,
            adapts=segments,
        ),
    }
