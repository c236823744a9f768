"""A detector is made of operators that do the same work for every frame, however it is opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from foundation.errors import ModelError
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.operators import DETECTOR_OPERATORS

LADDER_FOLDER = Path(__file__).resolve().parents[3] / "ladder"
Change = Callable[[onnx.ModelProto], None]


def before_the_network(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes before a network: they read ``images`` and make ``changed``."""
    for node in model.graph.node:
        node.input[:] = ["changed" if name == "images" else name for name in node.input]
    old = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *old])


def endless_loop(model: onnx.ModelProto) -> None:
    value = helper.make_tensor_value_info
    images = [
        side.dim_value or side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            value("number", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("x", TensorProto.FLOAT, images),
        ],
        [value("on", TensorProto.BOOL, []), value("y", TensorProto.FLOAT, images)],
    )
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    before_the_network(
        model, helper.make_node("Loop", ["", "yes", "images"], ["changed"], body=body)
    )


def custom_operator(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    before_the_network(
        model, helper.make_node("Run", ["images"], ["changed"], domain="com.example")
    )


def random_noise(model: onnx.ModelProto) -> None:
    before_the_network(model, helper.make_node("RandomNormalLike", ["images"], ["changed"]))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (endless_loop, "Loop"),
        (custom_operator, r"com\.example\.Run"),
        (random_noise, "RandomNormalLike"),
    ],
)
@pytest.mark.parametrize("runtime", ["CPUExecutionProvider", "OpenVINO"])
def test_a_network_that_could_do_more_is_no_detector(
    yolo: Path, tmp_path: Path, change: Change, named: str, runtime: str
) -> None:
    model = onnx.load(yolo)
    change(model)
    file = tmp_path / "changed.onnx"
    onnx.save(model, file)
    with pytest.raises(ModelError, match=f"operators that are not allowed here: {named}"):
        if runtime == "OpenVINO":
            pytest.importorskip("openvino")
            from inference_graph.detector.openvino_session import open_openvino

            open_openvino(file, 1)
        else:
            Detector(DetectorConfig(file, "nano", threads=1))


@pytest.mark.parametrize("rung", ["nano", "small", "large"])
def test_the_shipped_ladder_is_made_of_these(rung: str) -> None:
    model = onnx.load(LADDER_FOLDER / f"{rung}.onnx")
    assert {node.op_type for node in model.graph.node} <= DETECTOR_OPERATORS
