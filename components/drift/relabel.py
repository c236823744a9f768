"""Relabellings of two samples: the reference distribution of a permutation test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def relabellings(first: int, whole: int, count: int, seed: int) -> NDArray[np.float64]:
    """Who belongs to the first sample, as observed and then at random.

    Args:
        first: size of the first sample.
        whole: of both.
        count: relabellings besides the observed labels.
        seed: of the generator.

    Returns:
        float64 [1 + count, whole] of zeros and ones, ``first`` ones in every row; row 0 is what
        was observed.
    """
    labels = np.zeros((1 + count, whole))
    labels[:, :first] = 1.0
    np.random.default_rng(seed).permuted(labels[1:], axis=1, out=labels[1:])
    return labels


def permutation_p(found: NDArray[np.float64]) -> float:
    """Share of the statistics at least as large as the first, itself among them.

    The observed labels count as one of the relabellings, or a p-value could be 0 (B. Phipson and
    G. Smyth, Statistical Applications in Genetics and Molecular Biology 9, 2010).
    """
    slack = 1e-9 * max(1.0, abs(float(found[0])))  # sums in another order differ in the last digit
    return float(np.count_nonzero(found >= found[0] - slack) / len(found))
