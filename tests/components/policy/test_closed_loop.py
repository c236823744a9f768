from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from replay_samples import COUNT, learnable_replay, replay_of

from components.policy.closed_loop import (
    REUSE,
    Step,
    looks_before,
    mean_reward,
    roll,
    route,
    route_with_reuse,
)
from components.policy.export import PolicyFacts, export_policy
from components.policy.network import RungLogits
from components.profiling.replay import Replay
from feature_transformer.observation import (
    LOAD_SLICE,
    LOOK_NAMES,
    LOOK_SLICE,
    PREFERENCE_INDEX,
    Look,
    frame_features,
    look_features,
)
from inference_graph.contract import LADDER, Detections
from inference_graph.router import FrameRouter, Policy
from inference_graph.tracking import ReuseConfig


def test_clips_step_side_by_side_and_know_what_was_used_before() -> None:
    replay = replay_of([3, 1, 2])
    steps: list[Step] = []

    def choose(step: Step) -> np.ndarray:
        steps.append(step)
        return (step.frames + 1) % 3

    assert roll(replay, choose).tolist() == [1, 2, 0, 1, 2, 0]
    assert [step.frames.tolist() for step in steps] == [[0, 3, 4], [1, 5], [2]]
    assert [step.before.tolist() for step in steps] == [[-1, -1, -1], [0, 4], [1]]
    assert [step.used.tolist() for step in steps] == [[0, 0, 0], [1, 2], [2]]


def test_the_look_before_is_that_of_the_rung_that_was_used() -> None:
    replay = replay_of([3])
    step = Step(np.array([0, 1, 2]), np.array([-1, 0, 1]), np.array([0, 2, 1]))
    assert looks_before(replay, step)[:, 0].tolist() == [0.0, 3.0, 102.0]


def test_routing_is_closed_loop() -> None:
    """A rule that asks for the next rung after the one that looked walks up the ladder."""
    replay = replay_of([5, 2])
    seen = []

    def decide(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        rung = (observations[:, LOOK_SLICE][:, 0].astype(int) % 100) - 1
        return np.where(rung < 0, 0, np.minimum(rung + 1, 2)).astype(np.int64)

    assert route(replay, decide, 0.01).tolist() == [0, 1, 2, 2, 2, 0, 1]
    everything = np.concatenate(seen)
    assert (everything[:, LOAD_SLICE] == 0).all()
    assert (everything[:, PREFERENCE_INDEX] == -2.0).all()


def test_mean_reward_by_hand() -> None:
    # Rewards 0.1 - 0.2 w, 0.2 - 0.4 w and 0.3 - w.
    replay = replay_of([2, 1])
    earned = {
        rung: mean_reward(replay, lambda seen, r=rung: np.full(len(seen), r), np.array([0.1, 0.4]))
        for rung in range(3)
    }
    # Means over the two weights: 0.1 - 0.05, 0.2 - 0.1, 0.3 - 0.25.
    assert earned == {
        0: pytest.approx(0.05, abs=1e-6),
        1: pytest.approx(0.10, abs=1e-6),
        2: pytest.approx(0.05, abs=1e-6),
    }


def test_a_clip_routes_as_the_server_would(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    size, count = (120, 160), 12
    frames = [
        cv2.resize(rng.integers(0, 256, (8, 10, 3), np.uint8), size[::-1]) for _ in range(count)
    ]
    found = [[_detections(rng) for _ in LADDER] for _ in frames]
    blank = replay_of([count])
    looks = np.array(
        [
            [
                look_features(Look(rung, one.boxes, one.scores, one.labels, size[1], size[0]))
                for rung, one in enumerate(row)
            ]
            for row in found
        ]
    )
    replay = Replay(
        **{
            **blank.__dict__,
            "frames": np.stack([frame_features(frame) for frame in frames]),
            "looks": looks,
        }
    )
    torch.manual_seed(0)
    network = RungLogits()
    network.set_latency([10.0, 20.0, 50.0])
    with torch.no_grad():
        for parameter in network.quality.parameters():
            parameter.mul_(3.0)  # so that the looks decide, not the price of latency
    export_policy(network, tmp_path / "policy.onnx", PolicyFacts(0.05, 0, {}), replay)
    policy = Policy(tmp_path / "policy.onnx")
    rolled = route(replay, lambda seen: policy.decide(seen)[0], 0.05)

    router = FrameRouter(policy)
    served = []
    for frame, answers in zip(frames, found, strict=True):
        rung = LADDER.index(router.route(frame).model)
        router.remember(LADDER[rung], answers[rung], frame.shape)
        served.append(rung)
    assert served == rolled.tolist()
    assert len(set(served)) > 1


def _detections(rng: np.random.Generator) -> Detections:
    count = int(rng.integers(0, 12))
    corner = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 50, (count, 2))], axis=1)
    scores = np.sort(rng.random(count))[::-1]
    labels = rng.integers(0, 3, count)
    return Detections(
        boxes.astype(np.float32), scores.astype(np.float32).copy(), labels.astype(np.int32)
    )


def test_what_rules_earn_by_hand() -> None:
    """Half of the clips are crowded; a clip's first frame of eight has no look, so it gets nano.

    At weights of 0.1 and 0.3, rungs cost 0.1, 0.4 and 1 of large's latency.
    """
    replay = learnable_replay()
    weights = np.array([0.1, 0.3])

    def rule(observations: np.ndarray) -> np.ndarray:
        return np.where(observations[:, LOOK_SLICE][:, COUNT] > 0.5, 2, 0).astype(np.int64)

    fixed = [
        mean_reward(replay, lambda seen, rung=rung: np.full(len(seen), rung), weights)
        for rung in range(3)
    ]
    calm, crowded = (0.5, 0.505, 0.51), (0.1, 0.4, 0.9)
    price = (0.02, 0.08, 0.2)  # of the mean weight
    expected = [(calm[rung] + crowded[rung]) / 2 - price[rung] for rung in range(3)]
    np.testing.assert_allclose(fixed, expected, atol=0.002)
    always_nano, sorted_out = calm[0] - price[0], 7 * (crowded[2] - price[2]) / 8
    by_rule = (always_nano + sorted_out + (crowded[0] - price[0]) / 8) / 2
    assert mean_reward(replay, rule, weights) == pytest.approx(by_rule, abs=0.002)
    # 0.505 for large everywhere, 0.551 for the rule; 0.59 for nano or large as each clip needs.
    best = np.mean([replay.reward(float(weight)).max(axis=1).mean() for weight in weights])
    assert best == pytest.approx((always_nano + crowded[2] - price[2]) / 2, abs=0.002)


def test_a_frame_may_do_without_a_look_after_a_sure_one() -> None:
    replay = replay_of([5, 3])
    replay.looks[:] = 0.0
    replay.looks[:, :, LOOK_NAMES.index("known")] = 1.0
    replay.looks[:, :, LOOK_NAMES.index("doubt")] = 0.2
    replay.looks[5, :, LOOK_NAMES.index("doubt")] = 0.5  # the second clip begins in doubt
    asked: list[int] = []

    def decide(seen: np.ndarray) -> np.ndarray:
        asked.append(len(seen))
        return np.full(len(seen), 1, np.int64)

    config = ReuseConfig(longest=1, doubt=0.3)
    choice = route_with_reuse(replay, decide, 0.1, config)
    assert choice.tolist() == [1, REUSE, 1, REUSE, 1, 1, 1, REUSE]
    longer = route_with_reuse(replay, decide, 0.1, ReuseConfig(longest=2, doubt=0.3))
    assert longer.tolist() == [1, REUSE, REUSE, 1, REUSE, 1, 1, REUSE]
    off = route_with_reuse(replay, decide, 0.1, ReuseConfig())
    assert off.tolist() == route(replay, decide, 0.1).tolist() == [1] * 8


def test_reuse_keeps_the_context_of_the_last_look() -> None:
    replay = replay_of([4])
    replay.looks[:, :, LOOK_NAMES.index("known")] = [[1.0], [2.0], [3.0], [4.0]]
    replay.looks[:, :, LOOK_NAMES.index("doubt")] = 0.0
    known: list[float] = []

    def decide(seen: np.ndarray) -> np.ndarray:
        known.append(float(seen[0, LOOK_SLICE][LOOK_NAMES.index("known")]))
        return np.zeros(len(seen), np.int64)

    route_with_reuse(replay, decide, 0.1, ReuseConfig(longest=2, doubt=1.0))
    assert known == [0.0, 1.0, 1.0, 1.0]
