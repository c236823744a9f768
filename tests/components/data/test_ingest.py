from __future__ import annotations

import errno
import json
import os
import shutil
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from coco_samples import (
    CATEGORIES,
    box_record,
    coco,
    image_record,
    sample_payload,
    write_folder,
    write_image,
)
from hostile_pictures import harmless, refused

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.violations import DEPENDENT, RULES
from feature_transformer.image import examined
from foundation.errors import (
    AnnotationError,
    ConfigurationError,
    GearshiftError,
    ImageError,
    InvalidInput,
    StorageError,
)

ANNOTATION_LISTS = {"image": "images", "annotation": "annotations", "category": "categories"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_CACHE", str(tmp_path / "cache"))


def run(source: Path | str, out: Path, **config: Any) -> Any:
    return ingest(str(source), out, IngestConfig(workers=2, **config))


def test_a_coco_folder_becomes_a_data_set(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(4))
    seen: list[tuple[int, int]] = []
    summary = ingest(
        str(source), tmp_path / "out", progress=lambda done, total: seen.append((done, total))
    )
    assert (summary.images, summary.annotations, summary.categories) == (4, 10, 3)
    assert (summary.decoded, summary.clipped, summary.dropped) == (4, 0, {})
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    data = load_dataset(tmp_path / "out")
    assert data.object_counts.tolist() == [1, 2, 3, 4]
    assert [image.scene_type for image in data.images] == ["sparse"] * 2 + ["moderate"] * 2
    assert data.areas.tolist() == [40.0] * 10
    assert data.path_of(0).read_bytes() == (source / "all" / "001.png").read_bytes()
    assert data.images[0].sha256 is not None
    assert 0.4 < (data.images[0].brightness or 0) < 0.6  # uniform noise


def test_content_counts_not_its_place(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(3))
    first = run(source, tmp_path / "one")
    moved = shutil.move(source, tmp_path / "moved")
    second = run(moved, tmp_path / "two")
    assert second.decoded == 0  # every picture was known by its content
    assert second.source_sha256 == first.source_sha256
    one, two = (tmp_path / name / "annotations.json" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()
    write_image(Path(moved) / "all" / "002.png", seed=99)
    third = run(moved, tmp_path / "three")
    assert third.decoded == 1
    assert third.source_sha256 != first.source_sha256


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(8))

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(str(source), tmp_path / "out", IngestConfig(workers=1), stop)
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out").decoded <= 3


@pytest.mark.parametrize(
    "layout", ["annotations.json", "_annotations.coco.json", "labels/instances_all.json"]
)
def test_layouts(tmp_path: Path, layout: str) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2), layout)
    if layout == "annotations.json":
        (source / "all").rename(source / "images")
    if layout == "_annotations.coco.json":
        for file in (source / "all").iterdir():
            file.rename(source / file.name)
        (source / "all").rmdir()
    assert run(source, tmp_path / "out").annotations == 3


def test_its_own_output_can_be_read_again(tmp_path: Path) -> None:
    payload = sample_payload(2)
    payload["images"][0]["attributes"] = {"condition": "fog", "clip": "a", "frame_index": 4}
    payload["annotations"][0]["iscrowd"] = 1
    run(write_folder(tmp_path / "source", payload), tmp_path / "one")
    assert run(tmp_path / "one", tmp_path / "two").crowd == 1
    image = load_dataset(tmp_path / "two").images[0]
    assert (image.condition, image.clip, image.frame_index) == ("fog", "a", 4)
    with pytest.raises(ConfigurationError, match="holds the source"):
        run(tmp_path / "one", tmp_path / "one")
    assert (tmp_path / "one" / "images" / "001.png").exists()


def test_several_annotation_files_need_a_choice(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))
    write_folder(source, sample_payload(1), "annotations/instances_few.json")
    with pytest.raises(
        AnnotationError,
        match=r"instances_all\.json, annotations/instances_few\.json.*--annotations",
    ):
        run(source, tmp_path / "out")
    assert run(source, tmp_path / "out", annotations="instances_few.json").images == 1
    assert run(source, tmp_path / "out", annotations="annotations/instances_all.json").images == 2
    with pytest.raises(AnnotationError, match=r"no annotation file other\.json; choose one of"):
        run(source, tmp_path / "out", annotations="other.json")


def test_a_zip_with_a_folder_around_it(tmp_path: Path) -> None:
    write_folder(tmp_path / "source" / "my set", sample_payload(3))
    shutil.make_archive(str(tmp_path / "data"), "zip", tmp_path / "source")
    summary = run(tmp_path / "data.zip", tmp_path / "out")
    assert (summary.images, summary.annotations) == (3, 6)
    assert run(tmp_path / "data.zip", tmp_path / "again").decoded == 0


def test_rounding_over_the_border_is_clipped(tmp_path: Path) -> None:
    boxes = [
        box_record(1, 1, [-0.75, 40.0, 10.0, 8.9]),  # 0.75 to the left, 0.9 below 48
        box_record(2, 1, [10.0, 10.0, 54.0, 38.0]),  # ends exactly in the corner
    ]
    source = write_folder(tmp_path / "source", coco([image_record(1)], boxes))
    assert run(source, tmp_path / "out").clipped == 1
    boxes_out = load_dataset(tmp_path / "out").boxes
    assert boxes_out.tolist() == [[0.0, 40.0, 9.25, 8.0], [10.0, 10.0, 54.0, 38.0]]


def broken_payload() -> Any:
    images = [image_record(number) for number in (1, 2, 3, 4, 5)]
    images += [
        image_record(1),
        {**image_record(6), "file_name": "../006.png"},
        {**image_record(7), "width": 0},
        {**image_record(8), "file_name": "001.png"},
    ]
    boxes = [
        box_record(1, 1, [1, 1, 8, 8]),
        box_record(2, 1, [60, 1, 8, 8]),  # 4 pixels beyond 64
        box_record(3, 1, [1, 1, 0, 8]),
        box_record(4, 99, [1, 1, 8, 8]),
        box_record(5, 1, [1, 1, 8, 8], category_id=2),
        box_record(1, 2, [1, 1, 8, 8]),
        box_record(7, 2, [1, 1, float("nan"), 8]),
        box_record(8, 3, [1, 1, 8, 8]),  # picture missing
        box_record(9, 4, [1, 1, 8, 8]),  # picture cut short
        box_record(10, 5, [1, 1, 8, 8]),  # picture of another size
        box_record(11, 7, [1, 1, 8, 8]),  # of a broken image record
        box_record(12, 2, [1, 1, 8, 8]),
    ]
    payload = coco(images, boxes)
    payload["categories"].append({"id": 1, "name": "again"})
    return payload


def write_broken(root: Path) -> Path:
    payload = broken_payload()
    file = root / "annotations" / "instances_all.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(payload))
    for number in (1, 2, 4):
        write_image(root / "all" / f"{number:03d}.png", seed=number)
    cut = root / "all" / "004.png"
    cut.write_bytes(cut.read_bytes()[:3000])
    write_image(root / "all" / "005.png", width=48, height=64)
    return root


def test_hostile_pictures_are_broken_images_and_nothing_ends(tmp_path: Path) -> None:
    hostile = [*harmless(), *refused()]
    images = [image_record(1)]
    images += [image_record(2 + place) for place in range(len(hostile))]
    source = write_folder(tmp_path / "source", coco(images[:1], [box_record(1, 1, [0, 0, 8, 6])]))
    for record, (_, data) in zip(images[1:], hostile, strict=True):
        (source / "all" / record["file_name"]).write_bytes(data)
    payload = coco(images, [box_record(1, 1, [0, 0, 8, 6])])
    (source / "annotations" / "instances_all.json").write_text(json.dumps(payload))
    dropped = run(source, tmp_path / "out", on_invalid="drop").dropped
    # Those with a picture beside what is to do harm are of another size than the records state.
    fits = sum(examined(data).structure.width == 64 for _, data in harmless())
    sizes = len(list(harmless())) - fits
    assert dropped == {"broken_image": len(list(refused())), "image_size": sizes}


def test_broken_records_are_dropped_and_counted(tmp_path: Path) -> None:
    source = write_broken(tmp_path / "source")
    summary = run(source, tmp_path / "out", on_invalid="drop")
    assert summary.dropped == {
        "duplicate_category": 1,
        "duplicate_image": 1,
        "unsafe_file_name": 1,
        "malformed_image": 1,
        "duplicate_file_name": 1,
        "box_outside": 1,
        "zero_area": 1,
        "unknown_image": 1,
        "unknown_category": 1,
        "duplicate_annotation": 1,
        "malformed_annotation": 1,
        "missing_image": 1,
        "broken_image": 1,
        "image_size": 1,
        "annotation_of_dropped_image": 4,
    }
    data = load_dataset(tmp_path / "out")
    assert data.image_ids.tolist() == [1, 2]
    assert data.annotation_ids.tolist() == [1, 12]
    assert data.info["dropped"] == summary.dropped


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (
            [[60, 1, 8, 8]],
            r"annotation 1 of image 1 has a box .* outside its 64x48 image; correct",
        ),
        ([[1, 1, 0, 8]], "annotation 1 of image 1 has a box of zero area"),
        ([[1, 1, -3, 8]], "negative width or height, corners swapped"),
        ([[64.5, 1, 0.5, 8]], "zero area within its image"),
        ([[1, 1, 8]], "four finite numbers"),
        ([[60, 1, 8, 8], [1, 1, 0, 8], [1, 1, 0, 8]], r"and 2 more \(2 zero_area\)"),
    ],
)
def test_broken_boxes_are_errors(tmp_path: Path, boxes: list[list[float]], words: str) -> None:
    records = [box_record(number, 1, box) for number, box in enumerate(boxes, start=1)]
    source = write_folder(tmp_path / "source", coco([image_record(1)], records))
    with pytest.raises(AnnotationError, match=words) as caught:
        run(source, tmp_path / "out")
    message = str(caught.value)
    assert "instances_all.json" in message and "--on-invalid drop" in message
    assert "\n" not in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda file: file.unlink(), "the file of image 2 .002.png. is missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:2000]), "image 2 .* cannot be decoded"),
        (lambda file: file.write_bytes(b""), "image 2 .* cannot be decoded"),
        (lambda file: write_image(file, 32, 32), "is 32x32 pixels, its record says 64x48"),
    ],
)
def test_broken_pictures_are_errors(tmp_path: Path, damage: Any, words: str) -> None:
    source = write_folder(tmp_path / "source", sample_payload(3))
    damage(source / "all" / "002.png")
    with pytest.raises(ImageError, match=words) as caught:
        run(source, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (coco([], [box_record(1, 1, [1, 1, 2, 2])]), "lists no images"),
        (coco([image_record(1)], []), "lists no annotations"),
        ({"images": []}, 'no list "annotations"'),
        ([1, 2], 'no list "images"'),
    ],
)
def test_empty_data_are_errors(tmp_path: Path, payload: Any, words: str) -> None:
    file = tmp_path / "source" / "annotations.json"
    file.parent.mkdir()
    file.write_text(json.dumps(payload))
    with pytest.raises(AnnotationError, match=words):
        run(tmp_path / "source", tmp_path / "out")


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(1))
    (source / "all" / "001.png").unlink()
    with pytest.raises(AnnotationError, match=r"nothing is left .*1 missing_image"):
        run(source, tmp_path / "out", on_invalid="drop")


@pytest.mark.parametrize(
    "name", ["a" * 5000 + ".png", "/".join(["a" * 200] * 40), "C:\\" + "b" * 5000, "é" * 130]
)
def test_a_file_name_longer_than_file_systems_allow_is_one_broken_record(
    tmp_path: Path, name: str
) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))
    payload = sample_payload(2)
    payload["images"][0]["file_name"] = name
    (source / "annotations/instances_all.json").write_text(json.dumps(payload))
    with pytest.raises(AnnotationError, match="is longer than 255 bytes") as refused:
        run(source, tmp_path / "out")
    assert len(str(refused.value)) < 500
    summary = run(source, tmp_path / "out", on_invalid="drop")
    assert (summary.images, summary.dropped["unsafe_file_name"]) == (1, 1)


@pytest.mark.parametrize("whole", [False, True])
def test_links_to_pictures_outside_are_broken_records(tmp_path: Path, whole: bool) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))
    pictures = source / "all"
    if whole:
        pictures.rename(tmp_path / "private")
        pictures.symlink_to(tmp_path / "private")
    else:
        (pictures / "001.png").rename(tmp_path / "private.png")
        (pictures / "001.png").symlink_to("../../private.png")
    with pytest.raises(ImageError, match="is a link that leaves .*copy the picture there"):
        run(source, tmp_path / "out")
    if not whole:
        summary = run(source, tmp_path / "out", on_invalid="drop")
        assert (summary.images, summary.dropped["link_outside"]) == (1, 1)


def test_links_within_the_folder_and_to_the_folder_are_followed(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))
    (source / "all" / "001.png").rename(source / "kept.png")
    (source / "all" / "001.png").symlink_to("../kept.png")
    (tmp_path / "link").symlink_to(source)
    assert run(tmp_path / "link", tmp_path / "out").images == 2


def test_a_quarantine_keeps_what_it_leaves_out_and_can_be_read_again(tmp_path: Path) -> None:
    source = write_broken(tmp_path / "source")
    dropped = run(source, tmp_path / "dropped", on_invalid="drop")
    summary = run(source, tmp_path / "out", on_invalid="quarantine")
    assert replace(summary, decoded=0) == replace(dropped, decoded=0)
    listed = [json.loads(line) for line in (tmp_path / "out/violations.jsonl").open()]
    assert Counter(one["rule"] for one in listed) == {
        rule: count for rule, count in summary.dropped.items() if rule in set(RULES) - {DEPENDENT}
    }
    payload = json.loads((source / "annotations/instances_all.json").read_text())
    for one in listed:
        record = payload[ANNOTATION_LISTS[one["record"]]][one["place"]]
        assert one["id"] == (record.get("id") if isinstance(record, dict) else None)
        assert one["file"] in (
            str(source / "annotations/instances_all.json"),
            record.get("file_name"),
        )
    kept = tmp_path / "out/quarantine"
    aside = json.loads((kept / "annotations.json").read_text())
    for one in listed:
        if one["record"] != "category":
            name = ANNOTATION_LISTS[one["record"]]
            assert payload[name][one["place"]] in aside[name]
    # What is corrected there goes the usual way.
    aside["images"] = [image_record(1)]
    aside["annotations"] = [box_record(1, 1, [1, 1, 8, 8])]
    aside["categories"] = CATEGORIES
    (kept / "annotations.json").write_text(json.dumps(aside))
    write_image(kept / "images" / "001.png", seed=1)
    assert run(kept, tmp_path / "corrected").images == 1
    assert not (tmp_path / "dropped/quarantine").exists()
    assert (tmp_path / "dropped/violations.jsonl").read_text() == (
        tmp_path / "out/violations.jsonl"
    ).read_text()


def test_every_violation_is_listed_also_where_the_data_are_refused(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))
    (source / "all/002.png").write_bytes(b"")
    boxes = [[60, 1, 64, 48], [60, 1, 8, 8], [9, 9, -3, -3], [1, 1, 4, 4]]
    records = [box_record(number, 1, box) for number, box in enumerate(boxes, 1)]
    payload = coco([image_record(1), image_record(2)], records)
    (source / "annotations/instances_all.json").write_text(json.dumps(payload))
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    with pytest.raises(AnnotationError, match=r"fits as the corners x1, y1, x2, y2, and 2 more"):
        ingest(str(source), tmp_path / "out", config, violations=tmp_path / "violations.jsonl")
    listed = [json.loads(line) for line in (tmp_path / "violations.jsonl").open()]
    assert [(one["rule"], one["id"]) for one in listed] == [
        ("corner_box", 1),
        ("box_outside", 2),
        ("swapped_corners", 3),
        ("broken_image", 2),
    ]
    assert listed[-1]["file"] == "002.png"


def test_useless_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no such file or folder"):
        run(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AnnotationError, match="holds no annotation file .*Pascal VOC"):
        run(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(InvalidInput, match="no readable zip archive; give a folder .*Pascal VOC"):
        run(tmp_path / "text.zip", tmp_path / "out")
    (tmp_path / "empty" / "annotations.json").write_text('{"images": [')
    with pytest.raises(AnnotationError, match="cannot be read as JSON"):
        run(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ConfigurationError, match="on_invalid"):
        run(tmp_path / "empty", tmp_path / "out", on_invalid="ignore")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_folder(tmp_path / "source", sample_payload(2))

    def no_link(*_: object) -> None:
        raise OSError(errno.EXDEV, "another device")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", no_link)
    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StorageError, match="disk is full"):
        run(source, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cache", "source"]


def test_a_broken_cache_is_named(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(1))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "images.sqlite").write_text("this is no database, but some text" * 40)
    with pytest.raises(StorageError, match=r"images\.sqlite: the image cache cannot be used"):
        run(source, tmp_path / "out")


def test_errors_are_the_projects_own(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing here")
    with pytest.raises(GearshiftError):
        run(tmp_path / "a.zip", tmp_path / "out")
