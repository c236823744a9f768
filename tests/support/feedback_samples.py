"""Answers, feedback and annotation files for the tests of this folder."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from components.data.classes import Classes
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.row import PredictionRow

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
CLASSES = Classes(("person", "car", "bus"), (1, 3, 6))
"""Labels 0, 1, 2 are COCO's 1, 3, 6."""


def picture(seed: int = 0, width: int = 160, height: int = 120) -> bytes:
    """A JPEG that no other seed has."""
    noise = np.random.default_rng(seed).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    frame = cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    return cv2.imencode(".jpg", frame)[1].tobytes()


def key(number: int, time: datetime = NOON) -> str:
    """An event id as a gateway makes them: its time in milliseconds first."""
    return f"{int(time.timestamp() * 1000):012x}{number:020x}"


def answer(number: int = 0, **fields: Any) -> PredictionRow:
    given: dict[str, Any] = {
        "event_id": key(number),
        "time": NOON,
        "source": "stream",
        "width": 160,
        "height": 120,
        "answered_by": "nano",
        "rung": "nano",
        "boxes": [10, 10, 50, 50, 60, 60, 90, 100],
        "scores": [0.9, 0.2],
        "labels": [1, 0],
    }
    return PredictionRow(**(given | fields))


def correction(number: int = 0, **fields: Any) -> Feedback:
    given: dict[str, Any] = {
        "event_id": key(number),
        "time": NOON,
        "client": "anna",
        "kind": "correct",
        "boxes": [10, 10, 50, 50],
        "labels": [1],
        "width": 160,
        "height": 120,
        "image": picture(number),
    }
    return Feedback(**(given | fields))


def annotation_file(
    folder: Path,
    pictures: dict[str, bytes],
    boxes: dict[str, list[tuple[str, list[float]]]],
    names: tuple[str, ...] = ("car", "person"),
    size: tuple[int, int] = (160, 120),
) -> tuple[Path, Path]:
    """A COCO file as CVAT writes it, categories numbered from 1, and its folder of pictures."""
    images = folder / "frames"
    images.mkdir(parents=True, exist_ok=True)
    records, objects = [], []
    for number, (name, data) in enumerate(pictures.items(), 1):
        (images / name).write_bytes(data)
        records.append(
            {
                "id": number,
                "file_name": name,
                "width": size[0],
                "height": size[1],
                "license": 0,
                "flickr_url": "",
                "coco_url": "",
                "date_captured": 0,
            }
        )
        for category, box in boxes.get(name, ()):
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": number,
                    "bbox": box,
                    "iscrowd": 0,
                    "category_id": names.index(category) + 1,
                    "segmentation": [],
                    "area": box[2] * box[3],
                    "attributes": {"occluded": False},
                }
            )
    payload = {
        "info": {"contributor": "", "description": ""},
        "categories": [
            {"id": number, "name": name, "supercategory": ""}
            for number, name in enumerate(names, 1)
        ],
        "images": records,
        "annotations": objects,
    }
    file = folder / "instances_default.json"
    file.write_text(json.dumps(payload))
    return file, images
