"""PPO refines the clone where a decision costs others: shared queues, and the next frame's context.

Three safeguards keep the clone's knowledge (each is logged):

- the critic is fitted to the clone's own returns before any policy update; a warm actor beside an
  untrained critic otherwise collapses within a few updates, so training refuses to start while
  the critic explains none of the variance;
- a KL leash: every step's reward is lessened by ``kl_coefficient * log(pi(a|s) / clone(a|s))``
  (Ziegler et al. 2019, arXiv 1909.08593), before advantages are computed;
- the refined policy is kept only where it is shown to earn more under load than the clone with a
  *congestion price*, one tuned number, on fleets of the validation clips: the lower end of the
  paired interval is above zero. PPO starts from that clone.

The stage also makes two settings that travel with the policy, on the clips learned from: its
operating point, and when the tracks of a stream answer a frame in place of a rung.
"""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import explained_variance

from components.parallel import Progress, no_progress, part_of
from components.policy.clone import CLONE_FILE, decide_by, load_clone
from components.policy.closed_loop import mean_reward
from components.policy.critic import CriticConfig, fit_critic
from components.policy.environment import EnvironmentConfig, ReplayEnvironment
from components.policy.export import PolicyFacts, export_policy
from components.policy.files import CLONE_POLICY_FILE, LOG_FILE, POLICY_FILE, SUMMARY_FILE
from components.policy.fleet import (
    Traffic,
    resampled_mean,
    run_fleet,
    tuned_price,
)
from components.policy.network import RoutingPolicy, RungLogits
from components.policy.operating_point import operating_point
from components.policy.seen_frames import SeenFrames
from components.profiling.replay import Replay, load_replay
from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError, InvalidInput, PipelineError
from foundation.storage import atomic_path
from inference_graph.tracking import ReuseConfig

_FLEET = 8
"""Cameras of the fleets that the price is tuned in, and that PPO is compared with it in."""
_RESAMPLES = 1000


@configuration
class RefineConfig:
    """How PPO refines.

    Attributes:
        timesteps: decisions of PPO.
        rollout_steps: decisions of every fleet between two updates.
        batch: rows per gradient step.
        epochs: passes over a rollout.
        learning_rate: Adam's rate.
        discount: gamma; decisions reach a few frames ahead.
        gae_lambda: lambda of the generalised advantage estimate.
        clip_range: PPO's clip.
        entropy: weight of the entropy bonus.
        kl_coefficient: how dear it is to leave the clone.
        learns_quality: whether PPO may change what the clone predicts of the rungs' answers, too.
            Without it PPO learns the response to load alone, and while queues are empty every
            decision stays the clone's, who saw every rung's answer to every frame. With it, it
            earns a little more in fleets and a little less without load.
        critic_rollouts: rollouts of the clone that the critic is fitted to first.
        critic_epochs: passes over them.
        fleets: fleets of each size in the environment.
        frame_interval_ms: milliseconds between two frames of a camera.
        deadline_ms: a frame that would wait longer is dropped.
        lowest_latency_weight: operating points are drawn between this and the next.
        highest_latency_weight: see above.
        latency_budget: mean latency that the released operating point may have on the clips
            learned from, as a share of the heaviest rung's. What ``saving`` asks for holds as
            well: the smaller of the two decides.
        enough: share of the heaviest rung's quality with which a lighter one would do alone.
        saving: by how much the released operating point must be faster than the lightest rung
            that would do alone, as a share of its latency; 0.06 allows 94 % of it. A policy that
            takes as long as such a rung has nothing to give.
        seed: entropy of the environments.
        threads: processor threads of torch.
    """

    timesteps: Annotated[int, Field(ge=1)] = 120_000
    rollout_steps: Annotated[int, Field(ge=1)] = 64
    batch: Annotated[int, Field(ge=1)] = 1024
    epochs: Annotated[int, Field(ge=1)] = 4
    learning_rate: float = 3e-4
    discount: Share = 0.9
    gae_lambda: float = 0.9
    clip_range: float = 0.2
    entropy: float = 0.0
    kl_coefficient: Annotated[float, Field(ge=0)] = 0.02
    learns_quality: bool = False
    critic_rollouts: int = 6
    critic_epochs: int = 12
    fleets: int = 24
    frame_interval_ms: float = 100.0
    deadline_ms: float = 300.0
    lowest_latency_weight: float = 0.005
    highest_latency_weight: float = 1.0
    latency_budget: float = 0.243
    enough: Share = 0.95
    saving: Share = 0.06
    seed: int = 100
    threads: int = 1

    def __post_init__(self) -> None:
        """Raise ConfigurationError where a value makes no sense."""
        if self.latency_budget <= 0:
            raise ConfigurationError(
                f"latency_budget is {self.latency_budget}; give a share above 0, such as 0.25"
            )

    @property
    def critic(self) -> CriticConfig:
        """The critic's part of the configuration."""
        return CriticConfig(
            rollouts=self.critic_rollouts,
            rollout_steps=self.rollout_steps,
            epochs=self.critic_epochs,
            batch=self.batch,
            discount=self.discount,
        )

    @property
    def environment(self) -> EnvironmentConfig:
        """The environment's part of the configuration."""
        return EnvironmentConfig(
            fleets=self.fleets,
            frame_interval_ms=self.frame_interval_ms,
            deadline_ms=self.deadline_ms,
            lowest_latency_weight=self.lowest_latency_weight,
            highest_latency_weight=self.highest_latency_weight,
        )


@dataclass(frozen=True)
class RefineSummary:
    """Rewards before and after PPO, by seed.

    Attributes:
        seeds: numbers of the policies.
        clone_reward: mean validation reward of each clone, no queues shared.
        refined_reward: the same after PPO.
        clone_fleet_reward: mean reward of each clone, with its price, where cameras share queues.
        refined_fleet_reward: the same after PPO.
        price: congestion price of each clone.
        over_price: what PPO earns per frame more than the priced clone in fleets of eight, at the
            released operating point: mean, and both ends of the 95 % interval over fleets.
        explained_variance: of each critic on fresh rollouts, before the first policy update.
        parity: share of observations on which each exported policy decides as PPO's own does.
        latency_weight: the operating point of each policy.
        refined: whether PPO's policy was kept; otherwise the priced clone was.
        released: number of the policy that is handed on.
        reuse_longest: frames in a row that the tracks of a stream may answer by that policy; 0
            where reuse does not pay, or was not tried.
        reuse_doubt: largest doubt of the last look at which they may.
    """

    seeds: tuple[int, ...]
    clone_reward: tuple[float, ...]
    refined_reward: tuple[float, ...]
    clone_fleet_reward: tuple[float, ...]
    refined_fleet_reward: tuple[float, ...]
    price: tuple[float, ...]
    over_price: tuple[tuple[float, float, float], ...]
    explained_variance: tuple[float, ...]
    parity: tuple[float, ...]
    latency_weight: tuple[float, ...]
    refined: tuple[bool, ...]
    released: int
    reuse_longest: int
    reuse_doubt: float


class KlLeash(BaseCallback):
    """Takes the KL penalty off a rollout's rewards before PPO learns from it, and keeps the log.

    Args:
        clone: logits of the policy to stay near.
        coefficient: price of a nat.
        progress: called with camera steps done and in all.
        timesteps: camera steps in all.
    """

    def __init__(
        self,
        clone: RungLogits,
        coefficient: float,
        progress: Progress,
        timesteps: int,
    ) -> None:
        super().__init__()
        self._clone, self._coefficient = clone, coefficient
        self._progress, self._timesteps = progress, timesteps
        self.rows: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        observations = torch.from_numpy(buffer.observations.reshape(-1, buffer.obs_shape[0]))
        actions = torch.from_numpy(buffer.actions.reshape(-1)).long()
        with torch.no_grad():
            theirs = torch.log_softmax(self._clone(observations), dim=1)
            ours = torch.log_softmax(self.model.policy.action_net(observations), dim=1)
        taken = (ours - theirs).gather(1, actions[:, None])[:, 0]
        kl = (ours.exp() * (ours - theirs)).sum(dim=1).mean()
        entropy = -(ours.exp() * ours).sum(dim=1).mean()
        reward = float(buffer.rewards.mean())
        buffer.rewards -= self._coefficient * taken.numpy().reshape(buffer.rewards.shape)
        # The buffer computed its advantages from the unleashed rewards a moment ago.
        buffer.compute_returns_and_advantage(self.locals["values"], self.locals["dones"])
        variance = explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        self.rows.append(
            {
                "timesteps": float(self.num_timesteps),
                "reward": reward,
                "kl_to_clone": float(kl),
                "entropy": float(entropy),
                "explained_variance": float(variance),
            }
        )
        self._progress(min(self.num_timesteps, self._timesteps), self._timesteps)


def refine(
    replay: Path,
    clones: Path,
    out: Path,
    config: RefineConfig,
    progress: Progress = no_progress,
    seen: SeenFrames | None = None,
) -> RefineSummary:
    """Refine every clone and pick the policy to hand on.

    Args:
        replay: folder of the label stage.
        clones: folder of the clone stage.
        out: folder to write: ``seed-K/policy.onnx`` (refined, or the priced clone where PPO is not
            shown to be better), ``seed-K/clone.onnx`` (without price), ``seed-K/training.csv``, and
            the released ``policy.onnx``.
        config: the recipe.
        progress: called with camera steps done and in all, over all seeds.
        seen: what the rungs saw on the clips learned from; without it no frame reuses an answer,
            and no class is protected.

    Returns:
        Rewards before and after, with and without shared queues.

    Raises:
        InvalidInput: the replay or a clone is missing or broken.
        PipelineError: a critic could not be fitted, or an export decides otherwise than PPO.
    """
    torch.set_num_threads(config.threads)
    whole = load_replay(replay)
    places = sorted(clones.glob(f"seed-*/{CLONE_FILE}"), key=lambda path: int(path.parent.name[5:]))
    if not places:
        raise InvalidInput(f"{clones} holds no clone; run the clone stage first")
    stage = _Refinement(whole, config, seen)
    with atomic_path(out) as folder:
        table = [
            stage.refined(place, folder, part_of(progress, index, len(places)))
            for index, place in enumerate(places)
        ]
        best = max(table, key=lambda one: one.reward)
        reuse = ReuseConfig()
        if seen is not None:
            reuse = seen.reuse(decide_by(best.network), best.latency_weight)
            facts = stage.facts(best.seed, best.latency_weight, reuse)
            export_policy(best.network, best.folder / POLICY_FILE, facts, stage.learn)
        (folder / POLICY_FILE).write_bytes((best.folder / POLICY_FILE).read_bytes())
        summary = RefineSummary(
            seeds=tuple(one.seed for one in table),
            clone_reward=tuple(one.rewards[0] for one in table),
            refined_reward=tuple(one.rewards[1] for one in table),
            clone_fleet_reward=tuple(one.fleet_rewards[0] for one in table),
            refined_fleet_reward=tuple(one.fleet_rewards[1] for one in table),
            price=tuple(one.price for one in table),
            over_price=tuple(one.over_price for one in table),
            explained_variance=tuple(one.explained_variance for one in table),
            parity=tuple(one.parity for one in table),
            latency_weight=tuple(one.latency_weight for one in table),
            refined=tuple(one.kept for one in table),
            released=best.seed,
            reuse_longest=reuse.longest,
            reuse_doubt=reuse.doubt,
        )
        text = json.dumps(asdict(summary), indent=1)
        (folder / SUMMARY_FILE).write_text(text + "\n", encoding="utf-8")
    return summary


@dataclass(frozen=True, eq=False)
class _Refined:
    """One seed: its policy, and the figures of `RefineSummary`; pairs are the clone's and PPO's."""

    seed: int
    folder: Path
    network: RungLogits
    kept: bool
    rewards: tuple[float, float]
    fleet_rewards: tuple[float, float]
    price: float
    over_price: tuple[float, float, float]
    explained_variance: float
    parity: float
    latency_weight: float

    @property
    def reward(self) -> float:
        return self.rewards[self.kept]


class _Refinement:
    """Refines the clones of one run, each on its own."""

    def __init__(self, whole: Replay, config: RefineConfig, seen: SeenFrames | None) -> None:
        self.learn, self._judge = whole.part("train"), whole.part("validation")
        self._learned_from = whole.part("train", "validation")
        self._observe_ms = float(whole.observe_ms[0])
        self._config, self._seen = config, seen
        self._traffic = Traffic(config.frame_interval_ms, config.deadline_ms)

    def refined(self, place: Path, folder: Path, progress: Progress) -> _Refined:
        """Refine a clone's file and write what belongs to its seed."""
        config, name = self._config, place.parent.name
        seed = int(name[5:])
        plain, priced = load_clone(place), load_clone(place)
        weight = self._point(plain)
        price = tuned_price(
            self.learn, decide_by(plain), _FLEET, weight, self._traffic, config.seed + seed
        )
        priced.congestion_price.fill_(price)
        leash = KlLeash(priced, config.kl_coefficient, progress, config.timesteps)
        model, variance = _train(self.learn, priced, config, config.seed + seed, leash)
        trained: RungLogits = model.policy.action_net.eval()
        points = np.geomspace(config.lowest_latency_weight, config.highest_latency_weight, 8)
        decisions = decide_by(priced), decide_by(trained)
        cloned, refined = (mean_reward(self._judge, decide, points) for decide in decisions)
        before, after = (
            run_fleet(self._judge, decide, _FLEET, weight, self._traffic, config.seed)
            for decide in decisions
        )
        drawn = resampled_mean(after.rewards - before.rewards, _RESAMPLES, config.seed)
        low, high = np.percentile(drawn[1:], (2.5, 97.5)).tolist()
        kept = low > 0
        network = trained if kept else priced
        # Without learned qualities PPO changes nothing while the queues are empty.
        if kept and config.learns_quality:
            weight = self._point(network)
        target = folder / name
        target.mkdir(parents=True)
        facts = self.facts(seed, weight)
        export_policy(plain, target / CLONE_POLICY_FILE, facts, self.learn)
        parity = export_policy(network, target / POLICY_FILE, facts, self.learn)
        _write_log(leash.rows, target / LOG_FILE)
        return _Refined(
            seed,
            target,
            network,
            kept,
            (cloned, refined),
            (before.reward, after.reward),
            price,
            (float(drawn[0]), low, high),
            variance,
            parity,
            weight,
        )

    def facts(
        self, seed: int, latency_weight: float, reuse: ReuseConfig | None = None
    ) -> PolicyFacts:
        settings = {"refine": asdict(self._config)}
        return PolicyFacts(latency_weight, seed, settings, reuse or ReuseConfig())

    def _point(self, network: RungLogits) -> float:
        observe_ms = self._observe_ms if network.summary.uses_frame else 0.0
        return operating_point(self._learned_from, network, self._config, observe_ms, self._seen)


def ppo_of(
    learn: Replay, original: RungLogits, config: RefineConfig, seed: int
) -> tuple[PPO, ReplayEnvironment]:
    """PPO that starts from a clone, with a critic that knows nothing yet, and its environment."""
    environment = ReplayEnvironment(learn, config.environment, seed)
    model = PPO(
        RoutingPolicy,
        environment,
        learning_rate=config.learning_rate,
        n_steps=config.rollout_steps,
        batch_size=config.batch,
        n_epochs=config.epochs,
        gamma=config.discount,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.entropy,
        seed=seed,
        device="cpu",
        policy_kwargs={**original.shape, "learns_quality": config.learns_quality},
    )
    model.set_logger(Logger(None, []))  # its own would leave a folder behind
    model.policy.action_net.load_state_dict(original.state_dict())
    critic: Any = model.policy.value_net
    critic.summary.load_state_dict(original.summary.state_dict())
    return model, environment


def _train(
    learn: Replay, original: RungLogits, config: RefineConfig, seed: int, leash: KlLeash
) -> tuple[PPO, float]:
    """Fit the critic, then run PPO; returns the model and the critic's explained variance."""
    model, environment = ppo_of(learn, original, config, seed)
    critic: Any = model.policy.value_net
    variance = fit_critic(critic, original, environment, config.critic)
    if not variance > 0:
        raise PipelineError(
            f"the critic explains {variance:.3f} of the variance of the clone's returns, and PPO "
            "needs more than 0; raise refine.critic_rollouts or give more data"
        )
    model.learn(config.timesteps, callback=leash)
    return model, variance


def _write_log(rows: list[dict[str, float]], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
