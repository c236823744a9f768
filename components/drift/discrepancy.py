"""Maximum mean discrepancy of two samples of embeddings, with a permutation p-value.

It separates any two distributions, without fitting one (A. Gretton et al., "A kernel two-sample
test", JMLR 13, 2012). The kernel is Gaussian, its width the median distance. alibi-detect
computes it where it is installed; NumPy computes the same statistic where it is not.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.drift.config import DriftConfig
from components.drift.relabel import permutation_p, relabellings
from foundation.errors import ConfigurationError

INSTALL = "install gearshift with the extra 'drift': pip install 'gearshift[drift]'"
_MOST = 300
"""Embeddings of a side that are compared: the kernel matrix has their sum, squared, entries."""


@dataclass(frozen=True)
class Discrepancy:
    """How far apart two samples are.

    Attributes:
        statistic: unbiased estimate of the squared discrepancy; may be below zero.
        p_value: share of relabellings as far apart, the observed one among them.
        usual: 95 % of the relabellings are below.
        method: what computed it.
    """

    statistic: float
    p_value: float
    usual: float
    method: str


def has_alibi_detect() -> bool:
    """Whether the extra is installed; nothing is imported."""
    return importlib.util.find_spec("alibi_detect") is not None


def check_alibi_detect(what: str) -> None:
    """Refuse to go on without the extra.

    Raises:
        ConfigurationError: states what to install.
    """
    if not has_alibi_detect():
        raise ConfigurationError(f"{what} needs the package alibi-detect; {INSTALL}")


def discrepancy(
    reference: NDArray[np.float32], window: NDArray[np.float32], config: DriftConfig
) -> Discrepancy:
    """Compare two samples of embeddings.

    Args:
        reference: float32 [n, E].
        window: float32 [m, E].
        config: who computes, and how many relabellings.

    Raises:
        ConfigurationError: alibi-detect is asked for and not installed.
    """
    old, new = (_some(side) for side in (reference, window))
    together = np.concatenate([old, new]).astype(np.float64)
    # By the spread of both: by the reference's alone, an unchanged window would look wider.
    spread = together.std(axis=0)
    together = (together - together.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0)
    old, new = together[: len(old)], together[len(old) :]
    if config.embedding == "alibi-detect":
        check_alibi_detect("embedding alibi-detect")
    if config.embedding == "numpy" or not has_alibi_detect():
        return _by_numpy(old, new, config)
    return _by_alibi_detect(old, new, config)


def _by_numpy(
    old: NDArray[np.float64], new: NDArray[np.float64], config: DriftConfig
) -> Discrepancy:
    kernel = _kernel(np.concatenate([old, new]), _width(old, new))
    labels = relabellings(len(old), len(kernel), config.permutations, config.seed)
    found = _unbiased(kernel, labels)
    return Discrepancy(
        float(found[0]), permutation_p(found), float(np.quantile(found[1:], 0.95)), "MMD by NumPy"
    )


def _by_alibi_detect(
    old: NDArray[np.float64], new: NDArray[np.float64], config: DriftConfig
) -> Discrepancy:
    import torch
    from alibi_detect.cd import MMDDrift  # type: ignore[import-untyped]  # it has no types

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # its matrices are small: threads would wait for each other
    try:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            detector = MMDDrift(
                old.astype(np.float32),
                backend="pytorch",
                p_val=0.05,
                device="cpu",
                n_permutations=config.permutations,
                configure_kernel_from_x_ref=False,
                sigma=np.array([_width(old, new)], np.float32),
            )
            data = detector.predict(new.astype(np.float32))["data"]
    finally:
        torch.set_num_threads(threads)
    # It does not count the observed labels among the relabellings; see permutation_p.
    p_value = (float(data["p_val"]) * config.permutations + 1) / (config.permutations + 1)
    return Discrepancy(
        float(data["distance"]), p_value, float(data["distance_threshold"]), "MMD by alibi-detect"
    )


def _kernel(points: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Gaussian kernel with zeros on the diagonal, float64 [n, n]."""
    squares = (points**2).sum(axis=1)
    distances = np.maximum(squares[:, None] + squares[None] - 2.0 * points @ points.T, 0.0)
    kernel = np.exp(-distances / (2.0 * width**2))
    np.fill_diagonal(kernel, 0.0)
    return kernel


def _unbiased(kernel: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared discrepancy under each row of labels, float64 [P]; labels [P, n] are 0 and 1."""
    first = labels[0].sum()
    second = len(kernel) - first
    within = (labels @ kernel * labels).sum(axis=1)
    between = labels @ kernel.sum(axis=1) - within
    rest = kernel.sum() - within - 2.0 * between
    return np.asarray(
        within / (first * (first - 1))
        + rest / (second * (second - 1))
        - 2.0 * between / (first * second)
    )


def _width(old: NDArray[np.float64], new: NDArray[np.float64]) -> float:
    """Square root of half the median squared distance, as alibi-detect has it."""
    points = np.concatenate([old, new])
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2.0 * points @ points.T
    median = float(np.median(distances[np.triu_indices(len(points), 1)]))
    return math.sqrt(max(median, 1e-12) / 2.0)


def _some(side: NDArray[np.float32]) -> NDArray[np.float32]:
    if len(side) <= _MOST:
        return side
    return side[np.linspace(0, len(side) - 1, _MOST).astype(np.int64)]
