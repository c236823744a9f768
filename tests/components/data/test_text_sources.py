"""Data whose text is read: a text file beside each picture, and COCO-Text's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from coco_samples import write_image

from components.data.dataset import load_dataset, save_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.source_check import check_source
from foundation.errors import AnnotationError, ConfigurationError


def config(tmp_path: Path) -> IngestConfig:
    return IngestConfig(cache=str(tmp_path / "cache"), workers=1)


def write_pair(root: Path, name: str, text: str, seed: int = 0) -> None:
    write_image(root / f"{name}.png", 64, 48, seed=seed)
    (root / f"{name}.txt").write_text(text, encoding="utf-8")


def test_a_text_file_beside_each_picture(tmp_path: Path) -> None:
    root = tmp_path / "signs"
    (root / "door").mkdir(parents=True)
    write_pair(root, "a", "\ufeffKeep  clear\n\nÉcole 5\n")
    write_pair(root / "door", "b", "PUSH", seed=1)
    write_pair(root / "door", "c", "", seed=2)
    check_source(str(root))
    ingest(str(root), tmp_path / "data", config(tmp_path))
    data = load_dataset(tmp_path / "data")
    assert data.task == "ocr"
    assert [data.text_of(index) for index in range(3)] == ["Keep clear\nÉcole 5", "PUSH", ""]
    assert [(image.clip, image.frame_index) for image in data.images] == [
        (None, 0),
        ("door", 0),
        ("door", 1),
    ]
    # It comes back from a subset in another order, and from the disk.
    turned = data.subset(data.image_ids[::-1])
    assert [turned.text_of(index) for index in range(3)] == ["", "PUSH", "Keep clear\nÉcole 5"]
    save_dataset(turned, tmp_path / "turned", [data.path_of(index) for index in (2, 1, 0)])
    back = load_dataset(tmp_path / "turned")
    assert (back.task, back.texts) == ("ocr", turned.texts)


def test_a_picture_without_its_text_file_is_named(tmp_path: Path) -> None:
    root = tmp_path / "signs"
    root.mkdir()
    write_pair(root, "a", "OPEN")
    write_image(root / "b.png", 64, 48, seed=1)
    with pytest.raises(AnnotationError, match=r"b\.png: cannot read b\.txt"):
        ingest(str(root), tmp_path / "data", config(tmp_path))


def coco_text(**changes: Any) -> dict[str, Any]:
    def word(number: int, x: float, y: float, text: str, legibility: str) -> dict[str, Any]:
        return {
            "id": number,
            "image_id": 7,
            "bbox": [x, y, 10.0, 8.0],
            "utf8_string": text,
            "legibility": legibility,
            "language": "english",
            "class": "machine printed",
        }

    picture = {"id": 7, "set": "val", "width": 64, "height": 48, "file_name": "a.png"}
    words = [
        word(1, 30, 4, "WAY", "legible"),
        word(2, 2, 20, "stop", "legible"),
        word(3, 5, 6, "ONE", "legible"),
        word(4, 30, 30, "", "illegible"),
    ]
    other = {"id": 8, "set": "train", "width": 64, "height": 48, "file_name": "b.png"}
    return {
        "imgs": {"7": picture | changes, "8": other},
        "anns": {str(one["id"]): one for one in words},
        "imgToAnns": {"7": [1, 2, 3, 4], "8": []},
    }


def test_coco_text_is_read_in_reading_order(tmp_path: Path) -> None:
    root = tmp_path / "coco-text"
    root.mkdir()
    write_image(root / "a.png", 64, 48)
    (root / "cocotext.json").write_text(json.dumps(coco_text()))
    ingest(str(root), tmp_path / "data", config(tmp_path))
    data = load_dataset(tmp_path / "data")
    assert (data.task, data.images[0].part, len(data)) == ("ocr", "validation", 1)
    assert data.text_of(0) == "ONE\nWAY\nstop"
    assert data.is_crowd.tolist() == [False, False, False, True]


def test_a_broken_coco_text_file_is_named(tmp_path: Path) -> None:
    root = tmp_path / "coco-text"
    root.mkdir()
    (root / "cocotext.json").write_text(json.dumps(coco_text(width="wide")))
    with pytest.raises(AnnotationError, match=r"cocotext\.json: a record lacks a field"):
        ingest(str(root), tmp_path / "data", config(tmp_path))


def test_an_unknown_task_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "source"
    root.mkdir()
    write_image(root / "a.png", 64, 48)
    payload = {
        "info": {"task": "smells"},
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}],
        "categories": [{"id": 1, "name": "rose"}],
    }
    (root / "annotations.json").write_text(json.dumps(payload))
    with pytest.raises(ConfigurationError, match="'smells' is none of detection, ocr"):
        ingest(str(root), tmp_path / "data", config(tmp_path))
