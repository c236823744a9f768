"""Fitting the critic to the clone's own returns, before PPO changes the clone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.utils import explained_variance

from components.policy.environment import ReplayEnvironment
from components.policy.network import Critic, RungLogits

_TAIL = 20
"""A return is cut off where a rollout ends. The last so many steps, which know too little of their
future at any discount up to 0.9, are left out."""


@dataclass(frozen=True)
class CriticConfig:
    """How the critic is fitted.

    Attributes:
        rollouts: rollouts of the actor to learn from.
        rollout_steps: decisions of every fleet in each.
        epochs: passes over them.
        batch: rows per gradient step.
        discount: gamma of the returns.
    """

    rollouts: int
    rollout_steps: int
    epochs: int
    batch: int
    discount: float


def fit_critic(
    critic: Critic, actor: RungLogits, environment: ReplayEnvironment, config: CriticConfig
) -> float:
    """Fit the critic to the discounted returns of the actor.

    Returns:
        Explained variance on a rollout that the fit has not seen.
    """
    optimiser = torch.optim.Adam(critic.parameters(), lr=2e-3)
    parts = [_returns(actor, environment, config) for _ in range(config.rollouts + 1)]
    seen = torch.cat([part[0] for part in parts[:-1]])
    target = torch.cat([part[1] for part in parts[:-1]])
    for _ in range(config.epochs):
        for rows in torch.randperm(len(seen)).split(config.batch):
            loss = ((critic(seen[rows])[:, 0] - target[rows]) ** 2).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        predicted = critic(parts[-1][0])[:, 0]
    return float(explained_variance(predicted.numpy(), parts[-1][1].numpy()))


def _returns(
    actor: RungLogits, environment: ReplayEnvironment, config: CriticConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations and discounted returns of one rollout of the sampled actor."""
    steps = config.rollout_steps + _TAIL
    observations = environment.reset()
    seen, rewards, ends = [], [], []
    for _ in range(steps):
        with torch.no_grad():
            logits = actor(torch.from_numpy(observations))
        actions = torch.distributions.Categorical(logits=logits).sample().numpy()
        seen.append(observations)
        observations, reward, done, _ = environment.step(actions)
        rewards.append(reward)
        ends.append(done)
    returns = np.zeros((steps, environment.num_envs), np.float32)
    ahead: NDArray[np.float32] = np.zeros(environment.num_envs, np.float32)
    for step in reversed(range(steps)):
        ahead = rewards[step] + np.float32(config.discount) * ahead * ~ends[step]
        returns[step] = ahead
    kept = steps - _TAIL
    return (
        torch.from_numpy(np.concatenate(seen[:kept])),
        torch.from_numpy(returns[:kept].reshape(-1)),
    )
