from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_samples import box_record, image_record, write_canonical

from components.data.dataset import dataset_to_coco, load_dataset, save_dataset, scene_type_of
from foundation.errors import AnnotationError, ImageError


def clip(name: str | None, frame: int = 0, **more: object) -> dict[str, object]:
    return {"attributes": {"clip": name, "frame_index": frame, **more}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    images = [
        image_record(7, **clip("b", 1, condition="night")),
        image_record(3, **clip(None)),
        image_record(5, **clip("b", 0, condition="night")),
    ]
    boxes = [
        box_record(1, 5, [1.5, 2, 10, 20], area=150.0),
        box_record(2, 7, [0, 0, 4, 5], iscrowd=1),
        box_record(3, 5, [30, 30, 2, 2], category_id=18),
    ]
    return write_canonical(tmp_path / "data", images, boxes)


def test_annotations_come_by_image(folder: Path) -> None:
    data = load_dataset(folder)
    assert data.image_ids.tolist() == [7, 3, 5]
    assert data.offsets.tolist() == [0, 1, 1, 3]
    assert data.annotation_ids.tolist() == [2, 1, 3]
    assert data.boxes[data.annotations_of(2)].tolist() == [[1.5, 2, 10, 20], [30, 30, 2, 2]]
    assert data.boxes_xyxy[1].tolist() == [1.5, 2, 11.5, 22]
    assert data.category_ids.tolist() == [1, 1, 18]
    assert data.areas.tolist() == [20, 150, 4]  # without an area, width times height
    assert data.is_crowd.tolist() == [True, False, False]
    assert [image.condition for image in data.images] == ["night", "unknown", "night"]
    with pytest.raises(ValueError, match="read-only"):
        data.boxes[0, 0] = 1


def test_clips_hold_their_frames_in_order(folder: Path) -> None:
    data = load_dataset(folder)
    assert [(c.name, c.indexes.tolist()) for c in data.clips] == [("b", [2, 0]), (None, [1])]


def test_subset_keeps_the_order_given(folder: Path) -> None:
    part = load_dataset(folder).subset([5, 3])
    assert part.image_ids.tolist() == [5, 3]
    assert part.offsets.tolist() == [0, 2, 2]
    assert part.annotation_ids.tolist() == [1, 3]
    assert len(load_dataset(folder).subset([]).boxes) == 0
    with pytest.raises(AnnotationError, match="no image with id 4"):
        part.subset([4])


def test_saved_data_read_back_unchanged(folder: Path, tmp_path: Path) -> None:
    data = load_dataset(folder)
    save_dataset(data, tmp_path / "copy")
    again = load_dataset(tmp_path / "copy")
    assert dataset_to_coco(again) == dataset_to_coco(data)
    assert np.array_equal(again.read(1), data.read(1))
    # Hard links: no picture takes its space twice.
    assert again.path_of(0).stat().st_ino == data.path_of(0).stat().st_ino


@pytest.mark.parametrize(("objects", "name"), [(0, "sparse"), (2, "sparse"), (3, "moderate")])
def test_scene_types_by_number(objects: int, name: str) -> None:
    assert scene_type_of(objects) == name
    assert scene_type_of(7) == "moderate"
    assert scene_type_of(8) == "dense"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p.pop("images"), 'no list "images"'),
        (lambda p: p["images"][0].pop("width"), "lacks a field"),
        (lambda p: p["annotations"][0].update(bbox=[1, 2, 3]), "lacks a field"),
        (lambda p: p["annotations"][0].update(image_id=99), "points at image 99"),
        (lambda p: p["annotations"][0].update(category_id=2), "points at category 2"),
        (lambda p: p["images"][0].update(id=3), "occurs twice"),
        (lambda p: p["images"][0].update(file_name="../x.png"), "leaves the folder"),
    ],
)
def test_broken_folders_are_refused(folder: Path, change: object, words: str) -> None:
    file = folder / "annotations.json"
    payload = json.loads(file.read_text())
    change(payload)  # type: ignore[operator]  # a lambda of the table above
    file.write_text(json.dumps(payload))
    with pytest.raises(AnnotationError, match=words) as caught:
        load_dataset(folder)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such annotation file"):
        load_dataset(tmp_path / "nowhere")
    (folder / "images" / "003.png").unlink()
    with pytest.raises(ImageError, match=r"003\.png"):
        load_dataset(folder).read(1)
