from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from replay_samples import CATEGORIES, data_of, detections_of, replay_of

from components.evaluation.alternatives import Bench
from components.evaluation.breakdown import (
    against_labels,
    annotated,
    by_condition,
    by_scene_type,
    of_groups,
)
from components.profiling.replay import Replay
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER

BOX = [10.0, 10.0, 50.0, 50.0]


def bench() -> Bench:
    """Four frames with one object each; large finds all, small the first two, nano the first."""
    data = data_of(4, [(frame, BOX, 1, 0) for frame in range(4)])
    found = [
        detections_of(
            4, [(frame, BOX, 0.9 - 0.1 * frame, 1) for frame in range(seen)], LADDER[rung]
        )
        for rung, seen in enumerate((1, 2, 4))
    ]
    replay = replay_of([4])
    typed = Replay(**{**replay.__dict__, "scene_types": np.array([0, 0, 2, 2])})
    return Bench.build(typed, data, found)


def test_groups_by_hand() -> None:
    judged = bench()
    chosen = judged.rung("", np.array([0, 0, 2, 1]), extra_ms=1.0)
    groups = of_groups(judged, chosen, by_scene_type(judged.replay))
    assert list(groups) == ["sparse", "dense"]  # no frame is moderate
    sparse, dense = groups["sparse"], groups["dense"]
    assert sparse["frames"] == 2 and sparse["shares"] == {"nano": 1.0, "small": 0.0, "large": 0.0}
    # Nano finds one of two: 51 of 101 recall points; large finds both.
    assert sparse["retained"] == pytest.approx(51 / 101)
    assert sparse["latency_ratio"] == pytest.approx(11 / 50)
    assert dense["shares"] == {"nano": 0.0, "small": 0.5, "large": 0.5}
    assert dense["retained"] == pytest.approx(51 / 101)
    assert dense["latency_ratio"] == pytest.approx((51 + 21) / 2 / 50)


def test_a_group_in_which_large_finds_nothing_has_no_share() -> None:
    data = data_of(2, [(0, BOX, 1, 0), (1, BOX, 1, 0)])
    found = [detections_of(2, [(0, BOX, 0.9, 1)], rung) for rung in LADDER]
    judged = Bench.build(replay_of([2]), data, found)
    chosen = judged.rung("", np.zeros(2, np.int64))
    groups = {"second": np.array([False, True])}
    assert math.isnan(of_groups(judged, chosen, groups)["second"]["retained"])


def test_conditions_come_from_the_data_set() -> None:
    from dataclasses import replace

    data = data_of(3, [])
    images = tuple(
        replace(image, condition=name)
        for image, name in zip(data.images, ("fog", "day", "fog"), strict=True)
    )
    groups = by_condition(replay_of([3]), replace(data, images=images))
    assert {name: members.tolist() for name, members in groups.items()} == {
        "day": [False, True, False],
        "fog": [True, False, True],
    }


def test_against_the_labels_by_hand() -> None:
    # Rewards at a weight of 0.1: qualities less 0.02, 0.04 and 0.1.
    quality = [[0.5, 0.5, 0.5], [0.1, 0.2, 0.9], [0.1, 0.6, 0.2], [0.3, 0.3, 0.6]]
    judged = bench()
    replay = replay_of([4], quality)
    chosen = judged.rung("", np.array([0, 2, 2, 0]))
    found = against_labels(replay, chosen, 0.1)
    # Best: nano, large, small, large. Chosen: nano, large, large, nano.
    assert found["confusion"] == [[1, 0, 0], [0, 0, 1], [1, 0, 1]]
    assert found["balanced_accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert found["majority_balanced_accuracy"] == pytest.approx(1 / 3)
    # Regrets: 0, 0, 0.56 - 0.1, 0.5 - 0.28.
    assert found["mean_regret"] == pytest.approx((0.46 + 0.22) / 4, abs=1e-6)
    # Always nano: 0, 0.8 - 0.08, 0.56 - 0.08, 0.22.
    assert found["mean_regret_of_rung"]["nano"] == pytest.approx((0.72 + 0.48 + 0.22) / 4, abs=1e-6)


def test_pseudo_labels_are_left_out_unless_there_is_nothing_else() -> None:
    data = data_of(4, [])
    replay = replay_of([4])
    mixed = replace(
        data, images=tuple(replace(one, pseudo=one.id in (2, 4)) for one in data.images)
    )
    kept = annotated(replay, mixed)
    assert kept.image_ids.tolist() == [1, 3]
    drawn = replace(data, images=tuple(replace(one, pseudo=True) for one in data.images))
    assert annotated(replay, drawn).image_ids.tolist() == [1, 2, 3, 4]


def test_frames_without_an_object_that_counts_are_refused() -> None:
    data = data_of(2, [(0, (0, 0, 9, 9), CATEGORIES[0], 1)])  # a crowd
    bench = Bench.build(replay_of([2]), data, [detections_of(2, []) for _ in range(3)])
    with pytest.raises(InvalidInput, match="no object of the held-out frames counts"):
        bench.refuse_without_objects(Path("there"))
