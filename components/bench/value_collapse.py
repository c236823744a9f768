"""What a warm actor loses beside an untrained critic, and keeps beside a fitted one.

Both runs start from the same clone, see the same clips and have no leash; only the critic differs.
An untrained critic's values are noise, so advantages are too, and the first updates of PPO undo
what cloning found. This is why the refine stage fits the critic before any update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import explained_variance

from components.parallel import Progress, no_progress
from components.policy.clone import CloneConfig, clone_one, decide_by
from components.policy.closed_loop import mean_reward
from components.policy.critic import fit_critic
from components.policy.network import RungLogits
from components.policy.refine import RefineConfig, ppo_of
from components.profiling.replay import Replay
from foundation.configuration import configuration


@configuration
class BenchCollapseConfig:
    """What is compared.

    Attributes:
        timesteps: decisions of PPO in each run.
        learning_rate: of PPO; higher than refine's shows the collapse within fewer updates.
        clone_steps: optimiser steps of the clone that both start from.
        seed: entropy of both runs.
    """

    timesteps: Annotated[int, Field(ge=1)] = 60_000
    learning_rate: Annotated[float, Field(gt=0)] = 4e-3
    clone_steps: Annotated[int, Field(ge=1)] = 1000
    seed: int = 0


@dataclass(frozen=True)
class CollapseCurve:
    """One run.

    Attributes:
        timesteps: decisions so far, at each update.
        reward: mean reward per frame on held-out clips at each update, no queues shared.
        explained_variance: of the critic on the rollout before the update.
    """

    timesteps: tuple[int, ...]
    reward: tuple[float, ...]
    explained_variance: tuple[float, ...]


@dataclass(frozen=True)
class BenchCollapse:
    """The clone's reward, and the two runs that start from it."""

    clone: float
    fitted: CollapseCurve
    untrained: CollapseCurve


class _Curve(BaseCallback):
    """Held-out reward and explained variance at the end of each rollout."""

    def __init__(self, judge: Replay, points: Any, progress: Progress, timesteps: int) -> None:
        super().__init__()
        self._judge, self._points = judge, points
        self._progress, self._timesteps = progress, timesteps
        self.rows: list[tuple[int, float, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        variance = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        reward = mean_reward(self._judge, decide_by(self.model.policy.action_net), self._points)
        self.rows.append((self.num_timesteps, reward, float(variance)))
        self._progress(min(self.num_timesteps, self._timesteps), self._timesteps)


def bench_collapse(
    replay: Replay, config: BenchCollapseConfig, progress: Progress = no_progress
) -> BenchCollapse:
    """Run PPO from one clone twice.

    Args:
        replay: of the label stage; it learns from the train part and is judged on validation.
        config: what to compare.
        progress: called with decisions done and in all.

    Raises:
        InvalidInput: a part of the replay is empty.
    """
    torch.set_num_threads(1)
    learn, judge = replay.part("train"), replay.part("validation")
    recipe = CloneConfig(steps=config.clone_steps)
    original = clone_one(learn, recipe, config.seed)
    refine = RefineConfig(
        timesteps=config.timesteps,
        learning_rate=config.learning_rate,
        learns_quality=True,
        kl_coefficient=0.0,
    )
    clone = mean_reward(judge, decide_by(original), recipe.operating_points)
    curves = {}
    for turn, fitted in enumerate((True, False)):

        def both(done: int, total: int, turn: int = turn) -> None:
            progress(turn * total + done, 2 * total)

        curve = _Curve(judge, recipe.operating_points, both, config.timesteps)
        curves[fitted] = _run(learn, original, refine, config.seed, fitted, curve)
    return BenchCollapse(clone, curves[True], curves[False])


def _run(
    learn: Replay,
    original: RungLogits,
    config: RefineConfig,
    seed: int,
    fitted: bool,
    curve: _Curve,
) -> CollapseCurve:
    model, environment = ppo_of(learn, original, config, seed)
    if fitted:
        critic: Any = model.policy.value_net
        fit_critic(critic, original, environment, config.critic)
    model.learn(config.timesteps, callback=curve)
    timesteps, reward, variance = (tuple(column) for column in zip(*curve.rows, strict=True))
    return CollapseCurve(timesteps, reward, variance)
