"""The operating point of a policy: the accuracy that its latency budget buys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from components.policy.clone import decide_by
from components.policy.closed_loop import route
from components.policy.network import RungLogits
from components.policy.seen_frames import SeenFrames
from components.profiling.replay import Replay

if TYPE_CHECKING:
    from components.policy.refine import RefineConfig


def operating_point(
    replay: Replay,
    network: RungLogits,
    config: RefineConfig,
    observe_ms: float = 0.0,
    seen: SeenFrames | None = None,
) -> float:
    """The smallest latency weight that keeps the mean latency within the budget.

    A few clips measure latency well and a policy's accuracy badly, so the budget is set in
    latency, and accuracy is judged on the held-out clips. Where no operating point is cheap enough,
    the cheapest is taken. Floors of protected classes go before the budget: where one is not kept,
    dearer points are tried in turn, and where none keeps them all, the dearest is taken, which the
    gate refuses.

    Args:
        replay: the clips to choose it on.
        network: the policy.
        config: the budget.
        observe_ms: milliseconds of the frame's observation, for a policy that reads it.
        seen: what the rungs saw on the clips, and the floors; none are kept without it.
    """
    budget = min(
        config.latency_budget, (1 - config.saving) * _latency_that_is_enough(replay, config)
    )
    points = np.geomspace(config.lowest_latency_weight, config.highest_latency_weight, 60)
    rows, decide = np.arange(len(replay)), decide_by(network)
    router = observe_ms / replay.latency_unit_ms
    within = len(points) - 1
    for place, point in enumerate(points):
        choice = route(replay, decide, float(point))
        if float(replay.latency_ratio[rows, choice].mean()) + router <= budget:
            within = place
            break
    if seen is None:
        return float(points[within])
    kept = (
        point
        for point in points[within::-1].tolist()
        if seen.keep_floors(route(replay, decide, point))
    )
    return float(next(kept, points[0]))


def _latency_that_is_enough(replay: Replay, config: RefineConfig) -> float:
    """Mean latency of the lightest rung that would do alone, over the heaviest rung's.

    Infinite where only the heaviest does: against that any operating point saves something.
    """
    quality = replay.quality.sum(axis=0)
    latency = replay.latency_ratio.mean(axis=0)
    enough = quality[:-1] >= config.enough * quality[-1]
    return float(latency[:-1][enough].min(initial=np.inf))
