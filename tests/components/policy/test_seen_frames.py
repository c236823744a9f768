"""Floors of protected classes and reuse, on frames whose answers are written out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from chain_samples import Artifacts
from replay_samples import data_of, detections_of, replay_of

from components.data.dataset import load_dataset
from components.evaluation.alternatives import Bench
from components.evaluation.report_schema import REPORT_FILE, load_report
from components.policy.files import POLICY_FILE, SUMMARY_FILE
from components.policy.network import RungLogits
from components.policy.operating_point import operating_point
from components.policy.refine import RefineConfig
from components.policy.seen_frames import SeenFrames
from components.profiling.replay import load_replay
from feature_transformer.observation import PREFERENCE_INDEX
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.router import Policy

BOX = [100.0, 100.0, 100.0, 100.0]
POINTS = np.geomspace(0.005, 1.0, 60)


class Switch(RungLogits):
    """Large up to a weight of 0.05, small up to 0.3, nano from there on."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        weight = 10.0 ** observations[:, PREFERENCE_INDEX]
        rung = (weight < 0.05).long() + (weight < 0.3).long()
        return torch.nn.functional.one_hot(rung, 3).float()


def seen_frames(floors: Mapping[str, float]) -> SeenFrames:
    """Two frames with an ``a``, two with a ``b``; small misses one ``a``, nano both."""
    first, second = 1, 2
    kinds = [first, first, second, second]
    data = data_of(4, [(frame, BOX, kind, 0) for frame, kind in enumerate(kinds)])
    finds: list[tuple[int, ...]] = [(2, 3), (1, 2, 3), (0, 1, 2, 3)]
    found = [
        detections_of(4, [(frame, BOX, 0.9, kinds[frame]) for frame in frames], LADDER[rung])
        for rung, frames in enumerate(finds)
    ]
    replay = replay_of([4], latency_ms=(5.0, 20.0, 50.0))
    return SeenFrames(Bench.build(replay, data, found), floors)


@pytest.mark.parametrize(
    ("floors", "below"),
    [
        ({}, 1.0),  # the first within the budget is nano's
        ({"b": 1.0}, 1.0),  # nano sees every b
        ({"a": 0.5}, 0.3),  # small finds one of two: 51 of 101 recall points
        ({"a": 0.51}, 0.05),
        ({"a": 0.5, "b": 1.0}, 0.3),
        ({"c": 1.0}, 1.0),  # there is none
    ],
)
def test_floors_go_before_the_budget(floors: Mapping[str, float], below: float) -> None:
    seen = seen_frames(floors)
    config = RefineConfig(latency_budget=0.2)
    found = operating_point(seen.bench.replay, Switch(), config, 0.0, seen)
    within = POINTS[POINTS >= 0.3][0]
    expected = within if below == 1.0 else POINTS[below > POINTS][-1]
    assert found == pytest.approx(expected)


def test_where_no_point_keeps_a_floor_the_dearest_is_taken() -> None:
    seen = seen_frames({"a": 0.6})
    config = RefineConfig(latency_budget=0.2, lowest_latency_weight=0.1)
    found = operating_point(seen.bench.replay, Switch(), config, 0.0, seen)
    assert found == pytest.approx(0.1)


def test_a_class_that_the_ladder_does_not_know_is_refused(chain: Artifacts) -> None:
    replay = load_replay(chain.replay).part("train", "validation")
    with pytest.raises(ConfigurationError, match="names 'persn', which the ladder does not"):
        SeenFrames.load(replay, chain.dataset, chain.detections, {"persn": 0.9})
    classes = [category.name for category in load_dataset(chain.dataset).categories]
    known = SeenFrames.load(replay, chain.dataset, chain.detections, {classes[0]: 0.0})
    assert known.keep_floors(np.zeros(len(replay), np.int64))


def test_the_policy_carries_the_reuse_that_the_report_judges(chain: Artifacts) -> None:
    summary = json.loads((chain.policies / SUMMARY_FILE).read_text())
    policy, judged = Policy(chain.policies / POLICY_FILE), load_report(chain.report / REPORT_FILE)
    assert (policy.reuse.longest, policy.reuse.doubt) == (
        summary["reuse_longest"],
        summary["reuse_doubt"],
    )
    assert judged.tracked is not None
    assert judged.tracked.reuse.longest == policy.reuse.longest
    own = Path(chain.policies / f"seed-{summary['released']}" / POLICY_FILE)
    assert own.read_bytes() == (chain.policies / POLICY_FILE).read_bytes()
