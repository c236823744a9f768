"""Cameras that share one set of rungs, routed by one decision: what they earn, what is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.policy.closed_loop import Decide
from components.policy.environment import EnvironmentConfig, ReplayEnvironment
from components.profiling.replay import Replay
from inference_graph.contract import LADDER

_STEPS = 100
_CAMERAS = 32
"""About so many cameras in all, in as many fleets as that makes."""


@dataclass(frozen=True)
class Traffic:
    """What frames arrive at: the interval of a camera and the wait it bears, milliseconds."""

    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0


@dataclass(frozen=True)
class FleetResult:
    """Mean reward per frame, and the share of frames dropped at the deadline."""

    reward: float
    dropped: float


def run_fleet(
    replay: Replay, decide: Decide, cameras: int, latency_weight: float, traffic: Traffic, seed: int
) -> FleetResult:
    """Let fleets of ``cameras`` stream the replay's clips for a while.

    Args:
        replay: the frames.
        decide: the way to route.
        cameras: cameras in each fleet.
        latency_weight: operating point.
        traffic: frame interval and deadline.
        seed: entropy of the clips.
    """
    config = EnvironmentConfig(
        fleets=max(1, _CAMERAS // cameras),
        fleet_sizes=(cameras,),
        frame_interval_ms=traffic.frame_interval_ms,
        deadline_ms=traffic.deadline_ms,
    )
    environment = ReplayEnvironment(replay, config, seed, latency_weight=latency_weight)
    observations = environment.reset()
    earned = []
    for _ in range(_STEPS):
        observations, rewards, _, _ = environment.step(decide(observations))
        earned.append(float(rewards.mean()))
    return FleetResult(
        float(np.mean(earned)), environment.dropped / (_STEPS * environment.num_envs)
    )


def _always(rung: int, observations: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.full(len(observations), rung, np.int64)


def compare_fleets(
    replay: Replay, policies: Mapping[str, Decide], sizes: Sequence[int], latency_weight: float,
    traffic: Traffic, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Each rung alone and each policy in fleets of each size: a row of figures for each pair."""
    deciders: dict[str, Decide] = {
        f"always-{rung}": partial(_always, index) for index, rung in enumerate(LADDER)
    }
    rows = []
    for cameras in sizes:
        for name, decide in {**deciders, **policies}.items():
            found = run_fleet(replay, decide, cameras, latency_weight, traffic, seed)
            rows.append(
                {"cameras": cameras, "name": name, "reward": found.reward, "dropped": found.dropped}
            )
    return rows
