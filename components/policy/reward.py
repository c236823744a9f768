"""The reward: what a rung's answer to a frame is worth, less what its time and money weigh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Rewards:
    """What each rung's answer to each frame came to; N frames, R rungs in the ladder's order.

    Attributes:
        quality: float32 [N, R], contribution to the set's mAP (`average_precision`).
        latency_ms: float32 [N, R], milliseconds of each rung.
        cost_usd: float32 [N, R], US dollars per million such frames.
        objective: float64 [3], what the reward weighs: quality, latency (the default operating
            point) and cost.
    """

    quality: NDArray[np.float32]
    latency_ms: NDArray[np.float32]
    cost_usd: NDArray[np.float32]
    objective: NDArray[np.float64]

    @cached_property
    def latency_unit_ms(self) -> float:
        """Mean latency of the heaviest rung in milliseconds: the unit of every latency ratio."""
        return float(self.latency_ms[:, -1].mean())

    @cached_property
    def latency_ratio(self) -> NDArray[np.float32]:
        """Latency over the heaviest rung's mean, float32 [N, R]."""
        return (self.latency_ms / np.float32(self.latency_unit_ms)).astype(np.float32)

    @cached_property
    def worth(self) -> NDArray[np.float32]:
        """The reward before latency is paid for, float32 [N, R].

        ``quality_weight * quality - cost_weight * cost / cost of the heaviest rung``.
        """
        quality_weight, _, cost_weight = self.objective
        cost_ratio = self.cost_usd / self.cost_usd[:, -1].mean()
        return (quality_weight * self.quality - cost_weight * cost_ratio).astype(np.float32)

    @property
    def latency_weight(self) -> float:
        """The default operating point: weight of the latency over the heaviest rung's."""
        return float(self.objective[1])

    def reward(self, latency_weight: float) -> NDArray[np.float32]:
        """Reward of each frame and rung without queues: worth less paid latency, [N, R]."""
        return self.worth - np.float32(latency_weight) * self.latency_ratio

    def optimal(self, latency_weight: float) -> NDArray[np.int64]:
        """The optimal labels: the rung of the highest reward, the cheaper one of equals, [N]."""
        return self.reward(latency_weight).argmax(axis=1)
