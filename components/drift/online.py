"""Drift on a stream: alibi-detect's online MMD, one independent frame at a time.

A sliding window of frames is compared with the reference's at every step, against thresholds that
are set so that without drift an alarm comes after ``expected_run`` frames on average (O. Cobb et
al., "Sequential multivariate change detection with calibrated and memoryless false detection
rates", AISTATS 2022). A batch test repeated at every frame would know no such rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.drift.discrepancy import check_alibi_detect
from foundation.configuration import configuration
from foundation.errors import InvalidInput

_MOST = 500
"""Frames of the reference that are compared: each step costs one kernel column of so many."""


@configuration
class OnlineConfig:
    """How the detector is set up.

    Attributes:
        expected_run: independent frames between two false alarms, on average.
        window_size: frames of the sliding window: small for fast alarms, large for faint drift.
        seed: of the thresholds' bootstrap.
    """

    expected_run: Annotated[int, Field(ge=20, le=100_000)] = 400
    window_size: Annotated[int, Field(ge=2, le=100)] = 20
    seed: int = 0


@dataclass(frozen=True)
class DriftStep:
    """What one more frame came to: whether it fires, the statistic, and its threshold."""

    fires: bool
    statistic: float
    threshold: float


class OnlineDetector:
    """Compares the last frames of a stream with the reference."""

    def __init__(self, reference: NDArray[np.float32], config: OnlineConfig) -> None:
        """Set the thresholds; takes some seconds.

        Args:
            reference: float32 [n, E], embeddings of independent frames.
            config: how.

        Raises:
            ConfigurationError: alibi-detect is not installed.
            InvalidInput: the reference has too few frames for the window.
        """
        check_alibi_detect("the online detector")
        least = 4 * config.window_size
        if len(reference) < least:
            raise InvalidInput(
                f"the reference has {len(reference)} independent frames with an observation; a "
                f"window of {config.window_size} needs {least}: give more, or a smaller window_size"
            )
        import torch
        from alibi_detect.cd import MMDDriftOnline  # type: ignore[import-untyped]  # it has no types

        self._centre = reference.mean(axis=0)
        self._spread = np.maximum(reference.std(axis=0), 1e-3)
        rng = np.random.default_rng(config.seed)
        rows = rng.permutation(len(reference))[:_MOST]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # its matrices are small: threads would wait for each other
        try:
            with torch.random.fork_rng():
                torch.manual_seed(config.seed)
                self._detector: Any = MMDDriftOnline(
                    self._scaled(reference[rows]),
                    ert=config.expected_run,
                    window_size=config.window_size,
                    backend="pytorch",
                    device="cpu",
                    n_bootstraps=max(10 * config.expected_run, 1000),
                    verbose=False,
                )
        finally:
            torch.set_num_threads(threads)

    def look(self, embedding: NDArray[np.float32]) -> DriftStep:
        """Take one more frame, float32 [E]."""
        data = self._detector.predict(self._scaled(embedding))["data"]
        return DriftStep(bool(data["is_drift"]), float(data["test_stat"]), float(data["threshold"]))

    def forget(self) -> None:
        """Start anew, as after an alarm."""
        self._detector.reset_state()

    def _scaled(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        return ((points - self._centre) / self._spread).astype(np.float32)
