"""Cameras that share one set of rungs, routed by one decision: what they earn, what is dropped.

The gateway takes one frame after the other and knows the queues that the decisions before left;
so do the environment and everything that is compared here.
"""

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
from feature_transformer.context import LOAD_UNIT_MS, PREFERENCE_RANGE
from feature_transformer.observation import LOAD_SLICE, PREFERENCE_INDEX
from inference_graph.contract import LADDER

PRICES = (0.0, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Congestion prices that are tried."""

_STEPS = 100
_CAMERAS = 192
"""About so many cameras in all, in as many fleets as that makes."""


@dataclass(frozen=True)
class Traffic:
    """Arrival and processing of a fleet's frames.

    Attributes:
        frame_interval_ms: milliseconds between two frames of a camera.
        deadline_ms: the wait that a frame bears, milliseconds.
        shared_processor: whether all rungs of a fleet take turns on one processor.
    """

    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0
    shared_processor: bool = False


@dataclass(frozen=True, eq=False)
class FleetResult:
    """Mean reward per frame, the share of frames dropped at the deadline, and rewards by fleet.

    Attributes:
        reward: mean over all frames.
        dropped: share of the frames.
        rewards: float64 [fleets], mean of each fleet.
    """

    reward: float
    dropped: float
    rewards: NDArray[np.float64]


def run_fleet(
    replay: Replay, decide: Decide, cameras: int, latency_weight: float, traffic: Traffic, seed: int
) -> FleetResult:
    """Let fleets of ``cameras`` stream the replay's clips for a while.

    The same seed shows every way to route the same clips.

    Args:
        replay: the frames.
        decide: the way to route.
        cameras: cameras in each fleet.
        latency_weight: operating point.
        traffic: frames and processors.
        seed: entropy of the clips.
    """
    config = EnvironmentConfig(
        fleets=max(1, _CAMERAS // cameras),
        fleet_sizes=(cameras,),
        frame_interval_ms=traffic.frame_interval_ms,
        deadline_ms=traffic.deadline_ms,
        shared_processor=traffic.shared_processor,
    )
    environment = ReplayEnvironment(replay, config, seed, latency_weight=latency_weight)
    observations = environment.reset()
    earned = np.zeros(environment.num_envs)
    decisions = _STEPS * cameras
    for _ in range(decisions):
        observations, rewards, _, _ = environment.step(decide(observations))
        earned += rewards
    by_fleet = earned / decisions
    dropped = environment.dropped / (decisions * environment.num_envs)
    return FleetResult(float(by_fleet.mean()), dropped, by_fleet)


def with_price(decide: Decide, price: float) -> Decide:
    """A congestion price: latency weighs more, the more work stands in the queues.

    ``weight * (1 + price * sum of the loads)``, with loads in units of 100 ms, as observed. What a
    policy knows of its own wait stays; the price is for the wait that its frame makes for the
    others. It needs no training and one number.

    Args:
        decide: a policy that reads its operating point from the observation.
        price: 0 changes nothing.
    """

    def choose(observations: NDArray[np.float32]) -> NDArray[np.int64]:
        seen = observations.copy()
        load = seen[:, LOAD_SLICE].sum(axis=1)
        priced = seen[:, PREFERENCE_INDEX] + np.log10(1 + price * load)
        seen[:, PREFERENCE_INDEX] = np.minimum(priced, PREFERENCE_RANGE[1])
        return decide(seen)

    return choose


def tuned_price(
    replay: Replay, decide: Decide, cameras: int, latency_weight: float, traffic: Traffic, seed: int
) -> float:
    """The congestion price that earns most on the clips to learn from, the lowest of equals.

    Prices are tried in rising order until two in a row earn less than the best.
    """
    best, chosen, worse = -np.inf, 0.0, 0
    for price in PRICES:
        decider = with_price(decide, price)
        reward = run_fleet(replay, decider, cameras, latency_weight, traffic, seed).reward
        if reward > best:
            best, chosen, worse = reward, price, 0
        elif reward < best:
            worse += 1
        if worse == 2:
            break
    return chosen


def shortest_queue(observations: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rule: the heaviest rung of those whose queue is the shortest."""
    load = observations[:, LOAD_SLICE]
    return np.asarray(len(LADDER) - 1 - load[:, ::-1].argmin(axis=1), np.int64)


def within_slack(
    observations: NDArray[np.float32], service_ms: Sequence[float], slack_ms: float
) -> NDArray[np.int64]:
    """Rule: the heaviest rung that answers within the slack.

    In the manner of SuperServe (arXiv 2312.16733).

    Args:
        observations: float32 ``[n, 1048]``.
        service_ms: mean latency of each rung.
        slack_ms: time until the frame is late.
    """
    ready = observations[:, LOAD_SLICE] * LOAD_UNIT_MS + np.asarray(service_ms) <= slack_ms
    heaviest = len(LADDER) - 1 - ready[:, ::-1].argmax(axis=1)
    return np.where(ready.any(axis=1), heaviest, 0).astype(np.int64)


def _always(rung: int, observations: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.full(len(observations), rung, np.int64)


def compare_fleets(
    replay: Replay,
    policies: Mapping[str, Decide],
    sizes: Sequence[int],
    latency_weight: float,
    traffic: Traffic,
    seed: int,
) -> list[dict[str, Any]]:
    """Rungs alone, load-aware rules and policies in fleets of each size: a row for each pair."""
    service = replay.latency_ms.mean(axis=0).tolist()
    deciders: dict[str, Decide] = {
        **{f"always-{rung}": partial(_always, index) for index, rung in enumerate(LADDER)},
        "shortest-queue": shortest_queue,
        "slack": partial(within_slack, service_ms=service, slack_ms=traffic.deadline_ms),
        **policies,
    }
    rows = []
    for cameras in sizes:
        for name, decide in deciders.items():
            found = run_fleet(replay, decide, cameras, latency_weight, traffic, seed)
            rows.append(
                {"cameras": cameras, "name": name, "reward": found.reward, "dropped": found.dropped}
            )
    return rows


def resampled_mean(gains: NDArray[np.float64], count: int, seed: int) -> NDArray[np.float64]:
    """The mean of paired gains, then those of ``count`` resamples, float64 [1 + count]."""
    drawn = np.random.default_rng(seed).integers(0, len(gains), (count, len(gains)))
    return np.concatenate(([gains.mean()], gains[drawn].mean(axis=1)))
