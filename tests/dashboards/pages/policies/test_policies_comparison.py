from __future__ import annotations

import json

import numpy as np
import pytest
from policy_samples import MadeRuns, replay_of

from components.profiling.replay import load_replay
from dashboards.pages.policies.comparison import (
    changes,
    contestant,
    decisions,
    paired,
    side_by_side,
)
from dashboards.pages.policies.registry import registered_policies
from dashboards.pages.policies.reports import KnownPolicy, PolicyRow, known_policies
from dashboards.pages.policies.runs import find_runs
from foundation.errors import InvalidInput


def a_row(name: str, retained: float | None, **fields: float | None) -> PolicyRow:
    given = {
        "map": 0.5,
        "interval": None,
        "gap": 0.2,
        "latency_ratio": 0.3,
        "mean_ms": 30.0,
        "p50_ms": 20.0,
        "p95_ms": 60.0,
        "p99_ms": 80.0,
        "fps": 33.3,
        "usd_per_million": 0.7,
        "shares": {"nano": 0.2, "small": 0.5, "large": 0.3},
    } | fields
    return PolicyRow(name=name, setting="", retained=retained, **given)  # type: ignore[arg-type]  # a row's fields have several types


def test_differences_by_hand() -> None:
    first = a_row("gearshift", 0.9504, mean_ms=30.04)
    second = a_row("rule", 0.9596, mean_ms=29.0, gap=None, fps=33.32)
    found = {one.name: one for one in side_by_side(first, second)}
    kept = found["accuracy retained"]
    assert (kept.first, kept.second, kept.difference) == ("95.0 %", "96.0 %", "+1.0 points")
    assert kept.better == "second"
    latency = found["mean latency"]
    assert (latency.first, latency.second, latency.difference) == ("30.0 ms", "29.0 ms", "−1.0 ms")
    assert latency.better == "second"  # less is better here
    gap = found["share of the gap"]
    assert (gap.first, gap.second, gap.difference, gap.better) == ("0.20", "–", "", "neither")
    assert found["frames per second"].difference == "same"
    assert found["frames per second"].better == "neither"
    shares = side_by_side(first, a_row("x", 0.9, shares={"nano": 0.0, "small": 0.5, "large": 0.5}))
    assert shares[-1].difference == "+20.0 points"
    assert shares[-1].better == "neither"  # more large is neither good nor bad


@pytest.mark.parametrize(
    ("task", "measure"),
    [("detection", "mAP50-95"), ("ocr", "1 − normalised edit distance")],
)
def test_the_accuracy_is_named_after_the_task(task: str, measure: str) -> None:
    row = a_row("gearshift", 0.95)
    assert side_by_side(row, row, task)[3].name == measure


def test_paired_decisions_by_hand() -> None:
    # Two clips of two frames; latency over large's 50 ms is 0.2, 0.4, 1.
    replay = replay_of(
        [2, 2], quality=[[0.1, 0.2, 0.3], [0.1, 0.2, 0.3], [0.5, 0.5, 0.5], [0.0, 0.4, 0.8]]
    )
    first, second = np.array([0, 1, 1, 2]), np.array([2, 1, 0, 2])
    found = paired(replay, first, second, 0.1)
    assert found.confusion == ((0, 0, 1), (1, 1, 0), (0, 0, 1))
    assert (found.frames, found.clips, found.differing) == (4, 2, 0.5)
    assert found.quality == pytest.approx((0.2 + 0 + 0 + 0) / 4)
    assert found.latency_ms == pytest.approx((40 - 10) / 4)
    # Rewards: the first frame gains 0.2 - 0.08, the third 0.02.
    assert found.reward == pytest.approx((0.12 + 0.02) / 4)
    low, high = found.reward_interval
    # Drawing either clip twice is the most and the least that can be drawn.
    assert low == pytest.approx(0.02 / 2, abs=1e-6)
    assert high == pytest.approx(0.12 / 2, abs=1e-6)
    assert found.differing_by_type == {"sparse": 0.5}


def test_who_decides_alike_differs_in_nothing() -> None:
    replay = replay_of([3, 1])
    same = np.array([0, 1, 2, 0])
    found = paired(replay, same, same, 0.1)
    assert found.differing == found.reward == found.quality == found.latency_ms == 0
    assert found.reward_interval == (0.0, 0.0)


@pytest.fixture(scope="module")
def known(made_runs: MadeRuns) -> dict[str, KnownPolicy]:
    registry = registered_policies(f"sqlite:///{made_runs.runs / 'mlflow.db'}", "gearshift-policy")
    return {one.key: one for one in known_policies(registry, find_runs(made_runs.runs))}


def test_routed_again_a_policy_decides_as_its_report_states(
    known: dict[str, KnownPolicy], made_runs: MadeRuns
) -> None:
    """The confusion against the optimal labels, counted by the evaluate stage."""
    replay = load_replay(made_runs.runs / "calm" / "replay").part("test")
    one = contestant("v1", known)
    assert one is not None
    chosen = decisions(one, replay)
    labels = replay.optimal(one.policy.judgement.latency_weight)
    counted = paired(replay, labels, chosen, 0.1).confusion
    report = json.loads((made_runs.runs / "calm" / "report.json").read_text())
    assert [list(row) for row in counted] == report["labels"]["confusion"]
    shares = np.bincount(chosen, minlength=3) / len(chosen)
    assert shares.tolist() == pytest.approx(list(one.row.shares.values()))


def test_a_fixed_rung_decides_always_the_same_and_a_rules_decisions_are_not_kept(
    known: dict[str, KnownPolicy], made_runs: MadeRuns
) -> None:
    replay = load_replay(made_runs.runs / "calm" / "replay").part("test")
    small, rule = contestant("v1:always-small", known), contestant("v1:cascade", known)
    assert small is not None
    assert rule is not None
    assert set(decisions(small, replay).tolist()) == {1}
    with pytest.raises(InvalidInput, match="keeps the figures of cascade, not its decisions"):
        decisions(rule, replay)


def test_keys_of_no_policy_find_none(known: dict[str, KnownPolicy]) -> None:
    for key in ("", "v7", "v1:nothing", "v7:cascade", ":cascade"):
        assert contestant(key, known) is None
    eager = contestant("run-eager", known)
    assert eager is not None
    assert (eager.key, eager.name) == ("run-eager", "run eager")


def test_settings_that_differ_are_named_with_both_values(known: dict[str, KnownPolicy]) -> None:
    found = {one.name: (one.first, one.second) for one in changes(known["v1"], known["run-eager"])}
    assert found["latency_weight"] == ("0.1", "0.05")
    assert found["policy.crowd"] == ("0.35", "0.15")  # the card in the policy's file
    assert found["refine.crowd"] == ("0.35", "0.15")  # the run's options
    assert not any(name.startswith(("label.", "evaluate.", "data.")) for name in found)
    assert changes(known["v1"], known["v1"]) == ()


def test_options_are_compared_only_where_both_are_known(known: dict[str, KnownPolicy]) -> None:
    alone = KnownPolicy("v1", known["v1"].version, None)
    found = {one.name for one in changes(alone, known["run-eager"])}
    assert "policy.crowd" in found
    assert "refine.crowd" not in found
