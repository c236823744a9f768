"""Annotations with anything in any place: each is read, or refused in one line that names it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import runs
from coco_samples import box_record, coco, image_record, write_image

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.source_check import check_source
from foundation.errors import AnnotationError, GearshiftError

pytestmark = pytest.mark.usefixtures("at_once")

LONG = "9" * 5000
TOKENS = [
    "",
    "nan",
    "-inf",
    "1e400",
    "-1",
    "0",
    "1e308",
    LONG,
    "٣",
    "\x00",
    "\ufeff",
    "\ud7ff\u2028",
]
TOKENS += [
    "../../..",
    "/etc/passwd",
    "x\x1b[2J",
    "<a>",
    "&b;",
    '"',
    "[[[[",
    "{}",
    "a" * 300,
    "~",
    "*",
]
VALUES = [None, True, 0, -1, 1.5, 1e308, float("inf"), float("nan"), 10**400, 2**63, "", "x", "1"]
VALUES += ["\ud800", "a\nb", "../x", "/etc/passwd", [], {}, [[]], {"a": 1}, [None] * 4]
VALUES += [[1e308] * 4]


def coco_file(root: Path) -> Path:
    images = [image_record(n, attributes={"clip": "a", "frame_index": n}) for n in (1, 2)]
    boxes = [box_record(n, n, [1, 2, 8, 6], iscrowd=0, area=48.0) for n in (1, 2)]
    for one in images:
        write_image(root / "images" / one["file_name"], seed=one["id"])
    file = root / "annotations.json"
    file.write_text(json.dumps({"info": {"description": "x"}, **coco(images, boxes)}))
    return file


def coco_vid(root: Path) -> Path:
    file = coco_file(root)
    found = json.loads(file.read_text())
    for number, image in enumerate(found["images"]):
        del image["attributes"]
        image |= {"video_id": 1, "frame_id": number}
    file.write_text(json.dumps({**found, "videos": [{"id": 1, "name": "street"}]}))
    return file


def youtube_vis(root: Path) -> Path:
    names = ["a/0.png", "a/1.png"]
    for seed, name in enumerate(names):
        write_image(root / "JPEGImages" / name, seed=seed)
    video = {"id": 1, "width": 64, "height": 48, "file_names": names}
    track = {"id": 1, "video_id": 1, "category_id": 1, "bboxes": [[1, 2, 8, 6], None], "iscrowd": 0}
    payload = coco([], []) | {"videos": [video], "annotations": [{**track, "areas": [48, None]}]}
    del payload["images"]
    file = root / "instances.json"
    file.write_text(json.dumps(payload))
    return file


def yolo(root: Path) -> tuple[Path, Path]:
    for name in ("a", "b"):
        write_image(root / f"images/train/{name}.png", seed=ord(name))
    label = root / "labels/train/a.txt"
    label.parent.mkdir(parents=True)
    label.write_text("0 .5 .5 .25 .5\n1 .2 .2 .1 .1 .1 .3 .2 .2\n")
    file = root / "data.yaml"
    file.write_text("path: .\ntrain: images/train\nval: images/train\nnames:\n  0: car\n  1: dog\n")
    return file, label


def yolo_description(root: Path) -> Path:
    return yolo(root)[0]


def yolo_label(root: Path) -> Path:
    return yolo(root)[1]


def voc(root: Path) -> Path:
    write_image(root / "JPEGImages/a.png")
    file = root / "Annotations/a.xml"
    file.parent.mkdir()
    box = "<bndbox><xmin>3</xmin><ymin>3</ymin><xmax>30</xmax><ymax>30</ymax></bndbox>"
    file.write_text(
        '<?xml version="1.0" encoding="utf-8"?><annotation><filename>a.png</filename>'
        "<size><width>64</width><height>48</height></size>"
        f"<object><name>car</name><difficult>0</difficult>{box}</object></annotation>"
    )
    return file


def cvat_images(root: Path) -> Path:
    write_image(root / "images/a.png")
    file = root / "annotations.xml"
    file.write_text(
        '<annotations><image id="0" name="a.png" width="64" height="48">'
        '<box label="dog" xtl="1" ytl="2" xbr="5" ybr="9" rotation="0"/></image></annotations>'
    )
    return file


def cvat_video(root: Path) -> Path:
    for frame in range(2):
        write_image(root / f"images/frame_{frame:06d}.PNG", seed=frame)
    file = root / "annotations.xml"
    file.write_text(
        "<annotations><meta><task><name>street</name><original_size><width>64</width>"
        "<height>48</height></original_size></task></meta><track id='0' label='car'>"
        "<box frame='0' outside='0' xtl='1' ytl='2' xbr='11' ybr='12'/></track></annotations>"
    )
    return file


def open_images(root: Path) -> tuple[Path, Path]:
    write_image(root / "train/aa.png")
    file, names = root / "train-annotations-bbox.csv", root / "class-descriptions-boxable.csv"
    file.write_text(
        "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\naa,/m/1,.1,.5,.2,.6,0\n"
        "aa,/m/1,.2,.6,.2,.6,1\n"
    )
    names.write_text("/m/1,Person\n")
    return file, names


def open_images_boxes(root: Path) -> Path:
    return open_images(root)[0]


def open_images_names(root: Path) -> Path:
    return open_images(root)[1]


def mot(root: Path) -> tuple[Path, Path]:
    for frame in (1, 2):
        write_image(root / f"img1/{frame:06d}.png", seed=frame)
    info, boxes = root / "seqinfo.ini", root / "gt/gt.txt"
    info.write_text("[Sequence]\nname=a\nimDir=img1\nimWidth=64\nimHeight=48\nimExt=.png\n")
    boxes.parent.mkdir()
    boxes.write_text("1,1,1,1,10,20,1,1,1.0\n2,1,3,1,10,20,1,1,1\n")
    return info, boxes


def mot_info(root: Path) -> Path:
    return mot(root)[0]


def mot_boxes(root: Path) -> Path:
    return mot(root)[1]


JSON_FILES = [coco_file, coco_vid, youtube_vis]
TEXT_FILES = [yolo_description, yolo_label, voc, cvat_images, cvat_video]
TEXT_FILES += [open_images_boxes, open_images_names, mot_info, mot_boxes]
Write = Callable[[Path], Path]


def outcome(root: Path, on_invalid: Any = "error") -> str:
    """What ingest refuses a source with; empty for one that it reads, whose boxes are sound."""
    cache, out = root.parent / "cache", root.parent / "data"
    shutil.rmtree(out, ignore_errors=True)
    try:
        check_source(str(root))
        ingest(str(root), out, IngestConfig(cache=str(cache), workers=1, on_invalid=on_invalid))
    except GearshiftError as error:
        message = str(error)
        assert message.isprintable() and str(cache) not in message, message
        assert str(root) in message, message
        return message
    data = load_dataset(out)
    assert len(data.boxes) and np.isfinite(data.boxes).all() and np.isfinite(data.areas).all()
    sizes = np.repeat([[one.width, one.height] for one in data.images], data.object_counts, axis=0)
    assert (data.boxes[:, :2] >= 0).all() and (data.boxes[:, 2:] > 0).all()
    assert (data.boxes[:, :2] + data.boxes[:, 2:] <= sizes + 1e-9).all()
    return ""


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys or positions."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


@pytest.mark.campaign
@pytest.mark.parametrize("write", JSON_FILES)
def test_any_value_at_any_key_of_json(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "source")
    assert outcome(tmp_path / "source") == ""
    sound = file.read_text()
    count = sum(1 for _ in places(json.loads(sound)))
    every = [(place, value) for place in range(count) for value in range(-1, len(VALUES))]
    draw = random.Random(18)
    for place, value in draw.sample(every, min(runs(25, len(every)), len(every))):
        found = json.loads(sound)
        container, key = list(places(found))[place]
        if value < 0:
            del container[key]
        else:
            container[key] = VALUES[value]
        file.write_text(json.dumps(found))
        outcome(tmp_path / "source", draw.choice(("error", "drop", "quarantine")))


@pytest.mark.campaign
@pytest.mark.parametrize("write", TEXT_FILES)
def test_any_text_in_place_of_any_word(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "source")
    assert outcome(tmp_path / "source") == ""
    sound = file.read_text()
    words = [match.span() for match in re.finditer(r"[\w./-]+|[^\w\s]", sound)]
    draw = random.Random(18)
    every = [(span, token) for span in words for token in TOKENS]
    for span, token in draw.sample(every, min(runs(25, len(every)), len(every))):
        file.write_text(sound[: span[0]] + token + sound[span[1] :])
        outcome(tmp_path / "source", draw.choice(("error", "drop", "quarantine")))


@pytest.mark.campaign
@pytest.mark.parametrize("write", [*JSON_FILES, *TEXT_FILES])
def test_encodings_line_ends_and_damage(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "source")
    text = file.read_text()
    for same in (text.encode("utf-8-sig"), text.replace("\n", "\r\n").encode()):
        file.write_bytes(same)
        assert outcome(tmp_path / "source") == ""
    content = text.encode()
    draw = random.Random(18)
    for number in range(runs(6, 200)):
        damaged = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        cut = content[: draw.randrange(len(content))]
        file.write_bytes((cut, bytes(damaged))[number % 2])
        outcome(tmp_path / "source")
    for other in (
        b"",
        b"\x00" * 99,
        text.encode("utf-16"),
        b"\xff" * 9,
        b"[" * 100_000,
        content * 2,
    ):
        file.write_bytes(other)
        outcome(tmp_path / "source")


@pytest.mark.parametrize("write", [*JSON_FILES, *TEXT_FILES])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path / "source")
    file.unlink()
    os.mkfifo(file)
    outcome(tmp_path / "source")


@pytest.mark.parametrize(
    ("write", "old", "new", "message"),
    [
        (coco_file, '"info"', '"images": [], "info"', "the key 'images' occurs twice"),
        (coco_file, '"info"', '"images": 5, "info"', "the key 'images' occurs twice"),
        (coco_file, "48.0", "9" * 400, ""),
        (yolo_description, "images/train", "5", "train is 5; give a folder"),
        (yolo_description, "train: images/train", "train: {a: 1}", "train is {'a': 1}; give"),
        (yolo_description, "images/train", "a" * 300, "a+ is not below"),
        (yolo_description, "path: .", f"path: {'a' * 300}", ""),
        (mot_info, "img1", "a" * 300, "has no frames named by number"),
        (yolo_label, "0 .5", "nan .5", "labels/train/a.txt line 1 has category -1"),
        (voc, "utf-8", "rot13", r"a\.xml: cannot be read as XML \(LookupError\)"),
        (cvat_images, 'rotation="0"', 'rotation="x"', "image a.png box 1 needs bbox"),
        (cvat_images, 'rotation="0"', 'rotation="1e-3"', "lists no annotations"),
        (open_images_boxes, "IsGroupOf", "XMin", "has the column XMin twice"),
        (open_images_names, "/m/1,", "/m/1\x00,", ""),
        (mot_info, "img1", "../..", "imDir leaves the sequence's folder"),
        (mot_info, "img1", "/etc", "imDir leaves the sequence's folder"),
        (mot_info, "=64", f"={LONG}", "imwidth is '9+'; give pixels"),
        (mot_boxes, "1,1,1,1,10", "1,1,x,1,10", "gt/gt.txt line 1 needs bbox"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, write: Write, old: str, new: str, message: str
) -> None:
    file = write(tmp_path / "source")
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    found = outcome(tmp_path / "source")
    assert re.search(message, found) and bool(message) == bool(found), found


def test_a_link_to_pictures_of_another_folder_is_refused(tmp_path: Path) -> None:
    file = mot_info(tmp_path / "source")
    shutil.move(file.parent / "img1", tmp_path / "private")
    (file.parent / "img1").symlink_to(tmp_path / "private")
    with pytest.raises(AnnotationError, match="imDir leaves the sequence's folder"):
        ingest(str(file.parent), tmp_path / "data", IngestConfig(cache=str(tmp_path / "cache")))
