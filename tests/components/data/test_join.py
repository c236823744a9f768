from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coco_samples import box_record, image_record, write_canonical, write_image

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.join import Part, join, joined_from
from components.data.split import SplitConfig, load_split, split
from components.data.text_payload import TextPayload
from foundation.errors import ConfigurationError
from foundation.storage import sha256_file


def folder(root: Path, count: int, clip: str | None = None, first: int = 1) -> Path:
    """Images of 64x48, numbered from ``first``; the k-th has k boxes."""
    images = [
        image_record(number, attributes={"clip": clip, "frame_index": number, "condition": "day"})
        for number in range(first, first + count)
    ]
    boxes = [
        box_record(100 * number + k, number, [3.0 * k, 2.0, 8.0, 6.0])
        for number in range(first, first + count)
        for k in range(number - first + 1)
    ]
    return write_canonical(root, images, boxes)


def test_two_data_sets_become_one(tmp_path: Path) -> None:
    old, new = folder(tmp_path / "a", 3, "street"), folder(tmp_path / "b", 2, "street")
    summary = join([Part("old", old, {}), Part("new", new, {})], tmp_path / "both")
    assert (dict(summary.images), summary.annotations) == ({"old": 3, "new": 2}, 1 + 2 + 3 + 1 + 2)
    data = load_dataset(tmp_path / "both")
    assert data.image_ids.tolist() == [1, 2, 3, 4, 5]
    assert data.object_counts.tolist() == [1, 2, 3, 1, 2]
    assert [joined_from(image) for image in data.images] == ["old"] * 3 + ["new"] * 2
    # Two streets of one name are two clips.
    assert [len(clip.indexes) for clip in data.clips] == [3, 2]
    assert len(set(data.annotation_ids.tolist())) == 9
    assert data.boxes[data.annotations_of(2)].tolist() == [[0, 2, 8, 6], [3, 2, 8, 6], [6, 2, 8, 6]]
    for index, source in ((0, old), (4, new)):
        name = data.images[index].file_name.partition("/")[2]
        assert data.path_of(index).read_bytes() == (source / "images" / name).read_bytes()


def test_texts_stay_with_their_images_and_tasks_are_not_mixed(tmp_path: Path) -> None:
    read = {}
    for name, texts in (("old", ("TICKET 7", "")), ("new", ("KEEP CLEAR",))):
        payload = TextPayload("ocr", "text")
        for number, text in enumerate(texts, 1):
            file = f"{name}{number}.png"
            write_image(tmp_path / name / "images" / file, 64, 48, seed=len(read) + number)
            payload.add(file, (64, 48), {}, [(text, (1, 1, 9, 9))] if text else [])
        (tmp_path / name / "annotations.json").write_text(json.dumps(payload.content))
        read[name] = tmp_path / f"{name}-data"
        ingest(str(tmp_path / name), read[name], IngestConfig(cache=str(tmp_path / "cache")))
    join([Part(name, at, {}) for name, at in read.items()], tmp_path / "both")
    data = load_dataset(tmp_path / "both")
    assert data.task == "ocr"
    assert [data.text_of(index) for index in range(3)] == ["TICKET 7", "", "KEEP CLEAR"]
    with pytest.raises(ConfigurationError, match="data of detection and of ocr cannot be joined"):
        join([Part("a", read["old"], {}), Part("b", folder(tmp_path / "c", 1), {})], tmp_path / "d")


def test_a_part_of_an_earlier_split_is_kept_through_ingest(tmp_path: Path) -> None:
    old, new = folder(tmp_path / "a", 12), folder(tmp_path / "b", 12, first=101)
    held_out = {
        sha256_file(old / "images" / f"{number:03d}.png"): "test" for number in (2, 5, 7, 11)
    }
    learned = {sha256_file(old / "images" / f"{number:03d}.png"): "train" for number in (1, 3)}
    first = tmp_path / "first"
    ingest(str(old), first, IngestConfig())
    join([Part("old", first, held_out | learned), Part("new", new, {})], tmp_path / "both")
    ingest(str(tmp_path / "both"), tmp_path / "data", IngestConfig())
    summary = split(tmp_path / "data", tmp_path / "split.json", SplitConfig())
    data, parts = load_dataset(tmp_path / "data"), load_split(tmp_path / "split.json")
    name_of = {image.id: image.file_name for image in data.images}
    tested = {name_of[i] for i in parts.test.tolist()}
    trained = {name_of[i] for i in parts.train.tolist()}
    assert {f"old/{number:03d}.png" for number in (2, 5, 7, 11)} <= tested
    assert {f"old/{number:03d}.png" for number in (1, 3)} <= trained
    # The 18 others are handed out by the shares: 10.8, 2.7 and 4.5 of them.
    assert sum(summary.images.values()) == 24
    assert abs(summary.images["test"] - 4 - 4.5) <= 1.5
    assert abs(summary.images["train"] - 2 - 10.8) <= 1.5


def test_what_was_ever_learned_from_is_not_held_out(tmp_path: Path) -> None:
    """The same picture, once in train and once in test: the group goes to train."""
    data = folder(tmp_path / "a", 8)
    same = (data / "images" / "001.png").read_bytes()
    (data / "images" / "002.png").write_bytes(same)
    payload = json.loads((data / "annotations.json").read_text())
    for image in payload["images"]:
        image["sha256"] = sha256_file(data / "images" / image["file_name"])
    payload["images"][0]["attributes"]["part"] = "test"
    payload["images"][1]["attributes"]["part"] = "train"
    payload["images"][2]["attributes"]["part"] = "elsewhere"  # another tool's word
    (data / "annotations.json").write_text(json.dumps(payload))
    split(data, tmp_path / "split.json", SplitConfig())
    assert {1, 2} <= set(load_split(tmp_path / "split.json").train.tolist())


def test_a_part_without_images_is_reported(tmp_path: Path) -> None:
    data = folder(tmp_path / "a", 4)
    payload = json.loads((data / "annotations.json").read_text())
    for image in payload["images"]:
        image["attributes"]["part"] = "train"
    (data / "annotations.json").write_text(json.dumps(payload))
    with pytest.raises(ConfigurationError, match="left for validation, test"):
        split(data, tmp_path / "split.json", SplitConfig())


def test_categories_are_joined_by_name(tmp_path: Path) -> None:
    """Person is 1 and car 3 in one; in the other 1 is a tree, 3 "Person", and 7 a car."""
    boxes = [box_record(1, 1, [1, 1, 4, 4]), box_record(2, 1, [5, 5, 4, 4], category_id=3)]
    one = write_canonical(tmp_path / "a", [image_record(1)], boxes)
    boxes = [
        box_record(number, 1, [1, 1, 4, 4], category_id=category)
        for number, category in enumerate((1, 3, 7), 1)
    ]
    other = write_canonical(tmp_path / "b", [image_record(1)], boxes)
    payload = json.loads((other / "annotations.json").read_text())
    payload["categories"] = [
        {"id": number, "name": name} for number, name in ((1, "tree"), (3, "Person"), (7, "car"))
    ]
    (other / "annotations.json").write_text(json.dumps(payload))
    join([Part("old", one, {}), Part("new", other, {})], tmp_path / "both")
    data = load_dataset(tmp_path / "both")
    names = {category.id: category.name for category in data.categories}
    assert names == {1: "person", 3: "car", 18: "dog", 19: "tree"}
    assert [names[number] for number in data.category_ids.tolist()] == [
        "person",
        "car",
        "tree",
        "person",
        "car",
    ]


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    one = folder(tmp_path / "a", 1)
    with pytest.raises(ConfigurationError, match="name of its own"):
        join([Part("old", one, {}), Part("old", one, {})], tmp_path / "both")
    with pytest.raises(ConfigurationError, match="letters"):
        Part("../up", one, {})
    assert not (tmp_path / "both").exists()


def test_areas_and_crowds_come_along(tmp_path: Path) -> None:
    boxes = [box_record(1, 1, [1, 1, 4, 4], area=9.0), box_record(2, 1, [2, 2, 5, 5], iscrowd=1)]
    one = write_canonical(tmp_path / "a", [image_record(1)], boxes)
    two = folder(tmp_path / "b", 1)
    join([Part("old", two, {}), Part("new", one, {})], tmp_path / "both")
    data = load_dataset(tmp_path / "both")
    assert data.areas.tolist() == [48.0, 9.0, 25.0]
    assert np.array_equal(data.is_crowd, [False, False, True])
