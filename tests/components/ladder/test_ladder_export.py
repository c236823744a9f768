from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from ultralytics import RTDETR, YOLO
from ultralytics.nn.tasks import DetectionModel

from components.ladder import export
from components.ladder.class_map import ClassMap
from components.ladder.export import ExportConfig, compress_weights, export_rung
from foundation.errors import ConfigurationError, ModelError
from foundation.storage import sha256_file
from inference_graph.detector import Detector, DetectorConfig

NAMES = ("person", "car", "my robot")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A YOLOv8n with random weights as Ultralytics stores one, statistics included."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    model.names = dict(enumerate(NAMES))
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(4, 3, 64, 96))
    for branch in model.model[-1].cv3:
        torch.nn.init.constant_(branch[-1].bias, -1.0)
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pt"
    torch.save({"model": model.eval(), "train_args": {}}, path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Files with and without compression."""
    folder = tmp_path_factory.mktemp("exported")
    files = {}
    for compress in (False, True):
        files[compress] = folder / f"compress-{compress}.onnx"
        export_rung(checkpoint, files[compress], ExportConfig(64, 96, compress=compress))
    return files


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return np.asarray(session.run(["output0"], {"images": images})[0])


def torchs_answer(checkpoint: Path, images: np.ndarray) -> np.ndarray:
    model = torch.load(checkpoint, weights_only=False)["model"].eval()
    with torch.no_grad():
        found = model(torch.from_numpy(images))
    return (found[0] if isinstance(found, tuple | list) else found).numpy()


def test_the_file_answers_as_the_network_does(checkpoint: Path, exported: dict[bool, Path]) -> None:
    images = np.random.default_rng(0).random((1, 3, 64, 96), np.float32)
    expected = torchs_answer(checkpoint, images)
    assert expected.shape == (1, 4 + 3, 8 * 12 + 4 * 6 + 2 * 3)
    plain = answer(exported[False], images)
    np.testing.assert_allclose(plain[:, :4], expected[:, :4], atol=2e-3)  # pixels
    np.testing.assert_allclose(plain[:, 4:], expected[:, 4:], atol=1e-5)  # scores
    rounded = answer(exported[True], images)
    np.testing.assert_allclose(rounded[:, :4], expected[:, :4], atol=2.0)
    np.testing.assert_allclose(rounded[:, 4:], expected[:, 4:], atol=0.02)


def test_compression_takes_three_quarters_of_the_size(exported: dict[bool, Path]) -> None:
    assert exported[True].stat().st_size < 0.3 * exported[False].stat().st_size


def test_the_detector_opens_it(exported: dict[bool, Path]) -> None:
    detector = Detector(DetectorConfig(exported[True], "nano", threads=1))
    assert detector.class_names == NAMES
    assert detector.input_size == (64, 96)
    assert detector.sha256 == sha256_file(exported[True])
    frame = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    assert len(detector.detect(frame).detections) > 0


def test_metadata_travel_along(exported: dict[bool, Path]) -> None:
    notes = {entry.key: entry.value for entry in onnx.load(str(exported[True])).metadata_props}
    assert notes["names"] == str(dict(enumerate(NAMES)))
    assert notes["imgsz"] == "[64, 96]"
    assert json.loads(notes["gearshift.category_ids"]) == [1, 3, 91]
    sides = onnx.load(str(exported[True]), load_external_data=False)
    assert not any(tensor.external_data for tensor in sides.graph.initializer)


def test_what_is_reported_is_what_lies_there(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "rung.onnx"
    classes = ClassMap(tmp_path / "map.yaml", {"my robot": "truck", "car": 200})
    summary = export_rung(checkpoint, out, ExportConfig(32, 32), classes)
    assert summary.bytes == out.stat().st_size
    assert summary.sha256 == sha256_file(out)
    assert summary.class_names == ("person", "car", "truck")
    assert summary.category_ids == (1, 200, 8) and summary.outside_coco == {"car": 200}
    detector = Detector(DetectorConfig(out, "nano", threads=1))
    assert (detector.class_names, detector.category_ids) == (
        summary.class_names,
        summary.category_ids,
    )
    assert [path.name for path in out.parent.iterdir()] == ["rung.onnx"]
    assert [path.name for path in checkpoint.parent.iterdir()] == ["mine.pt"]


def test_an_export_prints_nothing_on_the_standard_output(
    checkpoint: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    export_rung(checkpoint, tmp_path / "rung.onnx", ExportConfig(32, 32))
    assert capfd.readouterr().out == ""


def graph_of(**weights: np.ndarray) -> onnx.ModelProto:
    """A chain of convolutions with these kernels."""
    nodes = [
        helper.make_node("Conv", [f"x{place}", name], [f"x{place + 1}"], name=f"conv-{name}")
        for place, name in enumerate(weights)
    ]
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [1, 64, 8, 8])],
        [helper.make_tensor_value_info(f"x{len(weights)}", TensorProto.FLOAT, [1, 2, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_compression_by_hand() -> None:
    kernel = np.zeros((4, 64, 3, 3), np.float32)
    kernel[0, 0, 0] = [1.27, -0.634, 0.004]  # scale 0.01: 127, -63, 0
    kernel[1, 0, 0] = [-254.0, 1.0, 3.0]  # scale 2: -127, 0 (half to even), 2 (1.5 to even)
    kernel[2] = 0.0  # a dead channel must not divide by zero
    kernel[3] = np.random.default_rng(0).normal(size=(64, 3, 3))
    small = np.ones((2, 2, 3, 3), np.float32)
    model = graph_of(kernel=kernel, small=small)
    assert compress_weights(model) == 1
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert set(stored) == {"kernel.int8", "kernel.scale", "kernel.zero", "small"}
    whole, scale = stored["kernel.int8"], stored["kernel.scale"]
    assert whole.dtype == np.int8 and stored["kernel.zero"].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(scale[:3], [0.01, 2.0, 1.0])
    assert whole[0, 0, 0].tolist() == [127, -63, 0]
    assert whole[1, 0, 0].tolist() == [-127, 0, 2]
    assert not whole[2].any()
    back = whole * scale[:, None, None, None]
    assert (np.abs(back - kernel) <= scale[:, None, None, None] / 2 * (1 + 1e-5)).all()
    assert [node.op_type for node in model.graph.node] == ["DequantizeLinear", "Conv", "Conv"]
    onnx.checker.check_model(model)


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("yolov8n-seg", "task 'segment'"),
        ("yolov8n-pose", "task 'pose'"),
        ("yolov8n-obb", "task 'obb'"),
        ("yolov8n-cls", "task 'classify'"),
        ("yolov10n", "head v10Detect, end to end"),
        ("yolo26n", "head Detect, end to end"),
        ("yolov8-rtdetr", "head RTDETRDecoder"),
    ],
)
def test_networks_that_no_rung_can_be_are_refused(
    tmp_path: Path, architecture: str, words: str
) -> None:
    weights = tmp_path / "mine.pt"
    kind = RTDETR if "rtdetr" in architecture else YOLO
    torch.save({"model": kind(f"{architecture}.yaml").model, "train_args": {}}, weights)
    with pytest.raises(ModelError, match=f"mine.pt .*{words}") as refused:
        export_rung(weights, tmp_path / "out.onnx", ExportConfig(32, 32))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out.onnx").exists()


def test_other_names_than_scores_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    stored = torch.load(checkpoint, weights_only=False)
    stored["model"].names = {0: "person", 1: "car"}
    torch.save(stored, tmp_path / "two.pt")
    with pytest.raises(ModelError, match="names 2 classes and has scores for 3"):
        export_rung(tmp_path / "two.pt", tmp_path / "out.onnx", ExportConfig(32, 32))


def _renamed_output(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "other"


def _without_a_kernel(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4:
            tensor.CopyFrom(
                numpy_helper.from_array(np.zeros(tuple(tensor.dims), np.float32), tensor.name)
            )


@pytest.mark.parametrize(
    ("damage", "words"),
    [(_renamed_output, "does not serve"), (_without_a_kernel, "answers something else than")],
)
def test_an_export_is_looked_at_before_it_counts(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Any, words: str
) -> None:
    monkeypatch.setattr(export, "compress_weights", damage)
    with pytest.raises(ModelError, match=words):
        export_rung(checkpoint, tmp_path / "out.onnx", ExportConfig(32, 32))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist; give an Ultralytics checkpoint"):
        export_rung(tmp_path / "none.pt", tmp_path / "out.onnx", ExportConfig())
    (tmp_path / "text.pt").write_text("no weights here")
    with pytest.raises(ModelError, match="cannot be exported") as caught:
        export_rung(tmp_path / "text.pt", tmp_path / "out.onnx", ExportConfig())
    assert "\n" not in str(caught.value)
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(ModelError, match="cannot be exported"):
        export_rung(tmp_path / "other.pt", tmp_path / "out.onnx", ExportConfig())
    assert not (tmp_path / "out.onnx").exists()


@pytest.mark.parametrize(("height", "width"), [(100, 64), (64, 0), (0, 0), (32, 33)])
def test_inputs_that_do_not_suit_are_refused(height: int, width: int) -> None:
    with pytest.raises(ConfigurationError, match="multiples of 32"):
        ExportConfig(height, width)
