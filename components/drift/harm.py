"""Whether drift hurts: accuracy retained in the window against the reference's, without labels.

Both are measured by the shadow (``inference_graph.prediction_log.retained``): with the share ``L``
of frames that large answered and mean agreement ``m`` of the others, ``retained = L + (1 - L) m``.
Both ``L`` and ``m`` vary with the frames that came, so by the delta method ::

    se(retained)^2 = (1 - L)^2 se(m)^2 + (1 - m)^2 se(L)^2

with the standard errors of ratios over clusters of frames that resemble each other. The loss is
held against Student's t with the smaller number of clusters, less one, as degrees of freedom
(B. Welch's problem, on its safe side).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats  # type: ignore[import-untyped]  # it has no types

from components.drift.frames import Frames
from inference_graph.contract import LADDER
from inference_graph.prediction_log.retained import (
    ENOUGH_SESSIONS,
    Retained,
    cluster_mean,
    retained,
    student,
)


@dataclass(frozen=True)
class Harm:
    """Accuracy retained, before and now.

    Attributes:
        reference: on the reference's held-out frames.
        window: in the window.
        loss: reference less window; NaN where one is not known.
        low: lower end of the loss's 95 % interval; NaN where there is none.
        high: upper end.
        p_value: one-sided, of no loss; NaN likewise.
        level: the p-value at or below which the loss alone counts as drift.
        agreement: mean agreement of the window's shadowed frames; NaN without any.
    """

    reference: Retained
    window: Retained
    loss: float
    low: float
    high: float
    p_value: float
    level: float
    agreement: float

    def hurts(self, tolerance: float) -> bool:
        """Whether the loss is certain (95 %) and large enough to matter."""
        return bool(self.low > 0.0 and self.loss >= tolerance)

    def alarms(self, tolerance: float) -> bool:
        """Whether the loss shows drift by itself, though no other figure may have moved."""
        return bool(self.p_value <= self.level and self.loss >= tolerance)


def measure_harm(reference: Frames, window: Frames, spacing: tuple[int, int], level: float) -> Harm:
    """Compare accuracy retained.

    Args:
        reference: what is usual; its held-out frames count.
        window: what is examined.
        spacing: frames of a stream between two independent ones, of both.
        level: the p-value at or below which the loss alone counts.
    """
    held_out = reference.take(reference.held_out)
    sides = [
        _side(frames, apart) for frames, apart in zip((held_out, window), spacing, strict=True)
    ]
    old, new = (side.retained for side in sides)
    loss = old.share - new.share
    error = math.hypot(sides[0].error, sides[1].error)
    freedom = min(old.clusters, new.clusters) - 1
    agreement = sides[1].agreement
    if not error > 0 or freedom < 1:
        nan = math.nan
        return Harm(old, new, loss, nan, nan, nan, level, agreement)
    half = student(freedom) * error
    p_value = float(stats.t.sf(loss / error, freedom))
    return Harm(old, new, loss, loss - half, loss + half, p_value, level, agreement)


@dataclass(frozen=True)
class _Side:
    retained: Retained
    error: float
    agreement: float


def _side(frames: Frames, spacing: int) -> _Side:
    cluster, unit = clusters_of(frames, spacing)
    large = frames.rung == len(LADDER) - 1
    looked = np.isfinite(frames.agreement) & ~large
    answers = _sums(cluster, large.astype(np.float64), np.ones(len(frames), np.bool_))
    agreements = _sums(cluster, frames.agreement, looked)
    share, share_error, _ = cluster_mean(answers)
    mean, mean_error, _ = cluster_mean(agreements)
    found = retained(agreements, share, unit)
    error = math.hypot((1 - share) * mean_error, (1 - mean) * share_error)
    return _Side(found, error, mean)


def clusters_of(frames: Frames, spacing: int) -> tuple[NDArray[np.int64], str]:
    """Which frames resemble each other: number of its cluster, int64 [N], and what clusters are.

    Streams where there are at least ten; else runs of twice ``spacing`` frames in a stream, whose
    neighbours hardly correlate.
    """
    stream = np.unique(frames.stream, return_inverse=True)[1].astype(np.int64)
    if len(stream) and stream.max() + 1 >= ENOUGH_SESSIONS:
        return stream, "sessions"
    run = frames.place // (2 * spacing)
    pairs = np.stack([stream, run], axis=1)
    return np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64), "runs"


def _sums(
    cluster: NDArray[np.int64], values: NDArray[np.float64], known: NDArray[np.bool_]
) -> list[tuple[int, float]]:
    size = int(cluster.max()) + 1 if len(cluster) else 0
    counts = np.bincount(cluster[known], minlength=size)
    sums = np.bincount(cluster[known], values[known], minlength=size)
    return list(zip(counts.tolist(), sums.tolist(), strict=True))
