"""Ultralytics' validation of a converted data set gives the accuracy that the evaluation gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.data.classes import Classes
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.yolo import convert_to_yolo
from components.evaluation.average_precision import SeenDetections, match_detections
from components.scenes.writer import ScenesConfig, write_scenes
from inference_graph.contract import Detections


def test_ultralytics_validates_the_converted_set_alike(tmp_path: Path, sample_ladder: Path) -> None:
    from ultralytics import YOLO
    from ultralytics.nn.tasks import DetectionModel

    from components.ladder.warm_start import load_exported

    scenes = ScenesConfig(frames=100, width=256, height=192, condition="mixed", seed=31)
    write_scenes(scenes, tmp_path / "scenes")
    ingest(str(tmp_path / "scenes"), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
    convert_to_yolo(tmp_path / "data", tmp_path / "yolo")
    # The weights of the ladder, in the network that the format is for.
    card = json.loads((sample_ladder / "card.json").read_text())
    classes = Classes(tuple(card["class_names"]), tuple(card["category_ids"]))
    model = YOLO("yolov8n.yaml")
    model.model = DetectionModel("yolov8n.yaml", nc=len(classes.names), verbose=False)
    load_exported(model.model, sample_ladder / "nano.onnx")
    model.model.names = dict(enumerate(classes.names))
    validated = model.val(
        data=str(tmp_path / "yolo/data.yaml"),
        imgsz=256,
        device="cpu",
        workers=0,
        plots=False,
        save_json=True,
        project=str(tmp_path / "val"),
    )
    data = load_dataset(tmp_path / "data")
    seen: dict[int, list[dict[str, Any]]] = {image.id: [] for image in data.images}
    for one in json.loads(next(tmp_path.glob("val/**/predictions.json")).read_text()):
        seen[one["image_id"]].append(one)
    found = SeenDetections.of([_detections(rows) for rows in seen.values()], classes.category_ids)
    ours = match_detections(data, [found], classes).mean_average_precision(0)
    assert 0.4 < validated.box.map == pytest.approx(ours, abs=0.005)


def _detections(rows: list[dict[str, Any]]) -> Detections:
    """Predictions as Ultralytics writes them: x, y, width, height, classes counted from 1."""
    rows = sorted(rows, key=lambda row: -row["score"])
    boxes = np.array([row["bbox"] for row in rows], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    labels = np.array([row["category_id"] for row in rows], np.int32) - 1
    return Detections(boxes, np.array([row["score"] for row in rows], np.float32), labels)
