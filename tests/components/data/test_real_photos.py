"""The 128 photos of COCO that lie beside the repository on some machines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_samples import write_detector

from components.data.classes import Classes
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.observe import ObserveConfig, load_observations, observe
from components.data.split import PARTS, load_split, split
from components.data.validate import validate
from components.profiling.profile import ProfileConfig, load_detections, profile_rung
from foundation.storage import sha256_file
from inference_graph.coco_categories import COCO_IDS

SHARED = Path(os.environ.get("GEARSHIFT_SHARED") or Path(__file__).parents[4] / "shared")
PHOTOS = SHARED / "coco128"
SAMPLE_LADDER = Classes(tuple(list(COCO_IDS)[:9]), tuple(list(COCO_IDS.values())[:9]))


@pytest.mark.skipif(not PHOTOS.is_dir(), reason="the COCO photos are not on this machine")
def test_the_stages_on_photos(tmp_path: Path) -> None:
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=2)
    summary = ingest(str(PHOTOS), tmp_path / "data", config)
    assert (summary.images, summary.annotations, summary.categories) == (128, 929, 80)
    assert (summary.decoded, summary.dropped) == (128, {})

    source = json.loads((PHOTOS / "annotations" / "instances_train2017.json").read_text())
    boxes = {record["id"]: record for record in source["annotations"]}
    data = load_dataset(tmp_path / "data")
    owners = np.repeat(data.image_ids, data.object_counts)
    for row, number in enumerate(data.annotation_ids.tolist()):
        record = boxes[number]
        assert (record["image_id"], record["category_id"]) == (owners[row], data.category_ids[row])
        assert np.abs(data.boxes[row] - record["bbox"]).max() <= 1.0
        assert data.areas[row] == record["area"]
    for index, image in enumerate(data.images):
        assert image.sha256 == sha256_file(PHOTOS / "train2017" / image.file_name)
        assert data.path_of(index).is_file()

    checked = validate(tmp_path / "data", tmp_path / "report", classes=SAMPLE_LADDER)
    known = sum(
        record["category_id"] in SAMPLE_LADDER.category_ids for record in source["annotations"]
    )
    assert checked.known_share == round(known / 929, 4)
    assert checked.images_without_objects == 128 - len({r["image_id"] for r in boxes.values()})

    counts = split(tmp_path / "data", tmp_path / "split.json")
    parts = load_split(tmp_path / "split.json")
    ids = np.concatenate([parts.part(name) for name in PARTS])
    assert sorted(ids.tolist()) == sorted(image["id"] for image in source["images"])
    assert list(counts.images.values()) == [77, 19, 32]

    observe(tmp_path / "data", tmp_path / "observations.npz", ObserveConfig(workers=2))
    features = load_observations(tmp_path / "observations.npz").features
    assert features.shape == (128, 1028)
    assert features.min() >= 0 and features.max() <= 1
    grey = cv2.cvtColor(data.read(5), cv2.COLOR_BGR2GRAY)
    assert features[5, :1024].mean() == pytest.approx(grey.mean() / 255, abs=0.02)

    weights = write_detector(tmp_path / "nano.onnx")
    profile_rung(tmp_path / "data", weights, "nano", tmp_path / "nano", ProfileConfig(threads=1))
    found = load_detections(tmp_path / "nano")
    assert found.image_ids.tolist() == data.image_ids.tolist()
    sizes = np.array([(image.width, image.height) * 2 for image in data.images])
    assert (found.boxes <= np.repeat(sizes, np.diff(found.offsets), axis=0)).all()
    assert found.boxes.min() >= 0
