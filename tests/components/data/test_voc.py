"""Pascal VOC's boxes, with its own rules of corners and difficult objects."""

from __future__ import annotations

from pathlib import Path

import pytest
from coco_samples import write_image

from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig, ingest
from foundation.errors import AnnotationError


def voc_object(name: str, corners: tuple[object, ...], difficult: int = 0) -> str:
    keys = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{key}>{value}</{key}>" for key, value in zip(keys, corners, strict=True))
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>"
        f"<bndbox>{box}</bndbox></object>"
    )


def write_voc(root: Path, name: str, *objects: str, seed: int = 0) -> None:
    write_image(root / "JPEGImages" / f"{name}.png", 64, 48, seed=seed)
    (root / "Annotations").mkdir(exist_ok=True)
    size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
    text = f"<annotation><filename>{name}.png</filename>{size}{''.join(objects)}</annotation>"
    (root / "Annotations" / f"{name}.xml").write_text(text)


def config(tmp_path: Path, **more: str) -> IngestConfig:
    return IngestConfig(cache=str(tmp_path / "cache"), workers=1, **more)  # type: ignore[arg-type]


def test_corners_count_from_one_and_difficult_objects_do_not_count(tmp_path: Path) -> None:
    root = tmp_path / "VOC2012"
    whole, small = (1, 1, 64, 48), (11, 21, 20, 30)
    write_voc(root, "a", voc_object("dog", whole), voc_object("person", small, difficult=1))
    write_voc(root, "b", voc_object("dog", ("5.0", "5.0", "8.0", "9.0")), seed=1)
    ingest(str(tmp_path), tmp_path / "data", config(tmp_path))
    data = load_dataset(tmp_path / "data")
    assert data.boxes.tolist() == [[0, 0, 64, 48], [10, 20, 10, 10], [4, 4, 4, 5]]
    assert data.is_crowd.tolist() == [False, True, False]
    assert [one.name for one in data.categories] == ["dog", "person"]
    assert [one.file_name for one in data.images] == ["a.png", "b.png"]


def test_broken_boxes_are_violations(tmp_path: Path) -> None:
    root = tmp_path / "source"
    faults = [("x", 1, 2, 3), (9, 9, 4, 12), (1, 1, 90, 48)]
    write_voc(root, "a", voc_object("dog", (1, 1, 8, 8)), *(voc_object("dog", f) for f in faults))
    summary = ingest(str(root), tmp_path / "data", config(tmp_path, on_invalid="drop"))
    assert summary.annotations == 1
    assert summary.dropped == {"malformed_annotation": 1, "swapped_corners": 1, "box_outside": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotation>", "cannot be read as XML"),
        ("<html></html>", "is not VOC"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "declares a DOCTYPE"),
    ],
)
def test_what_is_no_annotation_is_named(tmp_path: Path, text: str, words: str) -> None:
    root = tmp_path / "source"
    write_voc(root, "a", voc_object("dog", (1, 1, 8, 8)))
    (root / "Annotations/b.xml").write_text(text)
    with pytest.raises(AnnotationError, match=words):
        ingest(str(root), tmp_path / "data", config(tmp_path))
