from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tiny_models import MakeDetector, MakePolicy

from feature_transformer.observation import OBSERVATION_SIZE, SCHEMA_HASH
from foundation.errors import InvalidInput, ModelError, SchemaMismatch
from inference_graph.router import Policy
from inference_graph.tracking import ReuseConfig


def test_decisions_by_hand(make_policy: MakePolicy) -> None:
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[0] = [0, np.log(2), np.log(5)]
    policy = Policy(make_policy(weights))
    observations = np.zeros((3, OBSERVATION_SIZE), np.float32)
    observations[:, 0] = [1, 0, -1]
    actions, probabilities = policy.decide(observations)
    assert actions.dtype == np.int64
    assert probabilities.dtype == np.float32
    assert actions.tolist() == [2, 0, 0]
    np.testing.assert_allclose(
        probabilities,
        [[1 / 8, 2 / 8, 5 / 8], [1 / 3] * 3, [10 / 17, 5 / 17, 2 / 17]],
        rtol=1e-5,
    )


def test_rows_do_not_depend_on_each_other(make_policy: MakePolicy) -> None:
    generator = np.random.default_rng(0)
    policy = Policy(make_policy(generator.normal(size=(OBSERVATION_SIZE, 3)).astype(np.float32)))
    observations = generator.normal(size=(50, OBSERVATION_SIZE)).astype(np.float32)
    actions, _ = policy.decide(observations)
    with ThreadPoolExecutor(3) as pool:
        alone = list(pool.map(lambda row: int(policy.decide(row[None])[0][0]), observations))
    assert alone == actions.tolist()
    assert set(alone) == {0, 1, 2}


def test_notes(make_policy: MakePolicy) -> None:
    policy = Policy(make_policy(notes={"gearshift.latency_weight": "0.025"}))
    assert policy.latency_weight == 0.025
    assert policy.card == {"trained_on": "nothing"}
    assert len(policy.revision) == 12
    assert policy.sha256.startswith(policy.revision)
    assert Policy(make_policy(notes={"gearshift.card": None})).card == {}
    assert policy.reuse == ReuseConfig()
    reusing = {"gearshift.reuse": '{"longest": 2, "doubt": 0.25}'}
    assert Policy(make_policy(notes=reusing)).reuse == ReuseConfig(longest=2, doubt=0.25)


def test_another_schema_is_refused(make_policy: MakePolicy) -> None:
    with pytest.raises(SchemaMismatch) as caught:
        Policy(make_policy(notes={"gearshift.schema_hash": "0" * 64}))
    assert SCHEMA_HASH[:12] in str(caught.value)
    assert caught.value.http_status == 409


@pytest.mark.parametrize("ladder", ['["nano", "large", "small"]', '["nano", "small"]', '"nano"'])
def test_another_ladder_is_refused(make_policy: MakePolicy, ladder: str) -> None:
    with pytest.raises(SchemaMismatch, match="routes among"):
        Policy(make_policy(notes={"gearshift.ladder": ladder}))


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({"gearshift.schema_hash": None}, "is no policy"),
        ({"gearshift.ladder": None}, "gearshift.ladder is no JSON"),
        ({"gearshift.ladder": "nano"}, "gearshift.ladder is no JSON"),
        ({"gearshift.latency_weight": None}, "gearshift.latency_weight is nothing"),
        ({"gearshift.latency_weight": "fast"}, "gearshift.latency_weight is fast"),
        ({"gearshift.latency_weight": "-1"}, "gearshift.latency_weight is -1"),
        ({"gearshift.latency_weight": "nan"}, "gearshift.latency_weight is nan"),
        ({"gearshift.reuse": "{"}, "gearshift.reuse is no JSON"),
        ({"gearshift.reuse": '{"longest": 1}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": -1, "doubt": 0}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": 1, "doubt": NaN}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": Infinity, "doubt": 0}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": 1.5, "doubt": 0}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": true, "doubt": 0}'}, "gearshift.reuse"),
        ({"gearshift.reuse": '{"longest": "1", "doubt": 0}'}, "gearshift.reuse"),
        ({"gearshift.reuse": f'{{"longest": 1, "doubt": 1{"0" * 400}}}'}, "gearshift.reuse"),
        ({"gearshift.reuse": "[1]"}, "gearshift.reuse"),
        ({"gearshift.reuse": "{}"}, "gearshift.reuse"),
        ({"gearshift.reuse": "null"}, "gearshift.reuse"),
        ({"gearshift.reuse": "[" * 5000}, "gearshift.reuse is no JSON"),
        ({"gearshift.card": "[1]"}, "gearshift.card is no JSON object"),
        ({"gearshift.card": "{"}, "gearshift.card is no JSON"),
    ],
)
def test_notes_that_are_missing_or_bad(
    make_policy: MakePolicy, notes: dict[str, str | None], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        Policy(make_policy(notes=notes))


def test_another_size_under_the_same_hash(make_policy: MakePolicy) -> None:
    with pytest.raises(ModelError):
        Policy(make_policy(size=1028))


def test_a_detector_is_no_policy(make_detector: MakeDetector) -> None:
    with pytest.raises(ModelError, match="is no policy"):
        Policy(make_detector([]))


def test_no_file_and_no_onnx(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        Policy(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("a policy")
    with pytest.raises(ModelError, match="no ONNX file"):
        Policy(tmp_path / "text.onnx")
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match="no regular file"):
        Policy(tmp_path / "pipe.onnx")


def test_another_digest(make_policy: MakePolicy) -> None:
    with pytest.raises(ModelError, match="SHA-256"):
        Policy(make_policy(), sha256="0" * 64)


def changed(path: Path, edit: object) -> Path:
    model = onnx.load(str(path))
    edit(model.graph)  # type: ignore[operator] # any function of a graph
    onnx.save(model, str(path))
    return path


def test_other_outputs(make_policy: MakePolicy) -> None:
    def rename(graph: onnx.GraphProto) -> None:
        graph.output[0].name = graph.node[2].output[0] = "choice"

    with pytest.raises(ModelError, match="gives action and probabilities"):
        Policy(changed(make_policy(), rename))


def test_logits_in_place_of_probabilities(make_policy: MakePolicy) -> None:
    def identity(graph: onnx.GraphProto) -> None:
        graph.node[1].CopyFrom(helper.make_node("Identity", ["logits"], ["probabilities"]))

    with pytest.raises(ModelError, match="sum to 1"):
        Policy(changed(make_policy(), identity))


def test_numbers_that_overflow_are_no_decision(make_policy: MakePolicy) -> None:
    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    weights[0, 0] = 3e38
    policy = Policy(make_policy(weights))
    one = np.zeros((1, OBSERVATION_SIZE), np.float32)
    assert policy.decide(one)[0].tolist() == [0]
    one[0, 0] = 100.0  # the softmax of infinity is not a number
    with pytest.raises(ModelError, match="what is no rung"):
        policy.decide(one)


def test_networks_that_the_runtime_would_not_have_refused_first(make_policy: MakePolicy) -> None:
    def fill(graph: onnx.GraphProto) -> None:
        graph.node.add(op_type="ConstantOfShape", output=["filled"])

    with pytest.raises(ModelError):
        Policy(changed(make_policy(), fill))

    def outside(graph: onnx.GraphProto) -> None:
        sparse = graph.sparse_initializer.add(dims=[1])
        sparse.values.CopyFrom(helper.make_tensor("table", TensorProto.FLOAT, [1], [1.0]))
        sparse.indices.CopyFrom(helper.make_tensor("places", TensorProto.INT64, [1], [0]))
        sparse.values.data_location = TensorProto.EXTERNAL

    with pytest.raises(ModelError, match="in other files"):
        Policy(changed(make_policy(), outside))


def test_one_row_only(make_policy: MakePolicy) -> None:
    def fix(graph: onnx.GraphProto) -> None:
        graph.input[0].CopyFrom(
            helper.make_tensor_value_info("observations", TensorProto.FLOAT, [1, OBSERVATION_SIZE])
        )

    with pytest.raises(ModelError):
        Policy(changed(make_policy(), fix))


def test_bad_observations(make_policy: MakePolicy) -> None:
    policy = Policy(make_policy())
    with pytest.raises(InvalidInput, match="shape"):
        policy.decide(np.zeros(OBSERVATION_SIZE, np.float32))
    with pytest.raises(InvalidInput, match="shape"):
        policy.decide(np.zeros((2, 1028), np.float32))
    with pytest.raises(InvalidInput, match="float64"):
        policy.decide(np.zeros((2, OBSERVATION_SIZE)))
    actions, probabilities = policy.decide(np.zeros((0, OBSERVATION_SIZE), np.float32))
    assert (actions.shape, probabilities.shape) == ((0,), (0, 3))
