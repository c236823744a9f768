from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_models import NAMES, MakeDetector, MakePolicy, drawn

from foundation.errors import ConfigurationError, ImageError, ModelError
from inference_graph.coco_categories import COCO_IDS
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.detector.concurrency import ConcurrencyTracker


def load(path: Path, **options: object) -> Detector:
    return Detector(DetectorConfig(path, "nano", threads=1, **options))


# --- against Ultralytics ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(192, 256), (300, 500), (480, 480)])
def test_the_boxes_ultralytics_predicts(yolo: Path, size: tuple[int, int]) -> None:
    from ultralytics import YOLO

    frame = drawn(*size)
    expected = YOLO(yolo, task="detect").predict(
        frame, imgsz=[192, 256], conf=0.01, iou=0.7, max_det=100, verbose=False, device="cpu"
    )[0]
    answer = load(yolo).detect(frame).detections
    assert len(answer) == len(expected.boxes) >= 15
    assert len(set(answer.labels.tolist())) >= 3
    np.testing.assert_allclose(answer.scores, expected.boxes.conf.numpy(), atol=1e-4)
    np.testing.assert_allclose(answer.boxes, expected.boxes.xyxy.numpy(), atol=0.05)
    np.testing.assert_array_equal(answer.labels, expected.boxes.cls.numpy())


def test_names_ids_size_and_revision_of_an_export(yolo: Path) -> None:
    detector = load(yolo)
    assert detector.class_names == NAMES
    assert detector.category_ids == (1, 2, 3, 4, 6, 8, 10, 13, 18)
    assert detector.input_size == (192, 256)
    assert detector.revision == hashlib.sha256(yolo.read_bytes()).hexdigest()[:12]


def test_answers_from_several_threads_are_the_same(yolo: Path, street: np.ndarray) -> None:
    detector = load(yolo)
    expected = detector.detect(street).detections
    with ThreadPoolExecutor(3) as pool:
        for answer in pool.map(detector.detect, [street] * 9):
            np.testing.assert_array_equal(answer.detections.boxes, expected.boxes)


def test_an_inference_beside_another_takes_fewer_threads(yolo: Path, street: np.ndarray) -> None:
    detector = Detector(DetectorConfig(yolo, "nano", threads=2, threads_beside=1))

    def threads() -> list[int]:
        with detector._chosen_model() as alone, detector._chosen_model() as beside:
            models = (alone, beside)
        return [one.session.get_session_options().intra_op_num_threads for one in models]

    assert threads() == [2, 1]
    expected = detector.detect(street).detections
    assert len(expected) >= 15
    with ThreadPoolExecutor(2) as pool:
        for answer in pool.map(detector.detect, [street] * 8):
            np.testing.assert_allclose(answer.detections.boxes, expected.boxes, atol=0.05)
            np.testing.assert_allclose(answer.detections.scores, expected.scores, atol=1e-4)
    assert threads() == [2, 1]  # whoever is done is no longer counted
    with detector._chosen_model(concurrent=True) as model:
        assert model.session.get_session_options().intra_op_num_threads == 1


def test_requests_that_usually_overlap_are_a_crowd() -> None:
    concurrency = ConcurrencyTracker()

    def alone(times: int) -> None:
        for _ in range(times):
            with concurrency.request():
                pass

    def together(times: int) -> None:
        for _ in range(times):
            with concurrency.request(), concurrency.request():
                pass

    alone(30)
    assert not concurrency.usual
    together(6)  # 1 - 0.95 ** 12 = 0.46 of the last ones
    assert not concurrency.usual
    together(1)  # 1 - 0.95 ** 14 = 0.51
    assert concurrency.usual
    alone(1)  # 0.95 * 0.51 = 0.49
    assert not concurrency.usual


# --- by hand ------------------------------------------------------------------------------------


def test_boxes_by_hand(make_detector: MakeDetector) -> None:
    # The frame is 512x384, twice the input of 256x192: pixels double.
    rows = [
        [50, 60, 20, 40, 0.1, 0.8],
        [51, 60, 20, 40, 0.1, 0.7],  # the same car again: suppressed
        [51, 60, 20, 40, 0.6, 0.1],  # a person at the same place: kept
        [250, 190, 40, 40, 0.05, 0.02],  # beyond the lower right corner: clipped
        [10, 10, 5, 5, 0.005, 0.01],  # 0.01 is not above the confidence
    ]
    answer = load(make_detector(rows)).detect(np.zeros((384, 512, 3), np.uint8))
    found = answer.detections
    np.testing.assert_allclose(
        found.boxes, [[80, 80, 120, 160], [82, 80, 122, 160], [460, 340, 512, 384]]
    )
    np.testing.assert_allclose(found.scores, [0.8, 0.6, 0.05])
    assert found.labels.tolist() == [1, 0, 0]
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (
        np.dtype(np.float32),
        np.dtype(np.float32),
        np.dtype(np.int32),
    )
    assert answer.rung == "nano"
    assert set(answer.milliseconds) == {"preprocess", "inference", "postprocess"}
    assert all(spent >= 0 for spent in answer.milliseconds.values())
    assert len(found.at_least(0.6)) == 2


def test_options_of_the_suppression(make_detector: MakeDetector) -> None:
    frame = np.zeros((192, 256, 3), np.uint8)
    rows = [[50, 60, 20, 40, 0.3, 0.8], [52, 60, 20, 40, 0.3, 0.7], [150, 60, 20, 40, 0.2, 0.1]]
    path = make_detector(rows)
    assert len(load(path).detect(frame).detections) == 2
    assert len(load(path, iou=0.9).detect(frame).detections) == 3
    assert len(load(path, confidence=0.5).detect(frame).detections) == 1
    assert len(load(path, max_detections=1).detect(frame).detections) == 1
    several = load(path, multi_label=True).detect(frame).detections
    np.testing.assert_allclose(several.scores, [0.8, 0.3, 0.2, 0.1])


def test_the_network_sees_rgb_between_0_and_1(tmp_path: Path) -> None:
    # Each class score is the mean of one input channel.
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["means", "last"], ["scores"]),
        helper.make_node("Concat", ["box", "scores"], ["output0"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 32, 32])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, 1])],
        [
            helper.make_tensor("last", TensorProto.INT64, [1], [2]),
            helper.make_tensor("box", TensorProto.FLOAT, [1, 4, 1], [16, 16, 8, 8]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'red', 1: 'green', 2: 'blue'}"})
    onnx.save(model, str(tmp_path / "means.onnx"))
    frame = np.zeros((32, 32, 3), np.uint8)
    frame[:] = (51, 102, 204)  # blue, green, red
    found = load(tmp_path / "means.onnx", multi_label=True).detect(frame).detections
    np.testing.assert_allclose(found.scores, [0.8, 0.4, 0.2], atol=1e-6)
    assert found.labels.tolist() == [0, 1, 2]


def test_nothing_found(make_detector: MakeDetector) -> None:
    found = load(make_detector([])).detect(np.zeros((20, 30, 3), np.uint8)).detections
    assert found.boxes.shape == (0, 4)
    assert len(found) == 0


def test_dynamic_axes_take_the_noted_size(make_detector: MakeDetector) -> None:
    path = make_detector([], size=("height", "width"), notes={"imgsz": "[96, 128]"})
    assert load(path).input_size == (96, 128)
    assert load(path, input_size=(64, 64)).input_size == (64, 64)
    assert load(make_detector([], size=("h", "w"), notes={"imgsz": "320"})).input_size == (320, 320)
    with pytest.raises(ConfigurationError, match="fixed input of 192x256"):
        load(make_detector([]), input_size=(64, 64))


def test_int8_weights_are_folded_while_loading(tmp_path: Path) -> None:
    """What the compressed ladder needs: DequantizeLinear on weights, one scale per channel."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.array([[[[100]]], [[[-50]]], [[[127]]], [[[1]]], [[[60]]]], np.int8)
    weights = np.tile(weights, (1, 3, 1, 1))
    scales = np.array([1, 1, 0.5, 8, 0.01], np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
            helper.make_node("Conv", ["images", "w"], ["map"]),
            helper.make_node("Reshape", ["map", "shape"], ["output0"]),
        ],
        "quantised",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 2, 2])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 5, 4])],
        [
            numpy_helper.from_array(weights, "q"),
            numpy_helper.from_array(scales, "s"),
            numpy_helper.from_array(np.zeros(5, np.int8), "z"),
            numpy_helper.from_array(np.array([1, 5, 4]), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "['thing']"})
    onnx.save(model, str(tmp_path / "q.onnx"))
    frame = np.full((2, 2, 3), 85, np.uint8)  # a third: the three channels sum to 1
    found = load(tmp_path / "q.onnx", iou=1.0).detect(frame).detections
    np.testing.assert_allclose(found.scores, [0.6] * 4, atol=1e-5)


# --- names and ids ------------------------------------------------------------------------------


def test_coco_has_80_names_and_ids_up_to_90() -> None:
    assert len(COCO_IDS) == 80
    assert list(COCO_IDS.values()) == sorted(set(COCO_IDS.values()))
    gaps = set(range(1, 91)) - set(COCO_IDS.values())
    assert gaps == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}


def test_coco_names_and_ids_agree_with_ultralytics() -> None:
    from ultralytics.data.converter import coco80_to_coco91_class
    from ultralytics.utils import ROOT, YAML

    names = YAML.load(ROOT / "cfg" / "datasets" / "coco.yaml")["names"]
    assert list(COCO_IDS) == [names[index] for index in range(80)]
    assert list(COCO_IDS.values()) == coco80_to_coco91_class()


def test_category_ids_from_the_notes_before_those_of_the_names(make_detector: MakeDetector) -> None:
    noted = {"gearshift.category_ids": json.dumps([7, 3])}
    assert load(make_detector([], notes=noted)).category_ids == (7, 3)
    assert load(make_detector([], names=("person", "dragon"))).category_ids == (1, 91)


@pytest.mark.parametrize(
    "ids", ["[1]", "[1, 1]", "[1, 2.5]", '["a", "b"]', "{}", "no json", "[true, 2]"]
)
def test_bad_category_ids(make_detector: MakeDetector, ids: str) -> None:
    with pytest.raises(ModelError, match="category_ids"):
        load(make_detector([], notes={"gearshift.category_ids": ids}))


@pytest.mark.parametrize(
    "names", ["{}", "{1: 'a', 2: 'b'}", "person, car", "{0: open('x')}", "(" * 5000, "7"]
)
def test_bad_names(make_detector: MakeDetector, names: str) -> None:
    with pytest.raises(ModelError):
        load(make_detector([], notes={"names": names}))


# --- weights that are none ----------------------------------------------------------------------


def test_no_names(make_detector: MakeDetector) -> None:
    with pytest.raises(ModelError, match="no class names"):
        load(make_detector([], notes={"names": None}))


@pytest.mark.parametrize(
    "data", [b"", b"not onnx at all", bytes(1000), b"PK\x03\x04" + bytes(100), b"\x08\x08"]
)
def test_no_onnx(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "weights.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="no ONNX file") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_short(yolo: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(yolo.read_bytes()[:3_000_000])
    with pytest.raises(ModelError):
        load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the weights"):
        load(tmp_path / "none.onnx")


def test_another_class_count(make_detector: MakeDetector) -> None:
    rows = [[1, 1, 1, 1, 0.5, 0.5, 0.5]]
    with pytest.raises(ModelError, match="2 classes need float32 \\[1, 6, anchors\\]"):
        load(make_detector(rows))


def test_another_output_name(make_detector: MakeDetector) -> None:
    with pytest.raises(ModelError, match="gives output0"):
        load(make_detector([], output="boxes"))


def test_a_policy_is_no_detector(make_policy: MakePolicy) -> None:
    with pytest.raises(ModelError):
        load(make_policy())


def test_another_digest(make_detector: MakeDetector) -> None:
    path = make_detector([])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert load(path, sha256=digest.upper()).sha256 == digest
    with pytest.raises(ModelError, match="SHA-256"):
        load(path, sha256="0" * 64)


def test_external_data_is_refused(make_detector: MakeDetector, tmp_path: Path) -> None:
    model = onnx.load(str(make_detector([[1, 1, 1, 1, 0.5, 0.5]] * 100)))
    path = tmp_path / "external.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="secret.bin", size_threshold=0)
    assert (tmp_path / "secret.bin").exists()
    with pytest.raises(ModelError, match="in other files"):
        load(path)


def test_external_data_hidden_in_a_branch_is_refused(
    make_detector: MakeDetector, tmp_path: Path
) -> None:
    from onnx import TensorProto, helper

    model = onnx.load(str(make_detector([])))
    hidden = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1])
    hidden.data_location = TensorProto.EXTERNAL
    hidden.external_data.add(key="location", value="/etc/passwd")
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["inner"], value=hidden)],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1])],
    )
    model.graph.node.append(
        helper.make_node("If", ["no"], ["x"], then_branch=branch, else_branch=branch)
    )
    path = tmp_path / "hidden.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="in other files"):
        load(path)


# --- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{"confidence": 1.5}, {"iou": -0.1}, {"max_detections": 0}, {"max_candidates": 0}],
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        DetectorConfig(Path("x.onnx"), "nano", **options)


def test_an_unknown_rung() -> None:
    with pytest.raises(ConfigurationError, match="'medium' is none of nano, small, large"):
        DetectorConfig(Path("x.onnx"), "medium")


def test_an_unknown_provider(make_detector: MakeDetector) -> None:
    with pytest.raises(ConfigurationError, match="NoSuchProvider"):
        load(make_detector([]), providers=("NoSuchProvider",))
    with pytest.raises(ConfigurationError, match="at least 1"):
        Detector(DetectorConfig(make_detector([]), "nano", threads=0))


def test_what_is_no_frame(make_detector: MakeDetector) -> None:
    with pytest.raises(ImageError):
        load(make_detector([])).detect(np.zeros((10, 10), np.uint8))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_answer_no_numbers_are_refused(
    make_detector: MakeDetector, value: float
) -> None:
    file = make_detector([[32, 32, 16, 16, 0.9, value]])
    with pytest.raises(ModelError, match="not finite"):
        Detector(DetectorConfig(file, "nano"))
