from __future__ import annotations

import numpy as np
import pytest

from foundation.errors import InvalidInput
from inference_graph.contract import Answer, Detections
from inference_graph.detections import (
    DetectionFilter,
    detections_json,
    read_classes,
    read_filter,
)
from inference_graph.detector.wire import DetectorFacts, v1_prediction

NAMES, CATEGORIES = ("person", "car", "dog"), (1, 3, 18)
FOUND = Detections(
    np.array([[1.236, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [9, 10, 11.5, 12]], np.float32),
    np.array([0.9, 0.25, 0.24, 0.016], np.float32),
    np.array([1, 0, 1, 1], np.int32),
)
CAR = {"box": [1.24, 2, 3, 4], "score": 0.9, "label": 1, "category_id": 3, "name": "car"}
PERSON = {"box": [5, 6, 7, 8], "score": 0.25, "label": 0, "category_id": 1, "name": "person"}


def shown(wanted: DetectionFilter) -> list[object]:
    return list(detections_json(wanted.keep(FOUND, NAMES), NAMES, CATEGORIES))


def test_boxes_below_the_confidence_stay_behind_by_default() -> None:
    assert shown(DetectionFilter()) == [CAR, PERSON]
    assert [one["score"] for one in shown(DetectionFilter(0.0))] == [0.9, 0.25, 0.24, 0.016]
    assert shown(DetectionFilter(0.95)) == []


def test_only_the_classes_asked_for_are_shown() -> None:
    assert shown(DetectionFilter(classes=frozenset(["person"]))) == [PERSON]
    assert len(shown(DetectionFilter(0.0, frozenset(["car"])))) == 3
    assert shown(DetectionFilter(0.0, frozenset(["dog"]))) == []


@pytest.mark.parametrize("given", ["car, person", ["car", " person"], "person,,car"])
def test_class_names_are_read_from_text_and_lists(given: str | list[str]) -> None:
    assert read_classes(given, NAMES) == {"car", "person"}
    assert read_classes("", NAMES) == read_classes([], NAMES) == frozenset()


def test_an_unknown_class_is_refused_and_the_nearest_one_is_named() -> None:
    with pytest.raises(InvalidInput, match="'cat' is not known; did you mean 'car'"):
        read_classes("car,cat", NAMES)
    assert read_classes("cat", ()) == {"cat"}


def test_a_v1_prediction_has_the_same_objects_and_all_columns() -> None:
    answer = Answer(FOUND, {"inference": 1.0}, "nano", "0123456789ab")
    facts = DetectorFacts(NAMES, CATEGORIES, (96, 128), "0123456789ab")
    prediction = v1_prediction(answer, facts)
    assert prediction["detections"] == [CAR, PERSON]
    assert prediction["labels"] == [1, 0, 1, 1] and len(prediction["boxes"]) == 4
    wanted = read_filter({"confidence": 0.5, "classes": ["car"]}, NAMES)
    assert v1_prediction(answer, facts, wanted)["detections"] == [CAR]


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"confidense": 0.5}, "parameters.confidense"),
        ({"confidence": 2}, "parameters.confidence"),
        ({"confidence": float("nan")}, "parameters.confidence"),
        ({"classes": ["cat"]}, "cat"),
        ({"classes": "car"}, "parameters.classes"),
        ([], "parameters"),
    ],
)
def test_wrong_parameters_of_a_v1_request_are_refused(parameters: object, named: str) -> None:
    with pytest.raises(InvalidInput, match=named):
        read_filter(parameters, NAMES)
