"""One metric of two revisions, compared while the frames come in.

Each frame is given to the canary with a known probability ``p``, whatever came before. So with any
``c_t`` and ``d_t`` that are known before the frame::

    x_t = (y_t - c_t - d_t) / p + d_t      if the canary had the frame,
    x_t = -(y_t - c_t) / (1 - p) + d_t     if the stable revision had it

has the mean "canary's y less stable's y on this frame", however much the frames of a stream
resemble each other: the draw is the only chance that counts (inverse probability weighting, as
augmented by J. M. Robins and others, 1994; for sequential tests see D. W. Ham and others,
Design-based confidence sequences, 2022). ``c_t`` is a running mean of the stream's frames before,
``d_t`` one of what the canary's had beyond theirs; the better they predict, the less ``x_t``
scatters. What a canary does to all frames is then in ``d_t``, so that what is left may be clipped
closely.

A ratio is compared in the same way: with ``g`` in front of the stable part and of its ``c_t``, the
mean is "canary's y less g times stable's y".

Two gamblers (:mod:`inference_graph.control.rollout.betting`) bet: one that the canary is
worse than the limit, and is right with a canary to be rolled back; the other that it is not so bad,
and is right with one to go on. The one is wrong with probability ``alpha``, the other ``beta``.
Each stakes what would be best if the canary were as far from the limit as an equal one is: for a
mean ``m`` and a variance ``v`` that is ``m / (m^2 + v)`` in units of ``h`` (Waudby-Smith and
Ramdas).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from inference_graph.control.rollout.betting import LARGEST_STAKE, Values, Wealth

_MEMORY = 0.05
"""Weight of the newest value in a running mean."""
_SLOW = 0.01
"""The same of a running variance."""
_FIRST = 10
"""Values after which the means are trusted."""
_PACED = 50
"""Values after which the pace of the evidence is trusted."""
_CLOSEST = 4.0
"""A clip that adapts comes closer by at most this factor."""
_INTERVAL_ALPHA, _INTERVAL_RHO2 = 0.05, 7.94e-4
"""Of the interval: chance to miss the difference at any look, and the square of rho, which makes it
narrowest at 10,000 values."""
_SPREADS = 3.0
"""Standard deviations at which a clip that adapts stands."""


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
        adapts: whether the clip comes closer where what was left before scattered little.
    """

    low: float
    high: float
    harm: int
    limit: float = 0.0
    share: float = 1.0
    centred: bool = True
    clip: float | None = None
    adapts: bool = False


@dataclass(frozen=True)
class Finding:
    """Result of comparing one metric so far.

    Attributes:
        metric: which.
        stable: mean of the stable revision's values; NaN without any.
        canary: likewise of the canary's.
        frames: how many values each had, stable first.
        worse: the chance of such evidence of harm from a revision within the limit, at most.
        safe: the chance of such evidence of none from a revision beyond the limit, at most.
        breached: the harm is shown.
        passed: it is shown that there is none.
        difference: estimate of "canary's y less stable's y on the same frame", by ``x_t`` without
            a clip; NaN without values of both.
        interval: its 95 % interval, which holds at all looks together for large counts.
        left: values until the nearer of the two is shown, at the present pace; 0 where one is,
            None where the evidence does not grow.
    """

    metric: str
    stable: float
    canary: float
    frames: tuple[int, int]
    worse: float
    safe: float
    breached: bool
    passed: bool
    difference: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    left: int | None = None


class ArmComparison:
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
        self._means: dict[object, tuple[float, int]] = {}
        """By stream, the running mean and of how many values."""
        self._mean = 0.5 * (scale.low + scale.high)
        self._beyond, self._canaries = 0.0, 0
        """Running mean of the canary's values less those of the streams' means; how many."""
        widest = 0.25 * (scale.high - scale.low)
        self._variance = (widest if scale.clip is None else scale.clip) ** 2
        self._values = 0
        self._counts = np.zeros(2, np.int64)
        self._sums = np.zeros(2)
        self._differences = np.zeros(2)
        """Sum and sum of squares of ``x_t`` without a clip."""

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
        centres, beyond, variances = self._predict(values, canary, groups)
        own = np.clip(centres + beyond, scale.low, scale.high)
        beyond = own - centres
        plain = beyond + np.where(
            canary, (values - own) / chance, -(values - centres) / (1 - chance)
        )
        self._differences += plain.sum(), (plain * plain).sum()
        clips = np.full(len(values), np.inf if scale.clip is None else scale.clip)
        if scale.clip is not None and scale.adapts:
            close = _SPREADS * np.sqrt(variances)
            clips = np.clip(close, scale.clip / _CLOSEST, scale.clip)

        def harm(residuals: Values, of_canary: npt.NDArray[np.bool_] | bool) -> Values:
            weighed = np.where(
                of_canary, residuals / chance, -scale.share * residuals / (1 - chance)
            )
            return scale.harm * (weighed + own - scale.share * centres) - scale.limit

        def residual(values: Values | float, of_canary: npt.NDArray[np.bool_] | bool) -> Values:
            return np.clip(values - np.where(of_canary, own, centres), -clips, clips)

        ends = [
            (residual(end, arm), arm) for end in (scale.low, scale.high) for arm in (True, False)
        ]
        extremes = np.stack([harm(end, arm) for end, arm in ends])
        seen = harm(residual(values, canary), canary)
        # What an equal revision is away from the limit, and how x scatters.
        away = scale.limit + (1 - scale.share) * np.abs(centres)
        scatter = variances * (1 / chance + scale.share**2 / (1 - chance))
        best = away / (away**2 + scatter)
        tiny = 1e-9
        for gambler, gains, bounds in (
            (self._worse, seen, -extremes.min(axis=0)),
            (self._safe, -seen, extremes.max(axis=0)),
        ):
            bounds = np.maximum(bounds, tiny)
            gambler.add(gains, bounds, np.minimum(best * bounds, LARGEST_STAKE))

    def finding(self) -> Finding:
        """The result so far."""
        means = [
            float(total / count) if count else math.nan
            for total, count in zip(self._sums, self._counts, strict=True)
        ]
        difference, interval = self._difference()
        return Finding(
            self.metric,
            means[0],
            means[1],
            (int(self._counts[0]), int(self._counts[1])),
            self._worse.chance,
            self._safe.chance,
            self._worse.rejects(self._alpha),
            self._safe.rejects(self._beta),
            difference,
            interval,
            self._left(),
        )

    def _difference(self) -> tuple[float, tuple[float, float]]:
        """Estimate and asymptotic confidence sequence (I. Waudby-Smith and others, 2021)."""
        n = int(self._counts.sum())
        if not self._counts.all():
            return math.nan, (math.nan, math.nan)
        mean, square = (float(total) / n for total in self._differences)
        scaled = n * _INTERVAL_RHO2
        width = math.sqrt(
            2 * (scaled + 1) / (n * scaled) * math.log(math.sqrt(scaled + 1) / _INTERVAL_ALPHA)
        ) * math.sqrt(max(square - mean * mean, 0.0))
        return mean, (mean - width, mean + width)

    def _left(self) -> int | None:
        n, found = int(self._counts.sum()), list[int]()
        for gambler, level in ((self._worse, self._alpha), (self._safe, self._beta)):
            if gambler.rejects(level):
                return 0
            # The gambler who stakes what is best began with half of the wealth.
            grown = gambler.log + math.log(2)
            if n >= _PACED and grown > 0:
                found.append(math.ceil(n * (-math.log(level) - gambler.log) / grown))
        return min(found, default=None)

    def _predict(
        self, values: Values, canary: npt.NDArray[np.bool_], groups: list[str]
    ) -> tuple[Values, Values, Values]:
        """Predict each value from those before it.

        Returns:
            A running mean of its stream, of all streams for its first value; the running mean of
            what the canary's values have beyond that; and the variance of what is left.
        """
        found = np.empty((3, len(values)))
        means, centred = self._means, self._scale.centred
        for place, (value, group, of_canary) in enumerate(
            zip(values.tolist(), groups, canary.tolist(), strict=True)
        ):
            before, known = means.get(group, (self._mean, 0)) if centred else (0.0, 0)
            found[:, place] = before, self._beyond, self._variance
            rest = value - before - (self._beyond if of_canary else 0.0)
            if centred:
                means[group] = before + max(_MEMORY, 1 / (known + 2)) * rest, known + 1
                self._mean += max(_MEMORY, 1 / (self._values + 1)) * (before + rest - self._mean)
            self._values += 1
            if self._values < _FIRST:
                continue  # the means are guesses
            weight = max(_SLOW, 1 / (self._values - _FIRST + 3))
            self._variance += weight * (rest * rest - self._variance)
            if centred and of_canary:
                self._canaries += 1
                self._beyond += max(_MEMORY, 1 / (self._canaries + 3)) * rest
        return found[0], found[1], found[2]
