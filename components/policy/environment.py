"""The world that PPO learns in: cameras that stream clips and share the rungs' queues.

A replay, vectorised in NumPy: no detector runs. A decision has two consequences. The rung chosen
for a frame decides what is known when the next frame comes, and its work stands in that rung's
queue before the other cameras of the same *fleet*. A camera alone with its rungs never waits.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import gymnasium
import numpy as np
from numpy.typing import NDArray
from pydantic import Field
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
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER

_Sizes = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]


@configuration
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
        lowest_latency_weight: operating points are drawn per fleet, for each clip of its first
            camera, between this and the next, evenly in the logarithm.
        highest_latency_weight: see above.
    """

    fleets: Annotated[int, Field(ge=1)] = 16
    fleet_sizes: _Sizes = (1, 4, 8, 8)
    frame_interval_ms: Annotated[float, Field(gt=0)] = 100.0
    deadline_ms: Annotated[float, Field(gt=0)] = 300.0
    shared_processor: bool = False
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if not 0 < self.lowest_latency_weight <= self.highest_latency_weight:
            raise ConfigurationError(
                "latency weights must be above zero and the lowest not above the highest"
            )


class ReplayEnvironment(VecEnv):
    """Many fleets at once, as a stable-baselines3 vector environment.

    A step is one decision in every fleet. The cameras of a fleet take turns, as a gateway takes one
    frame after the other: each decision sees the queues that those before it left. When all cameras
    of a fleet had their turn, the time between two frames passes. Rewards are those of the camera
    that decided, so a return counts what a decision costs the cameras after it.

    Observations are float32 ``[fleets, 1048]``, actions int64 ``[fleets]`` (a rung each). For a
    camera alone an episode is one clip; a larger fleet's never ends, as its cameras end their clips
    at different times. A camera then goes on with another clip, and its fleet's queues stay.

    Args:
        replay: the frames to stream; at least one clip.
        config: cameras, queues and operating points.
        seed: entropy of clips and operating points.
        latency_weight: fixes the operating point instead of drawing them.
    """

    render_mode = None  # there is nothing to draw; stable-baselines3 asks

    def __init__(
        self,
        replay: Replay,
        config: EnvironmentConfig,
        seed: int,
        latency_weight: float | None = None,
    ) -> None:
        self._sizes = np.tile(np.array(config.fleet_sizes), config.fleets)
        self._replay, self._config, self._fixed = replay, config, latency_weight
        self._rng = np.random.default_rng(seed)
        self._first = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        self._turn = np.zeros(len(self._sizes), np.int64)
        cameras = int(self._sizes.sum())
        self._unit_ms = np.float32(replay.latency_unit_ms)
        self._backlog = np.zeros((len(self._sizes), len(LADDER)), np.float32)
        self._position = np.zeros(cameras, np.int64)
        self._end = np.zeros(cameras, np.int64)
        self._leads = np.full(cameras, -1)
        """The fleet whose first camera this is, or -1."""
        self._leads[self._first] = np.arange(len(self._sizes))
        self._weight = np.zeros(len(self._sizes), np.float32)
        self._preference = np.zeros(len(self._sizes), np.float32)
        self._looks = np.zeros((cameras, replay.looks.shape[2]), np.float32)
        self._observation = np.zeros((len(self._sizes), OBSERVATION_SIZE), np.float32)
        self._actions = np.zeros(len(self._sizes), np.int64)
        self._nothing: list[dict[str, Any]] = [{} for _ in self._sizes]
        self.dropped = 0
        super().__init__(
            len(self._sizes),
            gymnasium.spaces.Box(-np.inf, np.inf, (OBSERVATION_SIZE,), np.float32),
            gymnasium.spaces.Discrete(len(LADDER)),
        )

    def reset(self) -> NDArray[np.float32]:
        """Empty the queues and start a clip on every camera."""
        self._backlog[:] = 0.0
        self._turn[:] = 0
        self._begin(np.arange(len(self._position)))
        # Cameras that all began at the first frame would all end at once.
        lengths = self._end - self._position
        self._position += (self._rng.random(len(lengths)) * lengths).astype(np.int64)
        return self._observe()

    def _begin(self, cameras: NDArray[np.int64]) -> None:
        bounds = self._replay.clip_bounds
        chosen = bounds[self._rng.integers(0, len(bounds), len(cameras))]
        self._position[cameras], self._end[cameras] = chosen[:, 0], chosen[:, 1]
        fleets = self._leads[cameras]  # the cameras of a fleet have one operating point
        fleets = fleets[fleets >= 0]
        if self._fixed is None:
            low, high = self._config.lowest_latency_weight, self._config.highest_latency_weight
            drawn = np.exp(self._rng.uniform(np.log(low), np.log(high), len(fleets)))
            self._weight[fleets] = drawn
            self._preference[fleets] = np.log10(drawn)
        else:
            self._weight[fleets] = self._fixed
            self._preference[fleets] = preference(self._fixed)
        self._looks[cameras] = 0.0

    def _observe(self) -> NDArray[np.float32]:
        """What the camera whose turn it is sees, in every fleet; a copy."""
        cameras, seen = self._first + self._turn, self._observation
        seen[:, FRAME_SLICE] = self._replay.frames[self._position[cameras]]
        seen[:, LOOK_SLICE] = self._looks[cameras]
        seen[:, LOAD_SLICE] = np.minimum(self._backlog / LOAD_UNIT_MS, LOAD_LIMIT)
        seen[:, PREFERENCE_INDEX] = self._preference
        return seen.copy()

    def step_async(self, actions: NDArray[np.int64]) -> None:
        """Take the rungs to use; `step_wait` does the step."""
        self._actions = actions

    def step_wait(
        self,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Serve one frame of one camera in every fleet.

        Returns:
            Observations, rewards float32 ``[fleets]``, ends of clips bool ``[fleets]``, infos.
        """
        fleets, cameras, rung = np.arange(self.num_envs), self._first + self._turn, self._actions
        frame = self._position[cameras]
        service = self._replay.latency_ms[frame, rung]
        wait = self._backlog[fleets, rung]
        late = wait > self._config.deadline_ms
        self.dropped += int(np.count_nonzero(late))
        latency = np.where(late, self._config.deadline_ms, wait + service)
        rewards = (
            np.where(late, 0.0, self._replay.worth[frame, rung])
            - self._weight * latency / self._unit_ms
        ).astype(np.float32)
        work = np.where(late, np.float32(0.0), service)
        if self._config.shared_processor:
            self._backlog += work[:, None]
        else:
            self._backlog[fleets, rung] += work
        self._looks[cameras] = np.where(late[:, None], 0.0, self._replay.looks[frame, rung])
        self._position[cameras] += 1
        self._turn = (self._turn + 1) % self._sizes
        over = self._turn == 0
        self._backlog[over] = np.maximum(self._backlog[over] - self._config.frame_interval_ms, 0.0)
        ended = self._position[cameras] >= self._end[cameras]
        done = ended & (self._sizes == 1)
        infos = self._nothing
        if done.any():
            # The last observation of a clip has no frame left; its value is never bootstrapped.
            infos = self._nothing.copy()
            for fleet in np.flatnonzero(done):
                last = self._observation[fleet].copy()
                last[LOOK_SLICE] = self._looks[cameras[fleet]]
                infos[fleet] = {"terminal_observation": last}
        if ended.any():
            self._begin(cameras[ended])
        return self._observe(), rewards, done, infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Give the attribute once for each of the asked-for fleets."""
        return [getattr(self, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the environment."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method once for each of the asked-for fleets."""
        method = getattr(self, method_name)
        return [method(*method_args, **method_kwargs) for _ in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """No fleet is wrapped."""
        return [False for _ in self._get_indices(indices)]


def steps_per_second(environment: VecEnv, steps: int, choices: Sequence[int]) -> float:
    """Decisions per second of wall time under a fixed cycle of rungs."""
    environment.reset()
    actions = [np.full(environment.num_envs, rung, np.int64) for rung in choices]
    started = time.perf_counter()
    for step in range(steps):
        environment.step(actions[step % len(actions)])
    return steps * environment.num_envs / (time.perf_counter() - started)
