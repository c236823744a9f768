"""Explaining decisions whose explanation is known in closed form."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dashboards.pages.explore.attribution import attribute, baseline_of
from feature_transformer.observation import (
    FRAME_FEATURES,
    OBSERVATION_SIZE,
    PREFERENCE_INDEX,
    SCHEMA_HASH,
)
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER
from inference_graph.router.policy import Policy


def linear_policy(
    path: Path, weights: np.ndarray, bias: np.ndarray, square: bool = False
) -> Policy:
    """``softmax(x W + b)``, or of the squares of x."""
    nodes = [
        helper.make_node("Mul", ["observations", "observations"], ["squares"]),
        helper.make_node("Gemm", ["squares" if square else "observations", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["logits"], ["action"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes if square else nodes[1:],
        "policy",
        [helper.make_tensor_value_info("observations", TensorProto.FLOAT, ["n", OBSERVATION_SIZE])],
        [
            helper.make_tensor_value_info("action", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 3]),
        ],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    notes = {
        "gearshift.schema_hash": SCHEMA_HASH,
        "gearshift.ladder": json.dumps(list(LADDER)),
        "gearshift.latency_weight": "0.1",
    }
    helper.set_model_props(model, notes)
    onnx.save(model, str(path))
    return Policy(path)


@pytest.fixture
def weights() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.normal(0, 0.05, (OBSERVATION_SIZE, 3)).astype(np.float32)


@pytest.fixture
def seen() -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 1, OBSERVATION_SIZE).astype(np.float32)


def test_of_a_linear_policy_each_number_counts_with_its_weight(
    tmp_path: Path, weights: np.ndarray, seen: np.ndarray
) -> None:
    bias = np.array([0.0, 0.4, 0.2], np.float32)
    found = attribute(linear_policy(tmp_path / "p.onnx", weights, bias), seen)
    logits = seen @ weights + bias
    best, second = np.argsort(-logits)[:2]
    assert (found.chosen, found.runner_up) == (LADDER[best], LADDER[second])
    assert found.margin == pytest.approx(logits[best] - logits[second], abs=1e-4)
    baseline = baseline_of(seen)
    exact = (weights[:, best] - weights[:, second]) * (seen - baseline)
    assert np.abs(found.contributions - exact).max() < 1e-3
    assert np.abs(exact).max() > 0.05  # so a thousandth is small beside it
    moved = found.contributions.sum()
    assert moved == pytest.approx(found.margin - found.baseline_margin, abs=0.01)
    assert np.array_equal(found.thumbnail.ravel(), found.contributions[:1024])
    assert np.array_equal(found.edges, found.contributions[1024:1028])
    assert np.array_equal(found.context, found.contributions[1028:])


def test_of_a_curved_policy_the_slope_is_averaged_over_the_way(
    tmp_path: Path, weights: np.ndarray, seen: np.ndarray
) -> None:
    found = attribute(
        linear_policy(tmp_path / "p.onnx", weights, np.zeros(3, np.float32), square=True), seen
    )
    best, second = LADDER.index(found.chosen), LADDER.index(found.runner_up)
    # The integral of 2 w x along the way, times the distance, is w (x^2 - baseline^2).
    exact = (weights[:, best] - weights[:, second]) * (seen**2 - baseline_of(seen) ** 2)
    assert np.abs(found.contributions - exact).max() < 2e-3


def test_the_baseline_is_an_empty_frame_as_bright_at_the_same_operating_point(
    seen: np.ndarray,
) -> None:
    baseline = baseline_of(seen)
    assert np.allclose(baseline[:1024], seen[:1024].mean())
    assert not baseline[1024:PREFERENCE_INDEX].any()
    assert baseline[PREFERENCE_INDEX] == seen[PREFERENCE_INDEX]


def test_what_is_as_in_the_baseline_moves_nothing(tmp_path: Path, weights: np.ndarray) -> None:
    blank = np.zeros(OBSERVATION_SIZE, np.float32)
    blank[:1024] = 0.5
    found = attribute(linear_policy(tmp_path / "p.onnx", weights, np.zeros(3, np.float32)), blank)
    assert not found.contributions.any()
    one = blank.copy()
    one[FRAME_FEATURES] = 1.0  # a previous look is known
    found = attribute(linear_policy(tmp_path / "q.onnx", weights, np.zeros(3, np.float32)), one)
    assert np.flatnonzero(found.contributions).tolist() == [FRAME_FEATURES]


@pytest.mark.parametrize("bad", [np.zeros(5), np.full(OBSERVATION_SIZE, np.nan)])
def test_what_is_no_observation_is_refused(
    tmp_path: Path, weights: np.ndarray, bad: np.ndarray
) -> None:
    policy = linear_policy(tmp_path / "p.onnx", weights, np.zeros(3, np.float32))
    with pytest.raises(InvalidInput, match="finite numbers"):
        attribute(policy, bad)
