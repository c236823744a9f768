"""One metric of two revisions, compared while the frames come in.

Each frame is given to the canary with a known probability ``p``, whatever came before. So with any
``c_t`` that is known before the frame::

    x_t = (y_t - c_t) / p            if the canary had the frame,
    x_t = -(y_t - c_t) / (1 - p)     if the stable revision had it

has the mean "canary's y less stable's y on this frame", however much the frames of a stream
resemble each other: the draw is the only chance that counts (inverse probability weighting; for
sequential tests see D. W. Ham and others, Design-based confidence sequences, 2022). ``c_t`` is a
running mean of the frames before; the better it foretells, the less ``x_t`` scatters.

A ratio is compared in the same way: with ``g`` in front of the stable part and ``(1 - g) c_t``
added, the mean is "canary's y less g times stable's y".

Two gamblers (:mod:`inference_graph.rollout.betting`) look on: one bets that the canary is worse
than the limit, and is right with a canary to be rolled back; the other that it is not so bad, and
is right with one to go on. The one is wrong with probability ``alpha``, the other ``beta``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference_graph.rollout.betting import Values, Wealth

_MEMORY = 0.05
"""Weight of the newest value in a running mean."""


@dataclass(frozen=True)
class Scale:
    """How a metric's values are compared.

    Attributes:
        low: the smallest value.
        high: the largest one; values beyond are taken for these.
        harm: 1 where more is worse, -1 where less is.
        limit: the difference that is tolerated.
        share: of the stable revision's value that is tolerated too; 1 for a plain difference.
        centred: whether a running mean is taken off first; one that has no use for it is 0.
        clip: what is left is taken for at most so much, either way; None leaves it.
    """

    low: float
    high: float
    harm: int
    limit: float = 0.0
    share: float = 1.0
    centred: bool = True
    clip: float | None = None


@dataclass(frozen=True)
class Finding:
    """What a metric's comparison has come to.

    Attributes:
        metric: which.
        stable: mean of the stable revision's values; NaN without any.
        canary: likewise of the canary's.
        frames: how many values each had, stable first.
        worse: the chance of such evidence of harm from a revision within the limit, at most.
        safe: the chance of such evidence of none from a revision beyond the limit, at most.
        breached: the harm is shown.
        passed: it is shown that there is none.
    """

    metric: str
    stable: float
    canary: float
    frames: tuple[int, int]
    worse: float
    safe: float
    breached: bool
    passed: bool


class Comparison:
    """Compares one metric; give it the frames in an order that knows nothing of their values."""

    def __init__(self, metric: str, scale: Scale, alpha: float, beta: float) -> None:
        """Nothing seen yet.

        Args:
            metric: its name.
            scale: of its values.
            alpha: chance of a false breach.
            beta: chance of a false pass.
        """
        self.metric, self._scale = metric, scale
        self._alpha, self._beta = alpha, beta
        self._worse, self._safe = Wealth(), Wealth()
        self._means: dict[object, float] = {}
        self._mean = 0.5 * (scale.low + scale.high)
        self._counts = np.zeros(2, np.int64)
        self._sums = np.zeros(2)

    def add(
        self, values: Values, canary: npt.NDArray[np.bool_], chance: Values, groups: list[str]
    ) -> None:
        """Compare more frames.

        Args:
            values: float64 [n], finite.
            canary: bool [n], whether the canary had the frame.
            chance: float64 [n], the probability of that, 0..1 exclusive.
            groups: whose frames resemble each other: the stream of each, n names.
        """
        if not len(values):
            return
        scale = self._scale
        for arm in (0, 1):
            self._counts[arm] += int((canary == bool(arm)).sum())
            self._sums[arm] += float(values[canary == bool(arm)].sum())
        values = np.clip(values, scale.low, scale.high)
        centres = self._centres(values, groups) if scale.centred else np.zeros(len(values))
        low, high = scale.low - centres, scale.high - centres
        left = values - centres
        if scale.clip is not None:
            low, high = np.maximum(low, -scale.clip), np.minimum(high, scale.clip)
            left = np.clip(left, low, high)

        def harm(part: Values, of_canary: npt.NDArray[np.bool_] | bool) -> Values:
            weighed = np.where(of_canary, part / chance, -scale.share * part / (1 - chance))
            return scale.harm * (weighed + (1 - scale.share) * centres) - scale.limit

        extremes = np.stack([harm(end, arm) for end in (low, high) for arm in (True, False)])
        seen = harm(left, canary)
        tiny = 1e-9
        self._worse.add(seen, np.maximum(-extremes.min(axis=0), tiny))
        self._safe.add(-seen, np.maximum(extremes.max(axis=0), tiny))

    def finding(self) -> Finding:
        """What it has come to."""
        means = [
            float(total / count) if count else math.nan
            for total, count in zip(self._sums, self._counts, strict=True)
        ]
        return Finding(
            self.metric,
            means[0],
            means[1],
            (int(self._counts[0]), int(self._counts[1])),
            self._worse.chance,
            self._safe.chance,
            self._worse.rejects(self._alpha),
            self._safe.rejects(self._beta),
        )

    def _centres(self, values: Values, groups: list[str]) -> Values:
        """A running mean of each stream, of the values before; of all streams for its first."""
        centres = np.empty(len(values))
        means = self._means
        for place, (value, group) in enumerate(zip(values.tolist(), groups, strict=True)):
            before = means.get(group)
            if before is None:
                before = self._mean
            centres[place] = before
            means[group] = before + _MEMORY * (value - before)
            self._mean += _MEMORY * (value - self._mean)
        return centres
