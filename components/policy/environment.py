"""The world that PPO learns in: cameras that stream clips and share the rungs' queues.

A replay, vectorised in NumPy: no detector runs. A decision has two consequences. The rung chosen
for a frame decides what is known when the next frame comes, and its work stands in that rung's
queue before the other cameras of the same *fleet*. A camera alone with its rungs never waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from components.profiling.replay import Replay
from feature_transformer.context import LOAD_LIMIT, LOAD_UNIT_MS
from feature_transformer.observation import (
    FRAME_SLICE,
    LOAD_SLICE,
    LOOK_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    preference,
)
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER


@dataclass(frozen=True)
class EnvironmentConfig:
    """Cameras, queues and operating points.

    Attributes:
        fleets: number of fleets of each size in ``fleet_sizes``.
        fleet_sizes: cameras that share one set of rungs; 1 means no queue is shared.
        frame_interval_ms: milliseconds between two frames of a camera.
        deadline_ms: a frame whose wait would be longer is dropped: it earns no quality, adds no
            work, and pays the deadline as its latency.
        shared_processor: whether all rungs of a fleet take turns on one processor, instead of one
            each: then every frame waits for the work of all rungs.
        lowest_latency_weight: operating points are drawn per clip between this and the next,
            evenly in the logarithm.
        highest_latency_weight: see above.
    """

    fleets: int = 16
    fleet_sizes: tuple[int, ...] = (1, 1, 1, 1, 4, 8)
    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0
    shared_processor: bool = False
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.fleets < 1 or not self.fleet_sizes or min(self.fleet_sizes) < 1:
            raise ConfigurationError("fleets and fleet sizes must be at least 1")
        if self.frame_interval_ms <= 0 or self.deadline_ms <= 0:
            raise ConfigurationError("frame_interval_ms and deadline_ms must be above zero")
        if not 0 < self.lowest_latency_weight <= self.highest_latency_weight:
            raise ConfigurationError(
                "latency weights must be above zero and the lowest not above the highest"
            )


class ReplayEnvironment(VecEnv):
    """Many cameras at once, as a stable-baselines3 vector environment.

    Observations are float32 ``[cameras, 1048]``, actions int64 ``[cameras]`` (a rung each). An
    episode is one clip; a camera then goes on with another one, and its fleet's queues stay.

    Args:
        replay: the frames to stream; at least one clip.
        config: cameras, queues and operating points.
        seed: entropy of clips and operating points.
        latency_weight: fixes the operating point instead of drawing one per clip.
    """

    render_mode = None  # there is nothing to draw; stable-baselines3 asks

    def __init__(
        self,
        replay: Replay,
        config: EnvironmentConfig,
        seed: int,
        latency_weight: float | None = None,
    ) -> None:
        sizes = np.tile(np.array(config.fleet_sizes), config.fleets)
        self._replay, self._config, self._fixed = replay, config, latency_weight
        self._rng = np.random.default_rng(seed)
        self._fleet = np.repeat(np.arange(len(sizes)), sizes)
        self._first = np.repeat(np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes)
        self._fleets = len(sizes)
        cameras = len(self._fleet)
        self._unit_ms = np.float32(replay.latency_unit_ms)
        self._backlog = np.zeros((self._fleets, len(LADDER)), np.float32)
        self._position = np.zeros(cameras, np.int64)
        self._end = np.zeros(cameras, np.int64)
        self._weight = np.zeros(cameras, np.float32)
        self._observation = np.zeros((cameras, OBSERVATION_SIZE), np.float32)
        self._actions = np.zeros(cameras, np.int64)
        self._nothing: list[dict[str, Any]] = [{} for _ in range(cameras)]
        self.dropped = 0
        super().__init__(
            cameras,
            gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32),
            gymnasium.spaces.Discrete(len(LADDER)),
        )

    def reset(self) -> NDArray[np.float32]:
        """Empty the queues and start a clip on every camera."""
        self._backlog[:] = 0.0
        self._begin(np.arange(self.num_envs))
        # Cameras that all began at the first frame would all end at once.
        lengths = self._end - self._position
        self._position += (self._rng.random(self.num_envs) * lengths).astype(np.int64)
        self._observe()
        return self._observation.copy()

    def _begin(self, cameras: NDArray[np.int64]) -> None:
        bounds = self._replay.clip_bounds
        chosen = bounds[self._rng.integers(0, len(bounds), len(cameras))]
        self._position[cameras], self._end[cameras] = chosen[:, 0], chosen[:, 1]
        if self._fixed is None:
            low, high = self._config.lowest_latency_weight, self._config.highest_latency_weight
            drawn = np.exp(self._rng.uniform(np.log(low), np.log(high), len(cameras)))
            self._weight[cameras] = drawn
            points = np.log10(drawn)
        else:
            self._weight[cameras] = self._fixed
            points = np.full(len(cameras), preference(self._fixed))
        self._observation[cameras, PREFERENCE_INDEX] = points
        self._observation[cameras, LOOK_SLICE] = 0.0

    def _observe(self) -> None:
        self._observation[:, FRAME_SLICE] = self._replay.frames[self._position]
        load = np.minimum(self._backlog / LOAD_UNIT_MS, LOAD_LIMIT)
        self._observation[:, LOAD_SLICE] = load[self._fleet]

    def _work_of(
        self, rung: NDArray[np.int64], service: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """What each frame adds to the queues, milliseconds float32 ``[n, R]``."""
        if self._config.shared_processor:
            return np.repeat(service[:, None], len(LADDER), axis=1)
        work = np.zeros((len(rung), len(LADDER)), np.float32)
        work[np.arange(len(rung)), rung] = service
        return work

    def in_turn(
        self, decide: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    ) -> NDArray[np.int64]:
        """Decide for one camera of each fleet after the other, as a gateway does.

        Each decision sees the queues that those before it leave. The observations of `step` show
        the queues before any of them: cameras that decide at the same instant are blind to each
        other.

        Args:
            decide: observations float32 ``[n, 1048]`` to rungs int64 ``[n]``.

        Returns:
            The actions of the next step, int64 ``[cameras]``.
        """
        actions = np.zeros(self.num_envs, np.int64)
        queues = self._backlog.copy()
        turns = np.arange(self.num_envs) - self._first
        for turn in range(int(turns.max()) + 1):
            cameras = np.flatnonzero(turns == turn)
            fleets = self._fleet[cameras]
            seen = self._observation[cameras]
            seen[:, LOAD_SLICE] = np.minimum(queues[fleets] / LOAD_UNIT_MS, LOAD_LIMIT)
            actions[cameras] = chosen = decide(seen)
            queues[fleets] += self._work_of(
                chosen, self._replay.latency_ms[self._position[cameras], chosen]
            )
        return actions

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the rungs to use; `step_wait` does the step."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Serve one frame of every camera.

        Returns:
            Observations, rewards float32 ``[cameras]``, ends of clips bool ``[cameras]``, infos.
        """
        cameras, rung = np.arange(self.num_envs), self._actions
        service = self._replay.latency_ms[self._position, rung]
        # Cameras of a fleet are served in order: each waits for the work of those before it.
        work = self._work_of(rung, service)
        total = np.concatenate([np.zeros((1, len(LADDER)), np.float32), np.cumsum(work, axis=0)])
        ahead = (total[:-1] - total[self._first])[cameras, rung]
        wait = self._backlog[self._fleet, rung] + ahead
        late = wait > self._config.deadline_ms
        self.dropped += int(np.count_nonzero(late))
        latency = np.where(late, self._config.deadline_ms, wait + service)
        work[late] = 0.0
        np.add.at(self._backlog, self._fleet, work)
        np.maximum(self._backlog - self._config.frame_interval_ms, 0.0, out=self._backlog)
        rewards = (
            np.where(late, 0.0, self._replay.worth[self._position, rung])
            - self._weight * latency / self._unit_ms
        ).astype(np.float32)
        self._observation[:, LOOK_SLICE] = np.where(
            late[:, None], 0.0, self._replay.looks[self._position, rung]
        )
        self._position += 1
        done = self._position >= self._end
        infos = self._nothing
        if done.any():
            ended = np.flatnonzero(done)
            # The last observation of a clip has no frame left; its value is never bootstrapped.
            infos = self._nothing.copy()
            for camera in ended:
                infos[camera] = {"terminal_observation": self._observation[camera].copy()}
            self._begin(ended)
        self._observe()
        return self._observation.copy(), rewards, done, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Give the attribute once for each of the asked-for cameras."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole fleet."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once for each of the asked-for cameras."""
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No camera is wrapped."""
        return [False for _ in self._get_indices(indices)]


def steps_per_second(environment: VecEnv, steps: int, choices: Sequence[int]) -> float:
    """Camera steps per second of wall time under a fixed cycle of rungs."""
    environment.reset()
    actions = [np.full(environment.num_envs, rung, np.int64) for rung in choices]
    started = time.perf_counter()
    for step in range(steps):
        environment.step(actions[step % len(actions)])
    return steps * environment.num_envs / (time.perf_counter() - started)
