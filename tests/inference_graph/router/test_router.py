from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_models import MakePolicy, drawn

from feature_transformer.observation import (
    FRAME_FEATURES,
    LOOK_NAMES,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    Look,
    context_features,
    observation,
)
from foundation.errors import ConfigurationError, ImageError, ModelError
from inference_graph.contract import Detections
from inference_graph.router import FrameRouter, Policy

FRAME = drawn(192, 256)
NO_FRAME = {"gearshift.uses_frame": "false"}


def seen(count: int) -> Detections:
    boxes = np.tile(np.array([10, 10, 40, 40], np.float32), (count, 1))
    return Detections(boxes, np.full(count, 0.9, np.float32), np.zeros(count, np.int32))


def by_count() -> np.ndarray:
    """Large once the previous look saw more than about 7, nano otherwise."""
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[FRAME_FEATURES + LOOK_NAMES.index("count_25"), 2] = 30
    return weights


def router(make_policy: MakePolicy, **options: float) -> FrameRouter:
    bias = (0.0, -50.0, -30 * np.log1p(7.5) / 3)
    return FrameRouter(Policy(make_policy(by_count(), bias)), **options)


def test_the_previous_look_decides(make_policy: MakePolicy) -> None:
    stream = router(make_policy)
    assert stream.route(FRAME).model == "nano"
    stream.remember("nano", seen(8), FRAME.shape)
    assert stream.route(FRAME).model == "large"
    stream.remember("large", seen(7), FRAME.shape)
    assert stream.route(FRAME).model == "nano"
    stream.remember("nano", seen(8), FRAME.shape)
    stream.forget()
    assert stream.route(FRAME).model == "nano"


def test_the_frame_is_looked_at_only_for_a_policy_that_reads_it(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    observed = []

    def count(frame: np.ndarray, *rest: Any) -> np.ndarray:
        observed.append(len(frame))
        return observation(frame, *rest)

    monkeypatch.setattr("feature_transformer.makers.observation", count)
    bias = (0.0, -50.0, -30 * np.log1p(7.5) / 3)
    for notes, times in ((NO_FRAME, 0), (None, 2)):
        stream = FrameRouter(Policy(make_policy(by_count(), bias, notes=notes)))
        assert stream.seen is None
        assert stream.route(FRAME).model == "nano"
        stream.remember("nano", seen(8), FRAME.shape)
        assert stream.route(FRAME).model == "large"
        assert len(observed) == times
    # Whoever asks gets the whole observation all the same, and once.
    stream = FrameRouter(Policy(make_policy(by_count(), bias, notes=NO_FRAME)))
    stream.route(FRAME)
    expected = observation(FRAME, context_features(None, latency_weight=0.1))
    np.testing.assert_array_equal(stream.seen, expected)
    assert stream.seen is stream.seen
    with pytest.raises(ImageError):
        stream.route(FRAME[..., 0])


@pytest.mark.parametrize("text", ["yes", "1", ""])
def test_whether_a_policy_reads_the_frame_is_a_boolean(make_policy: MakePolicy, text: str) -> None:
    with pytest.raises(ModelError, match=r"uses_frame is (neither|no JSON)"):
        Policy(make_policy(by_count(), notes={"gearshift.uses_frame": text}))


def test_streams_do_not_share_memory(make_policy: MakePolicy) -> None:
    policy = Policy(make_policy(by_count(), (0.0, -50.0, -30 * np.log1p(7.5) / 3)))
    one, two = FrameRouter(policy), FrameRouter(policy)
    one.remember("nano", seen(20), FRAME.shape)
    assert one.route(FRAME).model == "large"
    assert two.route(FRAME).model == "nano"


def test_a_route_is_the_policy_on_the_observation(make_policy: MakePolicy) -> None:
    generator = np.random.default_rng(0)
    weights = generator.normal(size=(OBSERVATION_SIZE, 3)).astype(np.float32)
    policy = Policy(make_policy(weights))
    stream = FrameRouter(policy, latency_weight=0.02)
    found = seen(3)
    stream.remember("small", found, FRAME.shape)
    route = stream.route(FRAME, load_ms=(5, 0, 400))
    look = Look(1, found.boxes, found.scores, found.labels, width=256, height=192)
    row = observation(FRAME, context_features(look, (5, 0, 400), 0.02))
    np.testing.assert_array_equal(stream.seen, row)
    actions, probabilities = policy.decide(row[None])
    assert route.model == ("nano", "small", "large")[actions[0]]
    np.testing.assert_allclose(route.probabilities, probabilities[0])
    assert sum(route.probabilities) == pytest.approx(1, abs=1e-5)
    assert route.shadow is False
    assert set(stream.milliseconds) == {"observe", "decide"}
    assert min(stream.milliseconds.values()) > 0


def test_the_operating_point_is_the_policys_own_unless_given(make_policy: MakePolicy) -> None:
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[PREFERENCE_INDEX] = [1, 0, 0]  # nano where latency weighs more than 0.01
    policy = Policy(make_policy(weights, (2, 0, 0.001), notes={"gearshift.latency_weight": "0.1"}))
    assert FrameRouter(policy).route(FRAME).model == "nano"
    assert FrameRouter(policy, 0.001).route(FRAME).model == "large"
    assert FrameRouter(policy, 0.0).latency_weight == 0.0


def test_bad_arguments(make_policy: MakePolicy) -> None:
    with pytest.raises(ConfigurationError, match="latency weight"):
        router(make_policy, latency_weight=-1.0)
    stream = router(make_policy)
    with pytest.raises(ConfigurationError, match="'medium'"):
        stream.remember("medium", seen(1), FRAME.shape)
    with pytest.raises(ConfigurationError, match="load_ms"):
        stream.route(FRAME, load_ms=(1, 2))
    with pytest.raises(ImageError):
        stream.route(np.zeros((5, 5), np.uint8))
