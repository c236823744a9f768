from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from replay_samples import learnable_replay
from stable_baselines3 import PPO

from components.policy.environment import EnvironmentConfig, ReplayEnvironment
from components.policy.export import PolicyFacts, export_policy
from components.policy.network import RoutingPolicy, RungLogits
from feature_transformer.observation import (
    LOAD_SLICE,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    SCHEMA_HASH,
)
from foundation.errors import PipelineError
from inference_graph.contract import LADDER
from inference_graph.router import Policy

FACTS = PolicyFacts(0.07, 4, {"refine": {"timesteps": 12}})


def varied(model: PPO) -> RungLogits:
    """PPO's own actor, its predictions spread out so that all rungs are chosen."""
    actor = model.policy.action_net
    assert isinstance(actor, RungLogits)
    actor.set_latency([5.0, 10.0, 50.0])
    with torch.no_grad():
        for parameter in actor.quality.parameters():
            parameter.mul_(2.0)
    return actor


@pytest.fixture(scope="module")
def model() -> PPO:
    torch.set_num_threads(1)
    world = ReplayEnvironment(learnable_replay(), EnvironmentConfig(fleets=1), 0)
    return PPO(
        RoutingPolicy,
        world,
        n_steps=8,
        batch_size=16,
        seed=0,
        device="cpu",
        policy_kwargs={"members": 3, "hidden": 16},
    )


def test_the_file_decides_as_stable_baselines_does(model: PPO, tmp_path: Path) -> None:
    actor = varied(model)
    assert export_policy(actor, tmp_path / "policy.onnx", FACTS, learnable_replay()) == 1.0
    rng = np.random.default_rng(0)
    seen = rng.random((1000, OBSERVATION_SIZE), np.float32)
    seen[:, LOAD_SLICE] = rng.uniform(0, 2, (1000, 3)) * (rng.random((1000, 1)) < 0.5)
    seen[:, PREFERENCE_INDEX] = rng.uniform(-4, 1, 1000)
    theirs, _ = model.predict(seen, deterministic=True)
    ours, probabilities = Policy(tmp_path / "policy.onnx").decide(seen)
    np.testing.assert_array_equal(ours, theirs)
    assert np.bincount(ours, minlength=3).min() > 20
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), ours)
    with torch.no_grad():
        expected = model.policy.get_distribution(torch.from_numpy(seen)).distribution.probs
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)


def test_what_travels_with_it(model: PPO, tmp_path: Path) -> None:
    export_policy(varied(model), tmp_path / "policy.onnx", FACTS, learnable_replay())
    notes = {
        entry.key: entry.value for entry in onnx.load(str(tmp_path / "policy.onnx")).metadata_props
    }
    assert notes["gearshift.schema_hash"] == SCHEMA_HASH
    policy = Policy(tmp_path / "policy.onnx")
    assert policy.latency_weight == 0.07
    assert policy.card == {"seed": 4, "refine": {"timesteps": 12}}
    assert [path.name for path in tmp_path.iterdir()] == ["policy.onnx"]
    assert (tmp_path / "policy.onnx").stat().st_size < 200_000


def test_a_file_that_would_decide_otherwise_is_not_stored(
    model: PPO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nano_only(self: Policy, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            np.zeros(len(observations), np.int64),
            np.full((len(observations), len(LADDER)), 1 / 3, np.float32),
        )

    monkeypatch.setattr(Policy, "decide", nano_only)
    with pytest.raises(PipelineError, match=r"agrees with its network on \d+\.\d% of 1000"):
        export_policy(varied(model), tmp_path / "policy.onnx", FACTS, learnable_replay())
    assert list(tmp_path.iterdir()) == []
