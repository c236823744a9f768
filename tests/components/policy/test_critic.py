from __future__ import annotations

import numpy as np
import torch
from replay_samples import learnable_replay, replay_of

from components.policy.critic import CriticConfig, fit_critic
from components.policy.environment import EnvironmentConfig, ReplayEnvironment
from components.policy.network import Critic, RungLogits
from components.profiling.replay import observations_of
from feature_transformer.observation import PREFERENCE_INDEX

CONFIG = CriticConfig(rollouts=3, rollout_steps=32, epochs=10, batch=256, discount=0.9)


def actor() -> RungLogits:
    torch.manual_seed(0)
    network = RungLogits(members=2, hidden=8)
    network.set_latency([5.0, 20.0, 50.0])
    return network.eval()


def test_it_explains_what_can_be_seen() -> None:
    """Crowded clips earn more or less than calm ones, and a high weight of latency earns less."""
    replay = learnable_replay()
    world = ReplayEnvironment(replay, EnvironmentConfig(fleets=8), 0)
    critic = Critic()
    # Fresh from a reset no camera has looked yet: a summary fitted there clips every later look.
    critic.summary.fit(torch.from_numpy(observations_of(replay.frames, replay.looks[:, 0], 0.0)))
    assert fit_critic(critic, actor(), world, CONFIG) > 0.3


def test_a_constant_return_is_found_to_the_last_step_of_a_clip() -> None:
    """Large only, weight 0.1, clips of 1000: every return is (0.3 - 0.1) / (1 - 0.9) = 2."""
    replay = replay_of([1000], quality=0.3, latency_ms=50.0)
    replay.frames[:], replay.looks[:] = 0.0, 0.0
    config = EnvironmentConfig(fleets=2, fleet_sizes=(1,))
    world = ReplayEnvironment(replay, config, 0, latency_weight=0.1)
    critic = Critic()
    fit_critic(critic, actor(), world, CriticConfig(4, 32, 60, 64, 0.9))
    with torch.no_grad():
        values = critic(torch.from_numpy(world.reset()))
    # Returns are cut off twenty steps on: 2 (1 - 0.9^21) at the least, 2 (1 - 0.9^52) at most.
    np.testing.assert_allclose(values, 2.0, atol=0.3)


def test_returns_end_with_their_clip() -> None:
    """Clips of one frame: the return is the reward, whatever the discount."""
    replay = replay_of([1] * 4, quality=0.3, latency_ms=50.0)
    replay.frames[:] = 0.0
    world = ReplayEnvironment(replay, EnvironmentConfig(fleets=8, fleet_sizes=(1,)), 0)
    critic = Critic()
    explained = fit_critic(critic, actor(), world, CriticConfig(6, 32, 30, 64, 0.9))
    assert explained > 0.95  # reward 0.3 less the weight, and the weight is observed
    seen = world.reset()
    with torch.no_grad():
        values = critic(torch.from_numpy(seen))[:, 0].numpy()
    np.testing.assert_allclose(values, 0.3 - 10.0 ** seen[:, PREFERENCE_INDEX], atol=0.12)


def test_it_explains_nothing_where_nothing_can_be_seen() -> None:
    """All frames look alike, and what they are worth is drawn at random."""
    rng = np.random.default_rng(0)
    replay = replay_of([10] * 10, rng.normal(0, 1, (100, 3)), (0.01, 0.02, 0.05))
    replay.frames[:], replay.looks[:] = 0.0, 0.0
    world = ReplayEnvironment(replay, EnvironmentConfig(fleets=1), 0, latency_weight=0.1)
    assert fit_critic(Critic(), actor(), world, CONFIG) < 0.01
