"""Closed-loop routing over a replay: what the rung chosen now sees is the next frame's context."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.profiling.replay import Replay, observations_of
from feature_transformer.observation import preference
from inference_graph.contract import LADDER
from inference_graph.tracking import ReuseConfig, may_reuse

Decide = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Observations float32 ``[n, 1048]`` to rungs int64 ``[n]``."""


REUSE = len(LADDER)
"""The choice of a frame that is answered by the tracks, without a look."""


@dataclass(frozen=True)
class Step:
    """One moment of all clips that are still running.

    Attributes:
        frames: int64 [n], positions in the replay.
        before: int64 [n], positions of the frames before, -1 at the start of a clip.
        used: int64 [n], rungs that looked at those (0 where there is none).
    """

    frames: NDArray[np.int64]
    before: NDArray[np.int64]
    used: NDArray[np.int64]


def roll(replay: Replay, choose: Callable[[Step], NDArray[np.int64]]) -> NDArray[np.int64]:
    """Step through all clips side by side.

    Args:
        replay: the frames.
        choose: one moment to rungs int64 ``[n]``.

    Returns:
        The chosen rung of every frame, int64 ``[N]``.
    """
    bounds = replay.clip_bounds
    choice = np.zeros(len(replay), np.int64)
    for moment in range(int((bounds[:, 1] - bounds[:, 0]).max())):
        frames = bounds[:, 0] + moment
        frames = frames[frames < bounds[:, 1]]
        before = replay.previous[frames]
        choice[frames] = choose(Step(frames, before, np.where(before < 0, 0, choice[before])))
    return choice


def looks_before(replay: Replay, step: Step) -> NDArray[np.float32]:
    """The look blocks that a moment's frames find, float32 ``[n, 16]``."""
    looks = replay.looks[np.maximum(step.before, 0), step.used]
    return np.where((step.before >= 0)[:, None], looks, np.float32(0.0))


def route(replay: Replay, decide: Decide, latency_weight: float) -> NDArray[np.int64]:
    """Route every clip of a replay by a policy at one operating point, without load.

    Returns:
        The chosen rung of every frame, int64 ``[N]``.
    """
    point = preference(latency_weight)

    def choose(step: Step) -> NDArray[np.int64]:
        return decide(
            observations_of(replay.frames[step.frames], looks_before(replay, step), point)
        )

    return roll(replay, choose)


def route_with_reuse(
    replay: Replay, decide: Decide, latency_weight: float, config: ReuseConfig
) -> NDArray[np.int64]:
    """Route every clip by a policy that may reuse the tracks of earlier looks.

    A frame that is not looked at leaves the context as the last look made it.

    Returns:
        The chosen rung of every frame, or `REUSE`; int64 ``[N]``.
    """
    bounds, point = replay.clip_bounds, preference(latency_weight)
    choice = np.zeros(len(replay), np.int64)
    looks = np.zeros((len(bounds), replay.looks.shape[2]), np.float32)
    reused = np.zeros(len(bounds), np.int64)
    for moment in range(int((bounds[:, 1] - bounds[:, 0]).max())):
        running = np.flatnonzero(bounds[:, 0] + moment < bounds[:, 1])
        frames = bounds[running, 0] + moment
        chosen = decide(observations_of(replay.frames[frames], looks[running], point))
        reuse = may_reuse(looks[running], reused[running], config)
        choice[frames] = np.where(reuse, REUSE, chosen)
        looked = running[~reuse]
        looks[looked] = replay.looks[frames[~reuse], chosen[~reuse]]
        reused[running[reuse]] += 1
        reused[looked] = 0
    return choice


def mean_reward(replay: Replay, decide: Decide, latency_weights: NDArray[np.float64]) -> float:
    """Mean reward per frame of the routed clips, averaged over operating points."""
    rows = np.arange(len(replay))
    found = [
        replay.reward(float(weight))[rows, route(replay, decide, float(weight))].mean()
        for weight in latency_weights
    ]
    return float(np.mean(found))
