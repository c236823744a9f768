from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from replay_samples import Learned, learnable_replay, replay_of
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

import components.policy.refine
from components.policy.clone import load_clone
from components.policy.closed_loop import mean_reward, route
from components.policy.environment import EnvironmentConfig, ReplayEnvironment
from components.policy.fleet import with_price
from components.policy.network import RoutingPolicy, RungLogits
from components.policy.operating_point import operating_point
from components.policy.refine import (
    KlLeash,
    RefineConfig,
    _train,
    refine,
)
from components.profiling.replay import load_replay, observations_of
from feature_transformer.observation import LOAD_SLICE, PREFERENCE_INDEX
from foundation.errors import ConfigurationError, InvalidInput, PipelineError
from inference_graph.router import Policy


class Recorder(BaseCallback):
    """Copies the rollout buffer as it stands when its turn comes."""

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        buffer = self.model.rollout_buffer
        names = (
            "observations",
            "actions",
            "rewards",
            "values",
            "episode_starts",
            "advantages",
            "returns",
        )
        self.taken = {name: getattr(buffer, name).copy() for name in names}
        self.last_values = self.locals["values"].numpy().flatten()
        self.last_dones = np.asarray(self.locals["dones"])


def log_probabilities(network: RungLogits, observations: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits = network(torch.from_numpy(observations)).numpy().astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def leashed() -> tuple[Recorder, Recorder, KlLeash, PPO, RungLogits]:
    """One rollout, recorded before and after the leash; the clone is another network."""
    torch.set_num_threads(1)
    world = ReplayEnvironment(learnable_replay(), EnvironmentConfig(fleets=1), 0)
    model = PPO(
        RoutingPolicy,
        world,
        n_steps=12,
        batch_size=96,
        n_epochs=1,
        gamma=0.9,
        gae_lambda=0.8,
        learning_rate=0.0,
        seed=0,
        device="cpu",
        policy_kwargs={"members": 2, "hidden": 8},
    )
    torch.manual_seed(5)
    other = RungLogits(members=2, hidden=8).eval()
    for network in (other, model.policy.action_net):
        network.set_latency([5.0, 20.0, 50.0])
    before, after = Recorder(), Recorder()
    leash = KlLeash(other, 0.05, lambda done, total: None, 96)
    model.learn(12 * world.num_envs, callback=CallbackList([before, leash, after]))
    return before, after, leash, model, other


def test_the_leash_changes_rewards_by_the_formula(
    leashed: tuple[Recorder, Recorder, KlLeash, PPO, RungLogits],
) -> None:
    before, after, leash, model, other = leashed
    steps, cameras = before.taken["rewards"].shape
    for step in range(steps):
        seen = before.taken["observations"][step]
        taken = before.taken["actions"][step].reshape(-1).astype(int)
        rows = np.arange(cameras)
        ours = log_probabilities(model.policy.action_net, seen)[rows, taken]
        theirs = log_probabilities(other, seen)[rows, taken]
        np.testing.assert_allclose(
            after.taken["rewards"][step],
            before.taken["rewards"][step] - 0.05 * (ours - theirs),
            atol=1e-5,
        )
    assert np.abs(after.taken["rewards"] - before.taken["rewards"]).max() > 1e-3
    np.testing.assert_array_equal(after.taken["values"], before.taken["values"])
    (row,) = leash.rows
    flat = before.taken["observations"].reshape(-1, before.taken["observations"].shape[-1])
    ours, theirs = (log_probabilities(net, flat) for net in (model.policy.action_net, other))
    kl = (np.exp(ours) * (ours - theirs)).sum(axis=1).mean()
    assert row["kl_to_clone"] == pytest.approx(kl, abs=1e-5)
    assert row["entropy"] == pytest.approx(-(np.exp(ours) * ours).sum(axis=1).mean(), abs=1e-5)
    assert row["reward"] == pytest.approx(float(before.taken["rewards"].mean()), abs=1e-6)


def test_advantages_are_those_of_the_leashed_rewards(
    leashed: tuple[Recorder, Recorder, KlLeash, PPO, RungLogits],
) -> None:
    """The sum of discounted errors, written out: gamma 0.9, lambda 0.8, cut where a clip ends."""
    _, after, _, _, _ = leashed
    rewards, values = after.taken["rewards"], after.taken["values"]
    starts = after.taken["episode_starts"]
    steps, cameras = rewards.shape
    expected = np.zeros((steps, cameras))
    for camera in range(cameras):
        for step in range(steps):
            weight = 1.0
            for ahead in range(step, steps):
                last = ahead == steps - 1
                ends = after.last_dones[camera] if last else starts[ahead + 1, camera]
                following = after.last_values[camera] if last else values[ahead + 1, camera]
                error = rewards[ahead, camera] - values[ahead, camera]
                error += 0.0 if ends else 0.9 * following
                expected[step, camera] += weight * error
                if ends:
                    break
                weight *= 0.9 * 0.8
    np.testing.assert_allclose(after.taken["advantages"], expected, atol=1e-4)
    np.testing.assert_allclose(after.taken["returns"], expected + values, atol=1e-4)


def test_a_leash_to_oneself_takes_nothing() -> None:
    world = ReplayEnvironment(learnable_replay(), EnvironmentConfig(fleets=1), 0)
    model = PPO(
        RoutingPolicy,
        world,
        n_steps=4,
        batch_size=64,
        n_epochs=1,
        seed=0,
        device="cpu",
        policy_kwargs={"members": 2, "hidden": 8},
    )
    twin = RungLogits(members=2, hidden=8).eval()
    twin.load_state_dict(model.policy.action_net.state_dict())
    before, after = Recorder(), Recorder()
    leash = KlLeash(twin, 1.0, lambda done, total: None, 64)
    model.learn(4 * world.num_envs, callback=CallbackList([before, leash, after]))
    np.testing.assert_array_equal(before.taken["rewards"], after.taken["rewards"])
    assert leash.rows[0]["kl_to_clone"] == pytest.approx(0.0, abs=1e-7)


def test_the_folder_holds_what_the_next_stages_read(learned: Learned) -> None:
    names = sorted(
        str(path.relative_to(learned.policies)) for path in learned.policies.rglob("*.*")
    )
    assert names == [
        "policy.onnx",
        *(
            f"seed-{k}/{name}"
            for k in (3, 4)
            for name in ("clone.onnx", "policy.onnx", "training.csv")
        ),
        "summary.json",
    ]
    released = learned.policies / f"seed-{learned.refined.released}" / "policy.onnx"
    assert (learned.policies / "policy.onnx").read_bytes() == released.read_bytes()
    stored = json.loads((learned.policies / "summary.json").read_text())
    assert stored["seeds"] == [3, 4] and stored["parity"] == [1.0, 1.0]
    assert all(variance > 0 for variance in stored["explained_variance"])


def test_the_files_earn_what_the_summary_states(learned: Learned) -> None:
    judge = load_replay(learned.replay).part("validation")
    points = np.geomspace(0.005, 1.0, 8)
    for index, seed in enumerate((3, 4)):
        place = learned.policies / f"seed-{seed}"
        for name, expected in (
            ("clone", learned.refined.clone_reward[index]),
            (
                "policy",
                learned.refined.refined_reward[index]
                if learned.refined.refined[index]
                else learned.refined.clone_reward[index],
            ),
        ):
            policy = Policy(place / f"{name}.onnx")
            assert policy.latency_weight == pytest.approx(learned.refined.latency_weight[index])
            earned = mean_reward(judge, lambda seen, p=policy: p.decide(seen)[0], points)
            assert earned == pytest.approx(expected, abs=1e-4)


def test_without_a_shown_gain_the_priced_clone_is_released(learned: Learned) -> None:
    rng = np.random.default_rng(0)
    replay = load_replay(learned.replay)
    seen = observations_of(replay.frames[:300], replay.looks[:300, 1], -1.0)
    seen[:, LOAD_SLICE] = rng.uniform(0, 3, (300, 3))
    for index, seed in enumerate((3, 4)):
        place = learned.policies / f"seed-{seed}"
        mean, low, high = learned.refined.over_price[index]
        assert low <= mean <= high
        assert learned.refined.refined[index] == (low > 0)
        clone, released = (Policy(place / f"{name}.onnx") for name in ("clone", "policy"))
        priced = with_price(lambda x, p=clone: p.decide(x)[0], learned.refined.price[index])
        if not learned.refined.refined[index]:
            np.testing.assert_array_equal(released.decide(seen)[0], priced(seen))


def test_ppo_keeps_what_the_clone_knew(learned: Learned) -> None:
    gap = learned.cloned.optimal - learned.cloned.best_fixed_rung
    for reward in learned.refined.refined_reward:
        assert reward > learned.cloned.best_fixed_rung + 0.4 * gap


@pytest.mark.parametrize("learns_quality", [True, False])
def test_ppo_changes_what_it_may(learned: Learned, learns_quality: bool) -> None:
    original = load_clone(learned.clones / "seed-3" / "clone.pt")
    config = replace(learned.config, learns_quality=learns_quality)
    replay = load_replay(learned.replay).part("train")
    model, _ = _train(replay, original, config, 7, KlLeash(original, 0.0, lambda *_: None, 1))
    before = original.state_dict()
    changed = {
        name.partition(".")[0]
        for name, value in model.policy.action_net.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"load_response"} | (
        {"quality", "log_sharpness"} if learns_quality else set()
    )


def test_the_log_has_a_row_for_every_update(learned: Learned) -> None:
    with (learned.policies / "seed-3" / "training.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    fleets = learned.config.fleets * len(EnvironmentConfig().fleet_sizes)
    per_update = learned.config.rollout_steps * fleets
    assert len(rows) == int(np.ceil(learned.config.timesteps / per_update))
    assert [float(row["timesteps"]) for row in rows] == [
        per_update * (k + 1) for k in range(len(rows))
    ]
    assert float(rows[0]["kl_to_clone"]) == pytest.approx(0.0, abs=1e-6)
    assert all(0 <= float(row["entropy"]) <= np.log(3) + 1e-6 for row in rows)
    assert all(np.isfinite(float(row["explained_variance"])) for row in rows)


class Switch(RungLogits):
    """Large up to a weight of 0.05, small up to 0.3, nano from there on."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        weight = 10.0 ** observations[:, PREFERENCE_INDEX]
        rung = (weight < 0.05).long() + (weight < 0.3).long()
        return torch.nn.functional.one_hot(rung, 3).float()


@pytest.mark.parametrize(("budget", "least"), [(1.02, 0.005), (1.0, 0.05), (0.3, 0.3), (0.05, 1.0)])
def test_the_operating_point_is_the_first_within_the_budget(budget: float, least: float) -> None:
    # Latency 1, 0.4 or 0.1 of large's, and 0.01 to observe.
    replay = replay_of([4], latency_ms=(5.0, 20.0, 50.0), observe_ms=0.5)
    config = RefineConfig(latency_budget=budget)
    points = np.geomspace(0.005, 1.0, 60)
    expected = points[points >= least - 1e-9][0]
    assert operating_point(replay, Switch(), config, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("enough", "saving", "least"),
    [
        # Small has 0.9 of large's quality at 0.4 of its latency, nano 0.5 at 0.1.
        (0.89, 0.0, 0.3),  # 0.41 with the observation is not below small's 0.4
        (0.95, 0.0, 0.05),  # only large is enough, so the budget of 0.5 counts
        (0.5, 0.0, 1.0),  # nano would do, and nothing is cheaper
        (0.89, 0.8, 1.0),  # 0.2 of 0.4 is 0.08, which nothing reaches
    ],
)
def test_a_policy_saves_against_the_lightest_rung_that_is_enough(
    enough: float, saving: float, least: float
) -> None:
    replay = replay_of([4], latency_ms=(5.0, 20.0, 50.0), observe_ms=0.5)
    replay = replace(replay, quality=np.array([[0.5, 0.9, 1.0]] * 4, np.float32))
    config = RefineConfig(latency_budget=0.5, enough=enough, saving=saving)
    points = np.geomspace(0.005, 1.0, 60)
    assert operating_point(replay, Switch(), config, 0.5) == pytest.approx(
        points[points >= least - 1e-9][0]
    )


def test_a_dearer_budget_is_used(learned: Learned) -> None:
    replay = load_replay(learned.replay).part("train", "validation")
    network = load_clone(learned.clones / "seed-3" / "clone.pt")
    found = []
    for budget in (0.2, 0.4, 0.6):
        weight = operating_point(
            replay, network, replace(learned.config, latency_budget=budget), 0.5
        )
        with torch.no_grad():
            choice = route(
                replay, lambda seen: network(torch.from_numpy(seen)).argmax(dim=1).numpy(), weight
            )
        mean = replay.latency_ratio[np.arange(len(replay)), choice].mean() + 0.5 / 50
        assert mean <= budget
        found.append(weight)
    assert found[0] >= found[1] >= found[2]


@pytest.mark.parametrize("explained", [0.0, -0.3, float("nan")])
def test_without_a_critic_it_does_not_start(
    learned: Learned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, explained: float
) -> None:
    monkeypatch.setattr(components.policy.refine, "fit_critic", lambda *_: explained)
    monkeypatch.setattr(components.policy.refine, "tuned_price", lambda *_: 0.0)
    with pytest.raises(
        PipelineError, match=rf"the critic explains {explained:.3f} of the variance"
    ):
        refine(learned.replay, learned.clones, tmp_path / "policies", learned.config)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_clone_is_refused(learned: Learned, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no clone; run the clone stage first"):
        refine(learned.replay, tmp_path, tmp_path / "out", learned.config)
    broken = tmp_path / "seed-0" / "clone.pt"
    broken.parent.mkdir()
    for content in (b"", b"no tensors"):
        broken.write_bytes(content)
        with pytest.raises(InvalidInput, match="is no clone"):
            refine(learned.replay, tmp_path, tmp_path / "out", learned.config)
    torch.save({"weights": torch.zeros(2)}, broken)
    with pytest.raises(InvalidInput, match="is no clone"):
        load_clone(broken)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"timesteps": 0},
        {"batch": 0},
        {"epochs": 0},
        {"kl_coefficient": -0.1},
        {"discount": 1.1},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        RefineConfig(**bad)
