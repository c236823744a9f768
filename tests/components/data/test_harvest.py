from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_samples import write_detector
from hostile_pictures import crashing_png, jpeg_of_scans

from components.data.dataset import load_dataset
from components.data.harvest import HARVEST_FILE, HarvestConfig, harvest
from components.data.ingest import IngestConfig, ingest
from feature_transformer.sound import wav_of
from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.prediction_log.row import PredictionRow
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
RED = (0, 0, 255)


def picture(colour: Sequence[int] = RED, size: tuple[int, int] = (64, 64)) -> bytes:
    frame = np.full((*size, 3), colour, np.uint8)
    return cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def answer(number: int, **fields: Any) -> PredictionRow:
    """Frame ``number`` of the session s, answered by nano, seconds after noon, with its image."""
    given: dict[str, Any] = {
        "event_id": f"e{number}",
        "time": NOON + timedelta(seconds=number),
        "source": "stream",
        "session": "s",
        "frame_id": number,
        "rung": "nano",
        "answered_by": "nano",
        "width": 64,
        "height": 64,
        "image": picture(),
    }
    return PredictionRow(**(given | fields))


def looked(boxes: Sequence[Sequence[float]], scores: Sequence[float]) -> dict[str, Any]:
    """Fields of a row that the reference looked at: persons, then dogs."""
    return {
        "shadow": True,
        "shadow_boxes": np.array(boxes, np.float32),
        "shadow_scores": list(scores),
        "shadow_labels": list(range(0, 2 * len(scores), 2)),
    }


@pytest.fixture
def log(tmp_path: Path) -> Any:
    def write(*rows: PredictionRow) -> str:
        with PredictionLog(LogConfig(str(tmp_path / "log"))) as target:
            for row in rows:
                target.append(row)
        return str(tmp_path / "log")

    return write


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    """Sees one object at 24..40, 28..36; a red picture is a person at 1.0, a dark one nothing."""
    return write_detector(tmp_path / "large.onnx")


def test_labels_come_from_the_shadow_the_answer_or_a_look(
    tmp_path: Path, log: Any, reference: Path
) -> None:
    url = log(
        # Twice as large as the image that was kept: its boxes are halved.
        answer(0, width=128, height=128, **looked([[10, 20, 50, 60], [0, 0, 9, 9]], [0.9, 0.2])),
        answer(1, answered_by="large", boxes=[4, 4, 12, 12], scores=[0.5], labels=[1]),
        answer(2, boxes=[1, 1, 5, 5], scores=[0.9], labels=[1]),  # what nano saw is no label
        answer(3, image=picture((0, 0, 20))),
        answer(4, image=None),
    )
    summary = harvest(url, reference, tmp_path / "out", HarvestConfig())
    assert (summary.images, summary.answered, summary.annotations) == (4, 5, 3)
    assert summary.labelled == {"shadow": 1, "answer": 1, "looked": 2}
    assert (summary.first, summary.last) == (NOON, NOON + timedelta(seconds=3))
    data = load_dataset(tmp_path / "out")
    assert data.object_counts.tolist() == [1, 1, 1, 0]
    assert data.boxes.tolist()[:2] == [[5, 10, 20, 20], [4, 4, 8, 8]]
    assert data.boxes[2] == pytest.approx([24, 28, 16, 8], abs=0.01)
    names = {category.id: category.name for category in data.categories}
    assert [names[int(kind)] for kind in data.category_ids] == ["person", "car", "person"]
    assert data.path_of(1).read_bytes() == picture()
    assert all(image.pseudo for image in data.images)
    reported = json.loads((tmp_path / "out" / HARVEST_FILE).read_text())
    assert list(reported["events"].values()) == ["e0", "e1", "e2", "e3"]
    ingest(str(tmp_path / "out"), tmp_path / "data", IngestConfig())  # it is sound COCO
    assert all(image.pseudo for image in load_dataset(tmp_path / "data").images)


def test_texts_become_truths_in_reading_order(tmp_path: Path, log: Any) -> None:
    pytest.importorskip("tesserocr")
    reference = tmp_path / "large.json"
    reference.write_text('{"engine": "tesseract"}')
    lines = [[40, 0, 60, 9], [0, 0, 30, 9], [0, 20, 60, 29]]
    url = log(
        answer(
            0,
            answered_by="large",
            boxes=np.ravel(lines),
            scores=[0.9, 0.8, 0.1],
            labels=[0, 0, 0],
            texts=("CLEAR", "KEEP", "at night"),
        ),
        answer(1, answered_by="large", boxes=[], scores=[], labels=[], texts=()),
    )
    harvest(url, reference, tmp_path / "out", HarvestConfig())
    data = load_dataset(tmp_path / "out")
    # A doubtful line is part of the text, or large itself would be wrong.
    assert [data.text_of(index) for index in range(2)] == ["KEEP CLEAR\nat night", ""]
    assert (data.task, data.boxes.tolist()) == ("ocr", [[0, 0, 60, 29]])
    ingest(str(tmp_path / "out"), tmp_path / "data", IngestConfig())
    assert load_dataset(tmp_path / "data").text_of(0) == "KEEP CLEAR\nat night"


def test_recordings_are_kept_as_recordings(tmp_path: Path, log: Any) -> None:
    pytest.importorskip("pocketsphinx")
    reference = tmp_path / "large.json"
    reference.write_text('{"engine": "pocketsphinx", "grammar": "stop.gram"}')
    (tmp_path / "stop.gram").write_text("#JSGF V1.0;\ngrammar g;\npublic <g> = stop;\n")
    sound = wav_of(np.arange(-800, 800, dtype=np.int16))
    words = {"boxes": [0, 0, 2, 400, 2, 0, 2.5, 400], "scores": [0.9, 0.2], "labels": [0, 0]}
    url = log(
        answer(
            0,
            answered_by="large",
            width=4,
            height=400,
            image=sound,
            **words,
            texts=("please", "stop"),
        )
    )
    harvest(url, reference, tmp_path / "out", HarvestConfig())
    ingest(str(tmp_path / "out"), tmp_path / "data", IngestConfig())
    data = load_dataset(tmp_path / "data")
    assert (data.task, data.text_of(0), data.images[0].file_name) == (
        "speech",
        "please stop",
        "000001.wav",
    )
    assert data.path_of(0).read_bytes() == sound


def test_streams_become_clips_in_order(tmp_path: Path, log: Any, reference: Path) -> None:
    mine = [answer(n, tags={"condition": "night"}) for n in (3, 0, 1, 2, 9, 10, 30)]
    other = [answer(100 + n, session="t", frame_id=n) for n in range(2)]
    single = answer(200, source="detect", session="", frame_id=None)
    summary = harvest(
        log(*mine, *other, single),
        reference,
        tmp_path / "out",
        HarvestConfig(clip_frames=10, gap=2),
    )
    data = load_dataset(tmp_path / "out")
    found = {clip.name: [data.images[i].frame_index for i in clip.indexes] for clip in data.clips}
    # 3 to 9 is too far for one clip; 9 to 10 is the next clip of ten frames; 30 stands alone.
    assert found == {
        "s-0": [0, 1, 2, 3],
        "s-9": [9],
        "s-10": [10],
        "s-30": [30],
        "t-0": [0, 1],
        None: [0],
    }
    assert summary.clips == 6
    assert {image.condition for image in data.images if image.clip == "s-0"} == {"night"}


def test_clients_that_call_their_sessions_alike_are_two_streams(
    tmp_path: Path, log: Any, reference: Path
) -> None:
    rows = [
        answer(number, client=("left", "right")[number % 2], frame_id=number // 2)
        for number in range(6)
    ]
    harvest(log(*rows), reference, tmp_path / "out", HarvestConfig())
    data = load_dataset(tmp_path / "out")
    found = {clip.name: [data.images[i].frame_index for i in clip.indexes] for clip in data.clips}
    assert found == {"left/s-0": [0, 1, 2], "right/s-0": [0, 1, 2]}


def test_the_newest_frames_of_the_window(tmp_path: Path, log: Any, reference: Path) -> None:
    url = log(*(answer(number) for number in range(20)))
    summary = harvest(
        url,
        reference,
        tmp_path / "out",
        HarvestConfig(most=4),
        since=NOON + timedelta(seconds=2),
        until=NOON + timedelta(seconds=15),
    )
    data = load_dataset(tmp_path / "out")
    assert [image.frame_index for image in data.images] == [11, 12, 13, 14]
    assert (summary.images, summary.answered) == (4, 13)


def test_boxes_end_at_the_border(tmp_path: Path, log: Any, reference: Path) -> None:
    row = answer(0, **looked([[-5, 10, 70, 64.4], [63.8, 3, 70, 9]], [0.9, 0.8]))
    harvest(log(row), reference, tmp_path / "out", HarvestConfig())
    assert load_dataset(tmp_path / "out").boxes.tolist() == [[0, 10, 64, 54]]


def test_what_is_no_image_is_left_out_and_counted(
    tmp_path: Path, log: Any, reference: Path
) -> None:
    broken = (crashing_png(64), b"no image", jpeg_of_scans(64, 64, 500))
    rows = [answer(number, image=data) for number, data in enumerate(broken[1:])]
    with pytest.raises(InvalidInput, match="none of the 2 frames .* can be decoded"):
        harvest(log(*rows), reference, tmp_path / "none", HarvestConfig())
    url = log(*rows, answer(5, image=broken[0]), answer(6))
    summary = harvest(url, reference, tmp_path / "data", HarvestConfig())
    assert (summary.images, summary.broken) == (2, 2)
    data = load_dataset(tmp_path / "data")
    assert [(image.width, image.height) for image in data.images] == [(8, 8), (64, 64)]


def test_a_window_without_images(tmp_path: Path, log: Any, reference: Path) -> None:
    url = log(answer(0, image=None), answer(1, answered_by="", error="no rung"))
    with pytest.raises(InvalidInput, match="none of the 1 answers .* image_share"):
        harvest(url, reference, tmp_path / "out", HarvestConfig())
    assert not (tmp_path / "out").exists()


def test_settings_out_of_range() -> None:
    with pytest.raises(ConfigurationError, match="score is 2"):
        HarvestConfig(score=2)
    with pytest.raises(ConfigurationError, match="clip_frames is 0"):
        HarvestConfig(clip_frames=0)
