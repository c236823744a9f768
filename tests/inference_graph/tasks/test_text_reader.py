"""A ladder that reads: its rungs, their answers on the wire, and its policies."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_models import MakePolicy

from feature_transformer.text_features import TEXT_SCHEMA_HASH, text_features
from foundation.errors import ModelError, SchemaMismatch
from inference_graph.contract import Answer, Detections
from inference_graph.detector import DetectorConfig, wire
from inference_graph.router import FrameRouter, Policy
from inference_graph.tasks.ocr.reader import TextReader
from inference_graph.tasks.ocr.reading import normal, one_minus_ned, text_of
from inference_graph.tasks.rung import open_rung_file

FACTS = wire.DetectorFacts(("text",), (1,), (1280, 1280), "0123456789ab")
FRAME = np.full((60, 200, 3), 255, np.uint8)


def answer() -> Answer:
    boxes = np.array([[50, 0, 90, 10], [0, 1, 40, 11], [0, 30, 9, 40]], np.float32)
    found = Detections(
        boxes, np.array([0.9, 0.8, 0.1], np.float32), np.zeros(3, np.int32), ("CLEAR", "KEEP", "é")
    )
    return Answer(found, {"inference": 2.0}, "nano", FACTS.revision)


def test_texts_travel_over_both_protocols() -> None:
    shown = wire.v1_prediction(answer(), FACTS)
    assert [one["text"] for one in shown["detections"]] == ["CLEAR", "KEEP"]
    assert (shown["texts"], shown["text"]) == (["CLEAR", "KEEP", "é"], "KEEP CLEAR\né")
    sent = wire.v2_answer(answer(), FACTS, (), None)
    tensors = {tensor.name: tensor for tensor in sent.outputs}
    back = wire.read_answer(tensors, sent.parameters, "nano").detections
    assert back.texts == ("CLEAR", "KEEP", "é") and text_of(back) == "KEEP CLEAR\né"
    assert back.at_least(0.5).texts == ("CLEAR", "KEEP")
    assert back.take(np.array([2])).texts == ("é",)
    # A detector's answers have no such tensor.
    plain = Detections(back.boxes, back.scores, back.labels)
    detector = wire.v2_answer(Answer(plain, {}, "nano", FACTS.revision), FACTS, (), None)
    assert [tensor.name for tensor in detector.outputs] == ["boxes", "scores", "labels"]


def test_a_policy_belongs_to_its_task(make_policy: MakePolicy) -> None:
    reads = make_policy(notes={"gearshift.schema_hash": TEXT_SCHEMA_HASH}, name="reads.onnx")
    assert Policy(reads, task="ocr").maker.task == "ocr"
    with pytest.raises(SchemaMismatch, match="for detection"):
        Policy(reads, task="detection")
    with pytest.raises(SchemaMismatch, match="for ocr"):
        Policy(make_policy(), task="ocr")
    # What it sees is made by its own task's code.
    stream = FrameRouter(Policy(reads))
    stream.route(FRAME)
    assert stream.seen is not None
    np.testing.assert_array_equal(stream.seen[:1028], text_features(FRAME))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "content"),
        ('{"engine": "abacus"}', "'abacus'; there are tesseract"),
        ('{"engine": "tesseract", "layout": 99}', "layout"),
        ('{"engine": "pp-ocr-v4", "runtime": "abacus"}', "runtime"),
    ],
)
def test_a_file_that_names_no_engine_is_refused(content: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "nano.json"
    file.write_text(content)
    with pytest.raises(ModelError, match=words):
        open_rung_file(DetectorConfig(file, "nano"))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_both_runtimes_read_what_is_written(runtime: str, tmp_path: Path) -> None:
    pytest.importorskip("rapidocr_onnxruntime")
    pytest.importorskip(runtime)
    drawn = FRAME.copy()
    cv2.putText(drawn, "KEEP CLEAR 25", (8, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
    file = tmp_path / "small.json"
    file.write_text(json.dumps({"engine": "pp-ocr-v4", "runtime": runtime}))
    found = open_rung_file(DetectorConfig(file, "small", threads=1)).detect(drawn).detections
    assert one_minus_ned("KEEP CLEAR 25", normal(text_of(found))) > 0.9


def test_tesseract_reads_what_is_written(tmp_path: Path) -> None:
    pytest.importorskip("tesserocr")
    drawn = FRAME.copy()
    cv2.putText(drawn, "KEEP CLEAR 25", (8, 38), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0, 0, 0), 2)
    (tmp_path / "nano.json").write_text('{"engine": "tesseract"}')
    # A manifest names the file of a detector; what lies in its place is opened.
    rung = open_rung_file(DetectorConfig(tmp_path / "nano.onnx", "nano"))
    assert isinstance(rung, TextReader) and rung.reads and rung.task == "ocr"
    found = rung.detect(drawn)
    assert text_of(found.detections) == "KEEP CLEAR 25"
    x1, y1, x2, y2 = found.detections.boxes[0]
    assert 0 <= x1 < 20 < 150 < x2 <= 200 and 0 <= y1 < 25 < 35 < y2 <= 60
    assert set(found.milliseconds) == {"preprocess", "inference", "postprocess"}
    # A larger image is scaled down, and its boxes are those of the image given.
    (tmp_path / "small.json").write_text('{"engine": "tesseract", "longest": 200}')
    small = open_rung_file(DetectorConfig(tmp_path / "small.json", "small"))
    large = cv2.resize(drawn, None, fx=3, fy=3)
    np.testing.assert_allclose(
        small.detect(large).detections.boxes[0][2:], [3 * x2, 3 * y2], atol=12
    )
    assert small.revision != rung.revision
    with pytest.raises(ModelError, match="have SHA-256"):
        open_rung_file(DetectorConfig(tmp_path / "nano.json", "nano", sha256="0" * 64))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"engine": ' + "[" * 100_000, "\x00", "5", "{}"])
def test_files_that_name_no_engine_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "nano.json"
    file.write_text(text)
    with pytest.raises(ModelError, match="names no engine"):
        open_rung_file(DetectorConfig(file, "nano"))
