"""A policy that was sent may harm only the process that tries it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from gateway_samples import Rungs, asked, gateway_settings, jpeg, served, talk
from onnx import TensorProto, helper, numpy_helper
from tiny_models import MakePolicy, save_policy

from feature_transformer.observation import OBSERVATION_SIZE
from foundation.errors import ModelError, SchemaMismatch
from inference_graph.router import Policy
from inference_graph.router.trial import TrialLimits, Trials

Change = Callable[[onnx.ModelProto], None]


def policy_with(path: Path, change: Change) -> bytes:
    """A sound policy, then changed."""
    save_policy(path, np.zeros((OBSERVATION_SIZE, 3), np.float32))
    model = onnx.load(str(path))
    change(model)
    return model.SerializeToString()


def before_it(nodes: Sequence[onnx.NodeProto], *constants: onnx.TensorProto) -> Change:
    """Nodes that make ``changed`` of ``observations``, which the network reads instead."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.node[0].input[0] = "changed"
        rest = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *rest])
        model.graph.initializer.extend(constants)

    return change


def endless_loop(model: onnx.ModelProto) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("number", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", OBSERVATION_SIZE]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", OBSERVATION_SIZE]),
        ],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    loop = helper.make_node("Loop", ["", "yes", "observations"], ["changed"], body=body)
    before_it([loop], yes)(model)


def huge_constant(model: onnx.ModelProto) -> None:
    shape = numpy_helper.from_array(np.array([2**31, OBSERVATION_SIZE], np.int64), "shape")
    fill = helper.make_node("ConstantOfShape", ["shape"], ["fill"])
    before_it([fill, helper.make_node("Add", ["fill", "observations"], ["changed"])], shape)(model)


def custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    before_it([helper.make_node("Run", ["observations"], ["changed"], domain="com.example")])(model)


def own_function(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(
        helper.make_function(
            "own",
            "Shift",
            ["x"],
            ["y"],
            [helper.make_node("Identity", ["x"], ["y"])],
            [helper.make_opsetid("", 17)],
        )
    )
    before_it([helper.make_node("Shift", ["observations"], ["changed"], domain="own")])(model)


def other_file(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def doubling(model: onnx.ModelProto) -> None:
    """Allowed operators and a kilobyte: 17 GB for an observation."""
    names = ["observations", *(f"x{number}" for number in range(22))]
    nodes = [
        helper.make_node("Concat", [one, one], [other], axis=1)
        for one, other in zip(names, names[1:], strict=False)
    ]
    nodes.append(helper.make_node("Gather", [names[-1], "first"], ["changed"], axis=1))
    first = numpy_helper.from_array(np.arange(OBSERVATION_SIZE), "first")
    before_it(nodes, first)(model)


def long_chain(model: onnx.ModelProto, length: int = 2500) -> None:
    """Allowed operators and four megabytes: some 5 GFLOP for an observation."""
    names = ["observations", *(f"x{number}" for number in range(length)), "changed"]
    nodes = [
        helper.make_node("MatMul", [one, "square"], [other])
        for one, other in zip(names, names[1:], strict=False)
    ]
    square = np.eye(OBSERVATION_SIZE, dtype=np.float32)
    before_it(nodes, numpy_helper.from_array(square, "square"))(model)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (endless_loop, "operators that are not allowed here: Loop"),
        (huge_constant, "operators that are not allowed here: ConstantOfShape"),
        (custom_operator, r"not allowed here: com\.example\.Run"),
        (own_function, r"not allowed here: own\.Shift"),
        (other_file, "keeps its tensors in other files"),
    ],
)
def test_a_network_that_could_do_more_is_no_policy(
    tmp_path: Path, change: Change, reason: str
) -> None:
    data = policy_with(tmp_path / "policy.onnx", change)
    with pytest.raises(ModelError, match=reason):
        Policy(Path("sent"), data=data)


def test_zeros_of_another_tensors_size_are_allowed(tmp_path: Path) -> None:
    """What torch exports zeros_like as; policies of earlier releases hold it."""
    nodes = [
        helper.make_node("Shape", ["observations"], ["size"]),
        helper.make_node("ConstantOfShape", ["size"], ["zeros"]),
        helper.make_node("Add", ["zeros", "observations"], ["changed"]),
    ]
    data = policy_with(tmp_path / "policy.onnx", before_it(nodes))
    decided = Policy(Path("sent"), data=data).decide(np.zeros((2, OBSERVATION_SIZE), np.float32))
    assert decided[0].shape == (2,)


@pytest.mark.parametrize(
    ("change", "limits", "reason"),
    [
        (doubling, TrialLimits(), "memory|failed on a frame|allocat"),
        (
            partial(long_chain, length=300),
            TrialLimits(decision_seconds=0.001),
            "s for a decision; 0.001 are allowed",
        ),
        (long_chain, TrialLimits(seconds=0.2), r"not loaded and tried within 0\.2 s"),
        (long_chain, TrialLimits(cpu_seconds=0), "ended the process that tried it"),
    ],
)
def test_what_takes_too_much_is_refused(
    tmp_path: Path, change: Change, limits: TrialLimits, reason: str
) -> None:
    data = policy_with(tmp_path / "policy.onnx", change)
    with pytest.raises(ModelError, match=reason):
        Trials(limits).try_out(data)


def test_what_is_wrong_is_reported_as_at_a_start(make_policy: MakePolicy) -> None:
    trials = Trials()
    trials.try_out(make_policy().read_bytes())
    other = make_policy(name="other.onnx", notes={"gearshift.ladder": json.dumps(["a", "b"])})
    with pytest.raises(SchemaMismatch, match=r"the policy sent routes among \['a', 'b'\]"):
        trials.try_out(other.read_bytes())
    with pytest.raises(ModelError, match="no ONNX"):
        trials.try_out(b"x" * 1000)


def test_a_gateway_serves_and_ends_while_a_policy_is_tried(
    rungs: Rungs, make_policy: MakePolicy, tmp_path: Path
) -> None:
    sent = policy_with(tmp_path / "slow.onnx", long_chain)
    sound = make_policy(bias=(9.0, 0, 0)).read_bytes()
    kind = {"content-type": "application/octet-stream"}
    with served(gateway_settings(policy=make_policy()), rungs) as gateway:
        trials = gateway.runtime.in_use._trials
        trials._limits = replace(trials._limits, cpu_seconds=0)
        refused = gateway.http.post("/v1/policy", content=sent, headers=kind, timeout=60)
        assert refused.status_code == 422, refused.text
        trials._limits = TrialLimits()
        assert gateway.http.post("/v1/policy", content=sound, headers=kind).status_code == 200

        answers: list[int] = []
        thread = threading.Thread(
            target=lambda: answers.append(
                gateway.http.post("/v1/policy", content=sent, headers=kind, timeout=60).status_code
            )
        )
        thread.start()
        while trials._process is None and not answers:
            time.sleep(0.01)
        assert len(talk(gateway.stream, lambda socket: asked(socket, jpeg()))) == 1
        gateway.runtime.in_use.stop()  # as the gateway's end does
        thread.join(60)
        assert answers == [422]
