"""Ultralytics' format: there and back, as Ultralytics reads it, and as other tools write it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from coco_samples import CATEGORIES, box_record, image_record, write_canonical, write_image

from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.split import SplitConfig, split
from components.data.yolo import convert_to_yolo
from foundation.errors import AnnotationError


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))


def taken_in(source: Path, out: Path, **config: Any) -> Dataset:
    ingest(str(source), out, IngestConfig(workers=1, **config))
    return load_dataset(out)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Twelve images with boxes at odd places, crowds, names in folders, a class without a box."""
    random = np.random.default_rng(0)
    images = [
        image_record(5 * n, file_name=f"cam {n % 2}/images/{n}:a.png", attributes={"clip": f"c{n}"})
        for n in range(1, 13)
    ]
    boxes = [
        box_record(
            10 * n + k,
            5 * n,
            [*random.uniform(0, 30, 2), *random.uniform(1, 15, 2)],
            category_id=(1, 3)[k % 2],
            iscrowd=int(k == 2),
        )
        for n in range(1, 13)
        for k in range(n % 4)
    ]
    return taken_in(write_canonical(tmp_path / "source", images, boxes), tmp_path / "data")


def test_there_and_back_is_the_same_data_set(data: Dataset, tmp_path: Path) -> None:
    split(data.root, tmp_path / "split.json", SplitConfig())
    summary = convert_to_yolo(data.root, tmp_path / "yolo", tmp_path / "split.json")
    assert sum(summary.images.values()) == 12 and min(summary.images.values()) > 0
    assert (summary.boxes, summary.crowds) == (len(data.boxes) - 3, 3)
    assert summary.without_boxes == ("dog",)
    back = taken_in(tmp_path / "yolo", tmp_path / "back")
    order = back.subset(data.image_ids.tolist())
    assert [one.name for one in back.categories] == [one.name for one in data.categories]
    assert sorted(back.image_ids.tolist()) == sorted(data.image_ids.tolist())
    for index in range(len(data)):
        rows, others = data.annotations_of(index), order.annotations_of(index)
        crowds_last = np.argsort(data.is_crowd[rows], kind="stable")
        assert np.abs(data.boxes[rows][crowds_last] - order.boxes[others]).max(initial=0) < 1e-4
        wanted = data.category_ids[rows][crowds_last]
        assert wanted.tolist() == order.category_ids[others].tolist()
        assert data.is_crowd[rows][crowds_last].tolist() == order.is_crowd[others].tolist()
        before, after = data.images[index], order.images[index]
        assert replace(before, file_name=after.file_name) == after


def test_without_the_sidecar_the_labels_alone_are_read(data: Dataset, tmp_path: Path) -> None:
    convert_to_yolo(data.root, tmp_path / "yolo")
    (tmp_path / "yolo/gearshift.json").unlink()
    back = taken_in(tmp_path / "yolo/data.yaml", tmp_path / "back")
    assert (len(back), len(back.boxes)) == (12, len(data.boxes) - 3)
    assert [one.id for one in back.categories] == [0, 1, 2]


def write_yolo(root: Path, description: Any, labels: dict[str, str]) -> Path:
    for number, (name, text) in enumerate(labels.items()):
        write_image(root / "images" / f"{name}.png", 40, 20, seed=number)
        (root / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        if text:
            (root / "labels" / f"{name}.txt").write_text(text)
    (root / "data.yaml").write_text(yaml.safe_dump(description))
    return root


def test_what_other_tools_write(tmp_path: Path) -> None:
    description = {
        "path": "/somebody/elses/machine",
        "train": "images/train",
        "val": ["images/val"],
        "names": ["car", "dog"],
        "nc": 2,
        "download": "import os; os.abort()",
    }
    labels = {
        "train/a": "0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.3 0.2 0.3 0.6\n",  # a box, a triangle
        "train/b": "",
        "val/a": "1 0.5 0.5 0.5 0.5\r\n\r\n",
    }
    found = taken_in(write_yolo(tmp_path / "source", description, labels), tmp_path / "data")
    assert [one.file_name for one in found.images] == [
        "images/train/a.png",
        "images/train/b.png",
        "images/val/a.png",
    ]
    assert np.allclose(found.boxes, [[15, 5, 10, 10], [4, 4, 8, 8], [10, 5, 20, 10]])
    assert found.category_ids.tolist() == [0, 1, 1]


def test_roboflows_paths_and_lists_of_pictures(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_image(source / "train/images/a.png", 40, 20)
    (source / "train/labels").mkdir()
    (source / "train/labels/a.txt").write_text("0 0.5 0.5 0.5 0.5")
    write_image(source / "images/b.png", 40, 20, seed=1)
    (source / "val.txt").write_text("./images/b.png\n")
    names = {0: "car"}
    description = {"train": "../train/images", "val": "val.txt", "names": names}
    (source / "data.yaml").write_text(yaml.safe_dump(description))
    found = taken_in(source, tmp_path / "data")
    assert [one.file_name for one in found.images] == ["train/images/a.png", "images/b.png"]


def test_broken_labels_are_violations(tmp_path: Path) -> None:
    description = {"train": "images", "val": "images", "names": {0: "car"}}
    place = "0.5 0.5 0.5 0.5"
    text = f"0 {place}\n0 0.5 0.5\nnan {place}\n7 {place}\nx\n0 0.95 0.5 0.3 0.5\n"
    source = write_yolo(tmp_path / "source", description, {"a": text})
    with pytest.raises(AnnotationError, match="four finite numbers"):
        taken_in(source, tmp_path / "data")
    summary = ingest(str(source), tmp_path / "data", IngestConfig(on_invalid="drop"))
    assert summary.annotations == 1
    assert summary.dropped == {"malformed_annotation": 2, "unknown_category": 2, "box_outside": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("names: [", "cannot be read as YAML"),
        ("train: images", "has no names"),
        ("names: {a: b}", "keys that are no numbers"),
        ("names: [car]", "names no picture"),
        ("names: [car]\ntrain: ../../etc", "is not below"),
    ],
)
def test_useless_descriptions_are_named(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/data.yaml").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        taken_in(tmp_path / "source", tmp_path / "data")


def test_ultralytics_reads_every_box(data: Dataset, tmp_path: Path) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    convert_to_yolo(data.root, tmp_path / "yolo")
    described = check_det_dataset(str(tmp_path / "yolo/data.yaml"))
    assert list(described["names"].values()) == [one["name"] for one in CATEGORIES]
    read = YOLODataset(described["val"], data=described, augment=False, task="detect")
    assert len(read) == len(data)
    for label in read.labels:
        index = int(data.index_of([int(Path(label["im_file"]).stem)])[0])
        rows = data.annotations_of(index)
        single = ~data.is_crowd[rows]
        boxes = label["bboxes"] * [64, 48, 64, 48]
        boxes[:, :2] -= boxes[:, 2:] / 2
        assert np.allclose(boxes, data.boxes[rows][single], atol=0.01)
