from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry
from tiny_models import MakeDetector, drawn, seen

from components.scenes.writer import ScenesConfig, write_scenes
from foundation.errors import ConfigurationError, ImageError, ModelError
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.detector.batching import BatchOptions
from inference_graph.detector.providers import (
    Tolerance,
    agree,
    check_accuracy,
    drawn_frames,
    frames_of,
    open_detector,
)
from inference_graph.detector.service import DetectorService
from serving_kit.server_metrics import ServerMetrics
from serving_kit.tensors import Tensor, V2Request

# --- agreement, by hand -------------------------------------------------------------------------


def test_the_same_agree() -> None:
    one = seen((0, 0, 10, 10, 0.9, 0), (5, 5, 30, 30, 0.5, 1))
    agreement = agree([(one, one)])
    assert (agreement.detections, agreement.matched) == (4, 1.0)
    assert (agreement.score, agreement.pixels) == (0.0, 0.0)


def test_scores_and_corners_apart() -> None:
    one = seen((0, 0, 100, 100, 0.9, 0), (200, 200, 300, 300, 0.5, 0))
    other = seen((0, 0, 100, 102, 0.88, 0), (200, 200, 300, 300, 0.4, 0))
    agreement = agree([(one, other)])
    # The second pair is 0.1 apart in score, more than the 0.03 allowed.
    assert (agreement.detections, agreement.matched) == (4, 0.5)
    assert agreement.score == pytest.approx(0.1)
    assert agreement.pixels == 2


def test_another_class_or_place_is_no_match() -> None:
    one = seen((0, 0, 100, 100, 0.9, 0))
    assert agree([(one, seen((0, 0, 100, 100, 0.9, 1)))]).matched == 0
    # IoU 80 / 100: below the 0.9 asked for.
    assert agree([(one, seen((0, 0, 100, 80, 0.9, 0)))]).matched == 0
    assert agree([(one, seen())]).matched == 0
    assert agree([(seen(), seen())]).detections == 0


def test_each_is_used_once() -> None:
    twin = (0.0, 0.0, 100.0, 100.0)
    one, other = seen((*twin, 0.9, 0), (*twin, 0.89, 0)), seen((*twin, 0.9, 0))
    agreement = agree([(one, other)])
    assert (agreement.detections, agreement.matched) == (3, pytest.approx(2 / 3))


def test_near_the_floor_nothing_is_asked_for() -> None:
    # 0.07 is above the floor of 0.05, but by less than the 0.03 that scores may differ.
    assert agree([(seen((0, 0, 9, 9, 0.07, 0)), seen())]).detections == 0
    assert agree([(seen((0, 0, 9, 9, 0.09, 0)), seen())]).detections == 1


# --- the check ----------------------------------------------------------------------------------


def detector(path: Path, **options: object) -> Detector:
    return Detector(DetectorConfig(path, "nano", threads=1, **options))


def rows(shift: float = 0, score: float = 0.8) -> list[list[float]]:
    return [[40 + 40 * n, 60 + shift, 30, 30, score, 0.01] for n in range(4)]


def test_a_detector_agrees_with_itself(make_detector: MakeDetector) -> None:
    path = make_detector(rows())
    agreement = check_accuracy(detector(path), detector(path), [drawn(96, 128)] * 3)
    assert (agreement.detections, agreement.matched) == (24, 1.0)


def test_one_that_is_off_is_refused_with_how_far(make_detector: MakeDetector) -> None:
    good, moved = make_detector(rows()), make_detector(rows(score=0.7), name="moved.onnx")
    with pytest.raises(ModelError) as caught:
        check_accuracy(detector(moved), detector(good), [drawn(192, 256)] * 3, None, "cuda")
    reported = str(caught.value)
    assert "detector.onnx on cuda differs from fp32 on the CPU: 0.0% of 24" in reported
    assert "scores are up to 0.100" in reported
    loose = Tolerance(check_score=0.2)
    assert check_accuracy(detector(moved), detector(good), [drawn(192, 256)] * 3, loose)
    shifted = make_detector(rows(shift=9), name="shifted.onnx")
    with pytest.raises(ModelError, match="0.0% of 24"):
        check_accuracy(detector(shifted), detector(good), [drawn(192, 256)] * 3)


def test_seeing_nothing_proves_nothing(make_detector: MakeDetector) -> None:
    path = make_detector(rows()[:1])
    with pytest.raises(ModelError, match="sees 2 objects on the 1 frames of the check, and 10"):
        check_accuracy(detector(path), detector(path), [drawn(192, 256)])


def test_the_sample_ladder_sees_enough_on_drawn_frames(sample_ladder: Path) -> None:
    for rung in ("nano", "small"):
        one = detector(sample_ladder / f"{rung}.onnx")
        assert check_accuracy(one, one, drawn_frames(4)).detections >= 10


def test_frames_of_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no jpeg"):
        frames_of(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot read the folder"):
        frames_of(tmp_path / "none")
    cv2.imwrite(str(tmp_path / "b.png"), np.full((4, 5, 3), 9, np.uint8))
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((6, 7, 3), np.uint8))
    (tmp_path / "notes.txt").write_text("none")
    assert [frame.shape for frame in frames_of(tmp_path)] == [(6, 7, 3), (4, 5, 3)]
    (tmp_path / "c.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"c\.png"):
        frames_of(tmp_path)


# --- providers ----------------------------------------------------------------------------------


def test_providers_that_are_not_here(make_detector: MakeDetector) -> None:
    config = DetectorConfig(make_detector(rows()), "nano", threads=1)
    assert open_detector(config).running_providers == ("CPUExecutionProvider",)
    with pytest.raises(ConfigurationError, match="'tpu' is none of cpu, cuda, tensorrt, openvino"):
        open_detector(config, "tpu")
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        for provider in ("cuda", "tensorrt"):
            with pytest.raises(ConfigurationError, match="ExecutionProvider"):
                open_detector(config, provider)
    if importlib.util.find_spec("openvino") is None:
        with pytest.raises(ConfigurationError, match=r"gearshift\[openvino\]"):
            open_detector(config, "openvino")


def test_openvino_sees_the_same(sample_ladder: Path, tmp_path: Path) -> None:
    """On frames of the kind the rung learned from: among things it never saw, bf16 wavers more."""
    pytest.importorskip("openvino")
    write_scenes(ScenesConfig(frames=12, seed=9), tmp_path / "scenes")
    frames = frames_of(tmp_path / "scenes" / "images")
    config = DetectorConfig(sample_ladder / "nano.onnx", "nano", threads=1)
    chosen = open_detector(config, "openvino", frames=frames)
    agreement = check_accuracy(chosen, Detector(config), frames[:6])
    assert agreement.matched >= 0.98
    assert agreement.detections >= 20


@pytest.mark.parametrize("options", [{"check_iou": 1.5}, {"check_share": -1}, {"check_least": 0}])
def test_tolerances_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Tolerance(**options)


# --- batches ------------------------------------------------------------------------------------


@pytest.fixture
def batching(tmp_path: Path) -> Path:
    """A detector with a free batch axis whose one box scores the mean of its image."""
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
            helper.make_node("Squeeze", ["mean", "last"], ["score"]),
            helper.make_node("Mul", ["score", "zero"], ["nothing"]),
            helper.make_node("Add", ["nothing", "box"], ["boxes"]),
            helper.make_node("Concat", ["boxes", "score"], ["output0"], axis=1),
        ],
        "batching",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 64, 64])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.array([3]), "last"),
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.array([20, 20, 10, 10], np.float32).reshape(1, 4, 1), "box"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'car'}"})
    path = tmp_path / "batching.onnx"
    onnx.save(model, str(path))
    return path


def grey(value: int, size: int = 64) -> np.ndarray:
    return np.full((size, size, 3), value, np.uint8)


def test_frames_of_a_batch_keep_their_own(batching: Path) -> None:
    one = detector(batching)
    assert one.batches
    answers = one.detect_many([grey(51), grey(102, 128), grey(204)])
    np.testing.assert_allclose(
        [answer.detections.scores[0] for answer in answers], [0.2, 0.4, 0.8], atol=1e-5
    )
    np.testing.assert_allclose(answers[0].detections.boxes, [[15, 15, 25, 25]])
    np.testing.assert_allclose(answers[1].detections.boxes, [[30, 30, 50, 50]])
    assert len({answer.milliseconds["inference"] for answer in answers}) == 1
    assert one.detect_many([]) == []


def test_the_service_gathers_batches(batching: Path, make_detector: MakeDetector) -> None:
    service = DetectorService(detector(batching), BatchOptions(batch_size=4, batch_wait_ms=1000))

    async def ask() -> list[float]:
        await service.start(ServerMetrics("detector", "nano", CollectorRegistry()))
        requests = [
            V2Request({"image": Tensor.of("image", grey(value))}) for value in (51, 102, 153, 204)
        ]
        answers = await asyncio.gather(*(service.answer_v2(one, {}) for one in requests))
        await service.close()
        assert len({answer.parameters["inference_ms"] for answer in answers}) == 1
        return [float(answer.outputs[1].array()[0]) for answer in answers]

    np.testing.assert_allclose(asyncio.run(ask()), [0.2, 0.4, 0.6, 0.8], atol=1e-5)
    single = detector(make_detector(rows()))
    assert not single.batches
    with pytest.raises(ConfigurationError, match="takes one image at a time"):
        DetectorService(single, BatchOptions(batch_size=2))
