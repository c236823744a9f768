"""Accuracy retained in production, measured by the shadow, without labels.

What is measured: on a sampled share of the frames that a cheaper rung answered, large is run on the
frame too, and the log keeps the F1 of the answer with large's detections taken for the truth
(``inference_graph.prediction_log.agreement``). A frame that large answered agrees with itself. With
``L`` of ``N`` answered frames answered by large, and mean agreement ``m`` over the shadowed rest::

    retained = L / N + (1 - L / N) * m

It measures how much of large's answers is kept, not how often large is right: the report's accuracy
retained, which is mAP50-95 over large's, is another figure of the same thing.

The interval: frames of a session resemble each other, so the standard error of ``m`` is that of a
ratio of sums over clusters (W. Cochran, Sampling Techniques, 1977, chapter 9)::

    se(m)^2 = G / (G - 1) * sum_g (s_g - m n_g)^2 / (sum_g n_g)^2

with the sum of agreements ``s_g`` and ``n_g`` shadowed frames in cluster ``g`` of ``G``, and
Student's t with ``G - 1`` degrees of freedom. Clusters are sessions where there are at least ten,
else the minutes of the sessions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

ENOUGH_SESSIONS = 10
"""From so many sessions on, they are the clusters."""


@dataclass(frozen=True)
class Retained:
    """Accuracy retained with its 95 % interval.

    Attributes:
        share: 0..1; NaN where no shadow has looked.
        low: lower end of the interval; NaN with fewer than two clusters.
        high: upper end.
        shadowed: frames the shadow looked at.
        clusters: how many groups of frames the interval rests on.
        unit: what they are: "sessions" or "minutes".
    """

    share: float
    low: float
    high: float
    shadowed: int
    clusters: int
    unit: str


def retained(
    clusters: Sequence[tuple[int, float]], large_share: float, unit: str = "sessions"
) -> Retained:
    """Accuracy retained from the shadow's agreements.

    Args:
        clusters: of every group of frames, how many the shadow looked at and the sum of their
            agreements.
        large_share: share of the answered frames that large answered, 0..1.
        unit: what the groups are.
    """
    shadowed = sum(count for count, _ in clusters)
    if not shadowed:
        known = 1.0 if large_share >= 1.0 else math.nan
        return Retained(known, known, known, 0, 0, unit)
    mean, error, groups = cluster_mean(clusters)
    share = large_share + (1 - large_share) * mean
    if groups < 2:
        return Retained(share, math.nan, math.nan, shadowed, groups, unit)
    half = (1 - large_share) * student(groups - 1) * error
    return Retained(share, max(share - half, 0.0), min(share + half, 1.0), shadowed, groups, unit)


def cluster_mean(clusters: Sequence[tuple[int, float]]) -> tuple[float, float, int]:
    """A mean over values that resemble each other within clusters.

    Args:
        clusters: number and sum of the values in each.

    Returns:
        The mean (NaN without values), its standard error (NaN with fewer than two clusters that
        have any), and the number of those clusters.
    """
    counts = np.array([count for count, _ in clusters if count], np.float64)
    sums = np.array([total for count, total in clusters if count], np.float64)
    groups = len(counts)
    if not groups:
        return math.nan, math.nan, 0
    mean = float(sums.sum() / counts.sum())
    if groups < 2:
        return mean, math.nan, groups
    variance = groups / (groups - 1) * ((sums - mean * counts) ** 2).sum() / counts.sum() ** 2
    return mean, math.sqrt(variance), groups


def student(freedom: int) -> float:
    """97.5 % quantile of Student's t, to three digits from two degrees of freedom on.

    Exact for one and two; else the expansion of M. Abramowitz and I. Stegun, Handbook of
    Mathematical Functions, 1964, 26.7.5.
    """
    if freedom == 1:
        return math.tan(math.pi * 0.475)
    if freedom == 2:
        return 0.95 * math.sqrt(2 / (1 - 0.95**2))
    z, n = NormalDist().inv_cdf(0.975), freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * n**4)
    )
