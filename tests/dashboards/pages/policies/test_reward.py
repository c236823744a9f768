from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from policy_samples import MadeRuns, replay_of, save_replay

from components.profiling.replay import load_replay
from dashboards.pages.policies.reward import Weights, calculate, load_profile, sweep
from foundation.errors import InvalidInput

QUALITY = [
    [0.50, 0.55, 0.60],  # sparse: 0.05 more for small, 0.10 for large
    [0.30, 0.60, 0.62],  # moderate: small is nearly all of large
    [0.10, 0.30, 0.90],  # dense: large is three times small
    [0.40, 0.40, 0.40],  # sparse, of the other part: nothing to gain
]
LATENCY = [[10.0, 20.0, 50.0]] * 4
COST = [[1.0, 2.0, 5.0]] * 4
TYPES = ["sparse", "moderate", "dense", "sparse"]
PARTS = ["test", "test", "test", "train"]


def write_profile(folder: Path, rows: int = 12, **columns: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_replay(replay_of([4], objective=(1.0, 0.1, 0.0)), folder)
    frame = pd.DataFrame(
        {
            "rung": ["nano", "small", "large"] * 4,
            "part": np.repeat(PARTS, 3),
            "scene_type": np.repeat(TYPES, 3),
            "quality": np.array(QUALITY, np.float32).reshape(-1),
            "latency_ms": np.array(LATENCY, np.float32).reshape(-1),
            "cost_usd_per_million": np.array(COST, np.float32).reshape(-1),
            # By hand, at weights 1, 0.1 and 0: latency costs 0.02, 0.04 and 0.10.
            # 0.48 0.51 0.50 / 0.28 0.56 0.52 / 0.08 0.26 0.80 / 0.38 0.36 0.30
            "optimal": [False, True, False] * 2 + [False, False, True] + [True, False, False],
        }
        | columns
    )
    path = folder / "profile.parquet"
    frame[:rows].to_parquet(path, index=False)
    return path


def test_labels_shares_and_savings_by_hand(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path))
    assert profile.own == Weights(1.0, 0.1, 0.0)
    assert profile.optimal(profile.own).tolist() == profile.recorded.tolist() == [1, 1, 2, 0]
    whole = calculate(profile, profile.own)
    assert whole.changed == 0
    assert whole.overall.frames == 4
    assert whole.overall.shares == {"nano": 0.25, "small": 0.5, "large": 0.25}
    assert whole.overall.latency_ms == pytest.approx((20 + 20 + 50 + 10) / 4)
    assert whole.overall.latency_ratio == pytest.approx(25 / 50)
    assert whole.overall.usd_per_million == pytest.approx((2 + 2 + 5 + 1) / 4)
    assert whole.overall.savings == pytest.approx(1 - 2.5 / 5)
    assert whole.overall.quality == pytest.approx((0.55 + 0.60 + 0.90 + 0.40) / 4)
    assert whole.overall.quality_ratio == pytest.approx(2.45 / 2.52)
    held_out = calculate(profile, profile.own, "test")
    assert held_out.overall.shares == pytest.approx({"nano": 0, "small": 2 / 3, "large": 1 / 3})
    assert held_out.overall.latency_ms == pytest.approx(30.0)
    assert list(held_out.scene_types) == ["sparse", "moderate", "dense"]
    assert held_out.scene_types["sparse"].frames == 1
    assert held_out.scene_types["dense"].shares == {"nano": 0, "small": 0, "large": 1}


def test_other_weights_by_hand(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path))
    # Latency at 0.5 costs 0.1, 0.2 and 0.5: 0.40 0.35 0.10 / 0.20 0.40 0.12 / 0.00 0.10 0.40.
    dear = calculate(profile, Weights(1.0, 0.5, 0.0), "test")
    assert dear.overall.shares == pytest.approx({"nano": 1 / 3, "small": 1 / 3, "large": 1 / 3})
    assert dear.changed == pytest.approx(1 / 3)
    # The same price, half for time and half for money, which is latency at one price here.
    assert profile.cost_is_latency
    assert calculate(profile, Weights(1.0, 0.25, 0.25), "test").overall == dear.overall
    # Quality alone: the best rung of each frame, the cheapest of equals.
    best = calculate(profile, Weights(1.0, 0.0, 0.0))
    assert best.overall.shares == {"nano": 0.25, "small": 0.0, "large": 0.75}
    # Doubling every weight changes nothing.
    assert (
        calculate(profile, Weights(2.0, 0.2, 0.0)).overall
        == calculate(profile, Weights(1.0, 0.1, 0.0)).overall
    )


def test_a_sweep_is_the_calculation_at_each_weight(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path))
    shares = sweep(profile, profile.own, [0.1, 0.5], "test")
    for row, weight in zip(shares, (0.1, 0.5), strict=True):
        found = calculate(profile, Weights(1.0, weight, 0.0), "test").overall.shares
        assert row.tolist() == pytest.approx(list(found.values()))


@pytest.mark.parametrize("weights", [(-1, 0, 0), (1, float("nan"), 0), (1, 0, float("inf"))])
def test_weights_that_no_reward_has_are_refused(weights: tuple[float, float, float]) -> None:
    with pytest.raises(InvalidInput, match="weights of the reward"):
        Weights(*weights)


def test_a_part_without_frames_reports_it(tmp_path: Path) -> None:
    profile = load_profile(write_profile(tmp_path))
    with pytest.raises(InvalidInput, match="the validation part of this run has no frame"):
        calculate(profile, profile.own, "validation")


@pytest.mark.parametrize(
    ("rows", "columns", "named"),
    [
        (11, {}, "reshape"),
        (0, {}, "one row per frame and rung"),
        (12, {"rung": ["small", "nano", "large"] * 4}, "one row per frame and rung"),
        (12, {"rung": ["tiny", "small", "large"] * 4}, "an unknown rung"),
        (12, {"scene_type": ["empty"] * 12}, "an unknown scene_type"),
    ],
)
def test_a_broken_profile_states_what_is_wrong(
    tmp_path: Path, rows: int, columns: dict[str, object], named: str
) -> None:
    path = write_profile(tmp_path, rows, **columns)
    with pytest.raises(InvalidInput, match=named) as refused:
        load_profile(path)
    assert "run the pipeline again" in str(refused.value)


def test_no_profile_and_no_weights_state_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="run the pipeline again"):
        load_profile(tmp_path / "profile.parquet")
    path = write_profile(tmp_path)
    (tmp_path / "replay.npz").unlink()
    with pytest.raises(InvalidInput, match="run the label stage again"):
        load_profile(path)


def test_at_a_runs_own_weights_the_labels_are_the_runs(made_runs: MadeRuns) -> None:
    folder = made_runs.inputs.replay
    profile = load_profile(folder / "profile.parquet")
    stored = pd.read_parquet(folder / "profile.parquet")
    labels = profile.optimal(profile.own)
    recorded = stored[stored.optimal].rung.map({"nano": 0, "small": 1, "large": 2})
    np.testing.assert_array_equal(labels, recorded.to_numpy())
    replay = load_replay(folder)
    np.testing.assert_array_equal(labels, replay.optimal(replay.latency_weight))
    assert set(labels) == {0, 1, 2}  # so that agreeing is no accident
    assert calculate(profile, profile.own).changed == 0
