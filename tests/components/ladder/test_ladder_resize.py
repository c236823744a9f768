"""Weights at another input size: what they answer is what an export at that size answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from ultralytics.nn.tasks import DetectionModel

from components.ladder.export import ExportConfig, export_rung
from components.ladder.resize import anchors, resize_rung
from foundation.errors import ConfigurationError, ModelError
from inference_graph.detector import Detector, DetectorConfig


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["output0"], {"images": images})[0])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pt"
    torch.save({"model": model.eval(), "train_args": {}}, path)
    return path


def test_it_answers_as_an_export_at_that_size(checkpoint: Path, tmp_path: Path) -> None:
    small, large = ExportConfig(64, 96, compress=False), ExportConfig(128, 160, compress=False)
    export_rung(checkpoint, tmp_path / "small.onnx", small)
    export_rung(checkpoint, tmp_path / "large.onnx", large)
    summary = resize_rung(tmp_path / "small.onnx", tmp_path / "made.onnx", "nano", 128, 160)
    images = np.random.default_rng(0).random((1, 3, 128, 160), np.float32)
    made, exported = (answer(tmp_path / f"{name}.onnx", images) for name in ("made", "large"))
    assert made.shape == exported.shape
    assert np.abs(made - exported).max() < 1e-3  # corners are in pixels
    detector = Detector(DetectorConfig(tmp_path / "made.onnx", "nano"))
    assert (detector.input_size, detector.sha256) == ((128, 160), summary.sha256)


def test_anchors_by_hand() -> None:
    centres, strides = anchors(32, 64)
    # 4x8 cells of 8 pixels, 2x4 of 16, 1x2 of 32.
    assert centres.shape == (1, 2, 42) and strides.shape == (1, 42)
    assert strides[0].tolist() == [8.0] * 32 + [16.0] * 8 + [32.0] * 2
    assert centres[0, :, [0, 7, 8, 32, 41]].tolist() == [
        [0.5, 0.5],
        [7.5, 0.5],
        [0.5, 1.5],
        [0.5, 0.5],
        [1.5, 0.5],
    ]


def test_what_cannot_be_resized(checkpoint: Path, tmp_path: Path) -> None:
    export_rung(checkpoint, tmp_path / "rung.onnx", ExportConfig(64, 96, compress=False))
    with pytest.raises(ConfigurationError, match="multiples of 32"):
        resize_rung(tmp_path / "rung.onnx", tmp_path / "out.onnx", "nano", 100, 96)
    shapes = ([1, 3, 64, 96], [1, 7, 126])
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("images", "output0"), shapes, strict=True)
    ]
    node = helper.make_node(
        "Constant",
        [],
        ["output0"],
        value=helper.make_tensor("zeros", TensorProto.FLOAT, shapes[1], np.zeros(7 * 126)),
    )
    other = helper.make_model(
        helper.make_graph([node], "other", tensors[:1], tensors[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    helper.set_model_props(other, {"names": "{0: 'a', 1: 'b', 2: 'c'}", "imgsz": "[64, 96]"})
    onnx.save(other, str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match="export the checkpoint"):
        resize_rung(tmp_path / "other.onnx", tmp_path / "out.onnx", "nano", 128, 160)
    assert not (tmp_path / "out.onnx").exists()
