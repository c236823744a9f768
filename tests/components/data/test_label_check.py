from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from coco_samples import box_record, coco, image_record

from components.data.classes import Classes
from components.data.dataset import dataset_from_coco
from components.data.label_check import contradicted_labels
from inference_graph.contract import Detections


@dataclass
class Seen:
    found: list[Detections]
    classes: Classes = Classes(("car", "person"), (3, 1))
    input_size: tuple[int, int] = (48, 64)  # as the pictures are

    def of(self, index: int) -> Detections:
        return self.found[index]


def seen(*rows: tuple[list[float], float, int]) -> Detections:
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[2] for row in rows], np.int32),
    )


def test_a_label_is_contradicted_where_another_class_is_sure_and_its_own_is_not_seen() -> None:
    place, moved = [10.0, 10.0, 30.0, 30.0], [40.0, 10.0, 60.0, 30.0]
    boxes = [
        box_record(1, 1, [10, 10, 20, 20]),  # a person, where a car is seen
        box_record(2, 2, [10, 10, 20, 20]),  # a person is seen there, too
        box_record(3, 3, [10, 10, 20, 20], iscrowd=1),
        box_record(4, 4, [10, 10, 20, 20], category_id=18),  # the detector knows no dogs
        box_record(5, 5, [10, 10, 20, 20]),  # the car is elsewhere
        box_record(6, 6, [10, 10, 20, 11.5]),  # 11.5 pixels high: too small to be sure
    ]
    data = dataset_from_coco(Path(), coco([image_record(n) for n in range(1, 8)], boxes), Path())
    car, person = (place, 0.95, 0), (place, 0.3, 1)
    small = seen(([10.0, 10.0, 30.0, 21.5], 0.95, 0))
    found = [
        seen(car),
        seen(car, person),
        seen(car),
        seen(car),
        seen((moved, 0.95, 0)),
        small,
        seen(),
    ]
    assert list(contradicted_labels(data, Seen(found))) == [
        {
            "image_id": 1,
            "annotation_id": 1,
            "bbox": [10.0, 10.0, 20.0, 20.0],
            "detected": "car",
            "score": 0.95,
        }
    ]
