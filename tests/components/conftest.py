"""One thread for every test here, and what several of them share: policies that were learned."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import pytest
from chain_samples import Artifacts, prepare
from made_once import made_once
from replay_samples import Learned, learnable_replay


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    cv2.setNumThreads(1)
    torch = sys.modules.get("torch")  # most tests here do without it, and it loads for seconds
    if torch is not None:
        torch.set_num_threads(1)


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Learned:
    """Clone and refine once for all tests."""
    return made_once(tmp_path_factory, "learned", _learn)


def _learn(folder: Path) -> Learned:
    from components.policy.clone import CloneConfig, clone
    from components.policy.refine import RefineConfig, refine
    from components.profiling.replay import save_replay

    (folder / "replay").mkdir()
    save_replay(learnable_replay(), folder / "replay")
    # These labels have no noise, so nothing has to be held back.
    recipe = CloneConfig(seeds=2, steps=500, batch=128, members=4, hidden=16, seed=3, threads=1)
    cloned = clone(folder / "replay", folder / "clones", recipe)
    config = RefineConfig(
        timesteps=6_000,
        rollout_steps=32,
        batch=512,
        epochs=2,
        critic_rollouts=3,
        critic_epochs=12,
        fleets=8,
        threads=1,
    )
    refined = refine(folder / "replay", folder / "clones", folder / "policies", config)
    return Learned(
        folder / "replay", folder / "clones", folder / "policies", cloned, refined, config
    )


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """All that the label stage reads."""
    return made_once(tmp_path_factory, "prepared", prepare)


@pytest.fixture(scope="session")
def chain(prepared: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Artifacts:
    """Everything up to the report."""
    return made_once(tmp_path_factory, "chain", lambda _: _up_to_the_report(prepared))


def _up_to_the_report(a: Artifacts) -> Artifacts:
    from components.evaluation.evaluate import EvaluateConfig, evaluate
    from components.policy.clone import CloneConfig, clone
    from components.policy.label import LabelConfig, label
    from components.policy.refine import RefineConfig, refine
    from components.policy.seen_frames import SeenFrames
    from components.profiling.replay import load_replay

    label(a.dataset, a.detections, a.timings, a.observations, a.split, a.replay, LabelConfig())
    recipe = CloneConfig(seeds=2, steps=160, batch=64, members=2, hidden=8, threads=1)
    clone(a.replay, a.clones, recipe)
    config = RefineConfig(
        timesteps=1_500,
        rollout_steps=32,
        batch=256,
        epochs=1,
        critic_rollouts=3,
        critic_epochs=12,
        fleets=4,
        threads=1,
    )
    learned_from = load_replay(a.replay).part("train", "validation")
    seen = SeenFrames.load(learned_from, a.dataset, a.detections, {})
    refine(a.replay, a.clones, a.policies, config, seen=seen)
    evaluate(
        a.dataset,
        a.detections,
        a.timings,
        a.replay,
        a.policies,
        a.report,
        EvaluateConfig(points=6, bootstrap=40, fleet_sizes=(1, 4)),
    )
    return a
