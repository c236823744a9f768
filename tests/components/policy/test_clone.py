from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from replay_samples import COUNT, Learned, learnable_replay, replay_of

from components.policy.clone import CloneConfig, clone, clone_one, decide_by, load_clone
from components.policy.closed_loop import route
from components.profiling.replay import load_replay, observations_of, save_replay
from foundation.errors import ConfigurationError, InvalidInput

QUICK = CloneConfig(seeds=1, steps=16, batch=32, members=2, hidden=8, threads=1)


def test_it_beats_the_best_fixed_rung_and_comes_near_the_labels(learned: Learned) -> None:
    found = learned.cloned
    gap = found.optimal - found.best_fixed_rung
    assert gap > 0.03
    for reward in found.seeds:
        assert found.best_fixed_rung + 0.55 * gap < reward < found.optimal


def test_the_yardsticks_by_hand(learned: Learned) -> None:
    judge = load_replay(learned.replay).part("validation")
    points = np.geomspace(0.005, 1.0, 8)
    rewards = [judge.quality - w * judge.latency_ms / 50.0 for w in points]
    fixed = np.mean([reward.mean(axis=0).max() for reward in rewards])
    best = np.mean([reward.max(axis=1).mean() for reward in rewards])
    assert learned.cloned.best_fixed_rung == pytest.approx(fixed, abs=1e-5)
    assert learned.cloned.optimal == pytest.approx(best, abs=1e-5)


def test_crowded_looks_get_large_and_calm_ones_nano(learned: Learned) -> None:
    """Worth at a weight of 0.2: calm 0.48 on nano, 0.425 on small; crowded 0.7 on large."""
    replay = load_replay(learned.replay).part("test")
    for place in sorted(learned.clones.iterdir()):
        decide = decide_by(load_clone(place / "clone.pt"))
        choice = route(replay, decide, 0.2)
        known = replay.previous >= 0
        crowded = replay.scene_types == 2
        assert (choice[known & crowded] == 2).mean() > 0.9
        assert (choice[known & ~crowded] == 0).mean() > 0.9
        look = np.zeros((2, 16), np.float32)
        look[:, 0], look[:, 1], look[:, COUNT] = 1.0, 1.0, [0.2, 0.8]
        assert decide(
            observations_of(replay.frames[:2], look, np.float32(np.log10(0.2)))
        ).tolist() == [0, 2]


def test_one_seed_gives_one_policy(learned: Learned) -> None:
    part = load_replay(learned.replay).part("train")
    first, again, other = (clone_one(part, QUICK, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_clone_is_stored_as_plain_tensors(learned: Learned) -> None:
    assert sorted(path.name for path in learned.clones.iterdir()) == ["seed-3", "seed-4"]
    stored = torch.load(learned.clones / "seed-3" / "clone.pt", weights_only=True)
    assert stored["config"]["steps"] == 500
    network = load_clone(learned.clones / "seed-3" / "clone.pt")
    assert not network.training
    assert network.shape == {"members": 4, "hidden": 16, "uses_frame": False}


def test_progress_counts_the_steps_of_all_seeds(learned: Learned, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    clone(
        learned.replay,
        tmp_path / "clones",
        replace(QUICK, seeds=2),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(step, 32) for step in range(1, 33)]


def test_qualities_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    broken = learnable_replay(clips=5, frames=2)
    broken.quality[0, 1] = np.nan
    (tmp_path / "replay").mkdir()
    save_replay(broken, tmp_path / "replay")
    with pytest.raises(InvalidInput, match="qualities that are no numbers"):
        clone(tmp_path / "replay", tmp_path / "clones", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["replay"]


def test_without_frames_to_validate_by_it_reports_it(tmp_path: Path) -> None:
    (tmp_path / "replay").mkdir()
    save_replay(replay_of([2, 2], parts=[0, 2]), tmp_path / "replay")
    with pytest.raises(InvalidInput, match="the validation part is empty"):
        clone(tmp_path / "replay", tmp_path / "clones", QUICK)


@pytest.mark.parametrize(
    "bad",
    [
        {"seeds": 0},
        {"steps": 0},
        {"batch": 0},
        {"hidden": 0},
        {"lowest_latency_weight": 0.0},
        {"lowest_latency_weight": 0.5, "highest_latency_weight": 0.1},
    ],
)
def test_values_that_make_no_sense_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        replace(QUICK, **bad)
