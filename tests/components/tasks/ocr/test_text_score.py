"""Accuracy of what was read, against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from components.data.classes import Classes
from components.data.dataset import dataset_from_coco
from components.evaluation.average_precision import SeenDetections
from components.tasks import TASKS
from components.tasks.contract import ScoredAnswers
from foundation.errors import AnnotationError
from inference_graph.contract import Detections
from inference_graph.prediction_log.agreement import agreement

pytest.importorskip("rapidfuzz")
CLASSES = Classes(("text",), (1,))


@dataclass(frozen=True)
class _Line:
    text: str
    box: tuple[float, float, float, float]
    score: float = 0.9


def answer(*lines: _Line) -> Detections:
    lines = tuple(sorted(lines, key=lambda line: -line.score))
    return Detections(
        np.array([line.box for line in lines], np.float32).reshape(-1, 4),
        np.array([line.score for line in lines], np.float32),
        np.zeros(len(lines), np.int32),
        tuple(line.text for line in lines),
    )


def scored(truths: list[str], *rungs: list[Detections]) -> ScoredAnswers:
    rows = [
        {"id": 1 + number, "image_id": image, "category_id": 1, "bbox": [0, 0, 9, 9], "text": line}
        for number, (image, line) in enumerate(
            (image, line) for image, text in enumerate(truths) for line in text.splitlines()
        )
    ]
    images = [
        {"id": index, "file_name": f"{index}.png", "width": 99, "height": 99}
        for index in range(len(truths))
    ]
    payload = {
        "info": {"task": "ocr"},
        "images": images,
        "annotations": rows,
        "categories": [{"id": 1, "name": "text"}],
    }
    data = dataset_from_coco(Path("data"), payload, Path("data"))
    answers = [SeenDetections.of(found, CLASSES.category_ids) for found in rungs]
    return TASKS[data.task].score(data, answers, CLASSES)


def test_quality_by_hand() -> None:
    # Lines are read from top to bottom and, on one height, from left to right.
    receipt = answer(
        _Line("TOTAL", (0, 40, 30, 50), 0.5),
        _Line("4.20", (40, 1, 60, 11), 0.99),
        _Line("milk", (0, 0, 30, 10), 0.7),
    )
    found = scored(
        ["milk 4.20\nTOTAL", "STOP", ""],
        [receipt, answer(), answer()],
        [answer(), answer(_Line("SHOP", (0, 0, 9, 9))), receipt],
    )
    # SHOP for STOP: one of four characters is another.
    np.testing.assert_allclose(found.contributions(), [[1, 0], [0, 0.75], [1, 0]])
    assert found.truths.tolist() == [[1, 3], [1, 1], [0, 0]]
    assert found.accuracy(0) == pytest.approx(2 / 3)
    np.testing.assert_allclose(found.class_accuracies(0), [2 / 3, 3 / 4])
    np.testing.assert_allclose(found.class_accuracies(1), [0.25, 0])
    routed = np.array([0, 1, 0])
    assert found.accuracy(routed) == pytest.approx(2.75 / 3)
    assert found.chosen(routed).accuracy(0) == pytest.approx(2.75 / 3)
    # An image that counts twice, and one without an answer.
    assert found.accuracy(routed, np.array([2.0, 1.0, 0.0])) == pytest.approx(2.75 / 3)
    assert found.accuracy(np.array([0, -1, -1])) == pytest.approx(2 / 3)
    assert np.isnan(found.accuracy(0, np.zeros(3)))


def test_words_count_as_often_as_they_occur() -> None:
    twice = answer(_Line("no entry no", (0, 0, 9, 9)))
    found = scored(["no entry"], [twice])
    assert found.class_accuracies(0)[1] == 1.0
    found = scored(["no entry no"], [answer(_Line("no entry", (0, 0, 9, 9)))])
    assert found.class_accuracies(0)[1] == pytest.approx(2 / 3)


def test_data_without_texts_are_refused() -> None:
    with pytest.raises(AnnotationError, match="no annotation has a text"):
        scored(["", ""], [answer(), answer()])


def test_agreement_of_readers_is_that_of_their_texts() -> None:
    left, moved = _Line("STOP", (0, 0, 9, 9)), _Line("SHOP", (50, 50, 90, 60))
    assert agreement(answer(left), answer(moved)) == pytest.approx(0.75)
    assert agreement(answer(), answer()) == 1.0
