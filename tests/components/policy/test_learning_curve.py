"""A policy that starts from an older one, and the labelled frames that this saves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from replay_samples import Learned, learnable_replay

from components.policy.clone import CloneConfig, clone, clone_one, load_clone
from components.policy.learning_curve import CurveConfig, frames_to_reach, learning_curves
from components.policy.older_policy import network_of, take_over
from components.profiling.replay import load_replay, observations_of, save_replay
from foundation.errors import ConfigurationError, InvalidInput, ModelError

RECIPE = CloneConfig(seeds=1, steps=120, batch=64, members=2, hidden=8)


@pytest.fixture(scope="module")
def exported(learned: Learned) -> Path:
    """The clone of 40 clips as the refine stage exports one."""
    from components.policy.export import PolicyFacts, export_policy

    file = learned.clones.parent / "older.onnx"
    (place,) = sorted(learned.clones.iterdir())[:1]
    facts = PolicyFacts(0.1, 0, {})
    export_policy(load_clone(place / "clone.pt"), file, facts, load_replay(learned.replay))
    return file


def test_the_network_is_read_back_from_the_file(learned: Learned, exported: Path) -> None:
    (place,) = sorted(learned.clones.iterdir())[:1]
    original, read = load_clone(place / "clone.pt").eval(), network_of(exported)
    assert read.shape == original.shape
    replay = load_replay(learned.replay)
    seen = torch.from_numpy(observations_of(replay.frames[:50], replay.looks[:50, 1], 0.0))
    with torch.no_grad():
        expected = original.quality(original.summary(seen))
        assert torch.equal(read.quality(read.summary(seen)), expected)


def test_what_is_no_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no file"):
        network_of(tmp_path / "gone.onnx")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_model(
        helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [value],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
    )
    onnx.save(other, str(tmp_path / "other.onnx"))
    (tmp_path / "text.onnx").write_text("no model")
    for name in ("other.onnx", "text.onnx"):
        with pytest.raises(ModelError, match="no policy"):
            network_of(tmp_path / name)
    with pytest.raises(ConfigurationError, match="start_frames"):
        CloneConfig(start_frames=-1)


def test_weights_are_taken_over_where_all_shapes_agree(exported: Path) -> None:
    older = network_of(exported)
    like = clone_one(
        learnable_replay(clips=6, frames=4),
        replace(
            RECIPE,
            steps=1,
            **{name: older.shape[name] for name in ("members", "hidden", "uses_frame")},
        ),
        0,
    )
    take_over(older, like)
    assert torch.equal(like.quality.weights[0], older.quality.weights[0])
    assert torch.equal(like.summary.mean, older.summary.mean)
    other = clone_one(learnable_replay(clips=6, frames=4), replace(RECIPE, steps=1), 0)
    before = other.summary.mean.clone()
    take_over(older, other)
    assert torch.equal(other.summary.mean, before)


def test_few_frames_of_a_known_kind_need_fewer_labels(exported: Path, tmp_path: Path) -> None:
    """The older policy learned from the same kind of clips; another shape of network here."""
    save_replay(learnable_replay(seed=5), tmp_path)
    found = learning_curves(tmp_path, exported, RECIPE, CurveConfig(points=4, draws=2))
    assert found.unchanged > 0.5
    few, *_, most = found.points
    assert few.frames < most.frames
    assert few.started > few.scratch
    assert few.gain == pytest.approx(few.started - few.scratch)
    assert few.gain_interval[0] <= few.gain <= few.gain_interval[1]
    assert few.frames_from_scratch is None or few.frames_from_scratch > few.frames


def test_where_one_rung_is_best_everywhere_nothing_is_divided_by_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("components.policy.learning_curve.network_of", lambda file: None)
    replay = learnable_replay(seed=5)
    save_replay(replace(replay, quality=np.ones_like(replay.quality)), tmp_path)
    found = learning_curves(tmp_path, tmp_path, RECIPE, CurveConfig(points=2, draws=2))
    assert (found.unchanged, found.points) == (0.0, ())


def test_the_stage_starts_from_the_file_that_it_is_given(exported: Path, tmp_path: Path) -> None:
    save_replay(learnable_replay(seed=5), tmp_path)
    plain = clone(tmp_path, tmp_path / "plain", RECIPE)
    started = clone(tmp_path, tmp_path / "started", replace(RECIPE, start=str(exported)))
    assert started.optimal == plain.optimal
    assert started.seeds != plain.seeds
    with pytest.raises(InvalidInput, match="no file"):
        clone(tmp_path, tmp_path / "gone", replace(RECIPE, start=str(tmp_path / "gone.onnx")))


def test_frames_to_reach_by_hand() -> None:
    frames, scores = np.array([10.0, 100.0, 1000.0]), np.array([0.2, 0.6, 0.5])
    assert frames_to_reach(frames, scores, 0.4) == pytest.approx(10**1.5)
    assert frames_to_reach(frames, scores, 0.6) == pytest.approx(100)
    assert frames_to_reach(frames, scores, 0.1) == 10
    assert frames_to_reach(frames, scores, 0.61) is None
