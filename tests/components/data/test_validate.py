from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_samples import box_record, image_record, write_canonical, write_image

from components.data.classes import Classes
from components.data.validate import ValidateConfig, validate
from foundation.errors import AnnotationError, ImageError

SMALL = ValidateConfig(min_images=3, workers=1, rare=3)
KNOWN = Classes(("person", "car"), (1, 3))


def attributes(**more: Any) -> dict[str, Any]:
    return {"attributes": more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight images of 64x48: two clip frames, two identical stills, a dark one, an empty one."""
    root = tmp_path / "data"
    images = [
        image_record(1, **attributes(clip="a", frame_index=0, condition="night")),
        image_record(2, **attributes(clip="a", frame_index=1, condition="night")),
        *(image_record(number) for number in range(3, 9)),
    ]
    write_image(root / "images" / "003.png", seed=3)
    write_image(root / "images" / "004.png", seed=3)
    write_image(root / "images" / "005.png", colour=5)
    # Image 7 is image 6 a little brighter: other bytes, the same look.
    ramp = np.random.default_rng(6).integers(0, 200, (48, 64, 3), dtype=np.uint8)
    for number, lift in ((6, 0), (7, 10)):
        assert cv2.imwrite(str(root / "images" / f"{number:03d}.png"), ramp + np.uint8(lift))
    boxes = [
        box_record(1, 1, [0, 0, 64, 46]),  # 0.958 of the image
        box_record(2, 2, [10, 10, 3, 3]),  # side 3
        box_record(3, 3, [5, 5, 40, 2]),  # 20 times as long
        box_record(4, 4, [5, 5, 10, 10], category_id=3),
        box_record(5, 4, [5, 5, 10, 10.2], category_id=3),  # IoU 100 / 102 with the one before
        box_record(6, 4, [5, 5, 10, 10]),  # the same place, another category
        box_record(7, 5, [5, 5, 16, 9], iscrowd=1),
        *(box_record(10 + k, 6, [6.0 * k, 20, 5, 20], category_id=3) for k in range(8)),
        box_record(20, 7, [5, 5, 12, 12], category_id=18),
    ]
    return write_canonical(root, images, boxes)


def test_statistics_by_hand(folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    summary = validate(
        folder,
        tmp_path / "out",
        SMALL,
        KNOWN,
        lambda done, total: seen.append((done, total)),
    )
    assert seen[-1] == (8, 8)
    assert (summary.images, summary.annotations, summary.clips) == (8, 16, 1)
    assert summary.images_without_objects == 1
    assert summary.scene_types == {"sparse": 6, "moderate": 1, "dense": 1}
    assert summary.conditions == {"night": 2, "unknown": 6}
    assert summary.known_share == 15 / 16
    assert summary.anomalies == {
        "identical_images": 1,
        "near_duplicates": 1,
        "blank_images": 1,
        "images_without_objects": 1,
        "dark_images": 1,
        "tiny_boxes": 1,
        "huge_boxes": 1,
        "slim_boxes": 1,
        "repeated_boxes": 1,
        "rare_categories": 1,
        "unknown_to_ladder": 1,
    }
    statistics = json.loads((tmp_path / "out" / "validation.json").read_text())
    assert statistics["objects_per_image_counts"] == [1, 5, 0, 1, 0, 0, 0, 0, 1]
    assert statistics["objects_per_image"]["mean"] == 2.0
    assert statistics["crowd"] == 1
    assert statistics["coco_sizes"] == {"small": 15, "medium": 1, "large": 0}  # 64 x 46 = 2944
    assert [
        (row["name"], row["annotations"], row["images"], row["known"])
        for row in statistics["categories"]
    ] == [("car", 10, 2, True), ("person", 5, 5, True), ("dog", 1, 1, False)]
    sides = {(b["from"], b["to"]): b["count"] for b in statistics["box_side_histogram"]}
    assert sides[(2.0, 4.0)] == 1
    examples = {a["kind"]: a["examples"] for a in statistics["anomalies"]}
    assert examples["identical_images"][0]["image_ids"] == [3, 4]
    assert examples["near_duplicates"][0]["image_ids"] == [6, 7]
    assert examples["dark_images"] == [{"image_id": 5, "file_name": "005.png"}]
    assert examples["repeated_boxes"] == [
        {"image_id": 4, "annotation_ids": [4, 5], "iou": pytest.approx(100 / 102, abs=1e-4)}
    ]
    assert examples["huge_boxes"][0]["annotation_id"] == 1


def test_the_page_stands_alone(folder: Path, tmp_path: Path) -> None:
    payload = json.loads((folder / "annotations.json").read_text())
    evil = "</script><script>alert(1)</script>|x"
    payload["categories"][1]["name"] = evil
    (folder / "annotations.json").write_text(json.dumps(payload))
    validate(folder, tmp_path / "out", SMALL, Classes(("person",), (1,)))
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("plotly.js v") == 1
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)
    assert "<script>alert" not in page
    assert page.count('class="plotly-graph-div"') == 5
    markdown = (tmp_path / "out" / "report.md").read_text()
    assert "<script>" not in markdown
    row = next(line for line in markdown.splitlines() if "alert" in line and "| 10 |" in line)
    assert row.endswith("\\|x | 10 | 2 | no |")
    validate(folder, tmp_path / "again", SMALL, Classes(("person",), (1,)))
    for name in ("report.html", "report.md", "validation.json"):
        one, two = (tmp_path / where / name for where in ("out", "again"))
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("config", "known", "words"),
    [
        (ValidateConfig(), None, "has 8 images, too few .* at least 16"),
        (
            ValidateConfig(min_images=3, min_boxes=17),
            None,
            "has 15 annotated boxes beside 1 of crowds.* at least 17",
        ),
        (
            SMALL,
            Classes(("bus",), (6,)),
            r"knows none of the annotated categories \(car, dog, person\)",
        ),
    ],
)
def test_useless_data_are_refused(
    folder: Path, tmp_path: Path, config: ValidateConfig, known: Any, words: str
) -> None:
    with pytest.raises(AnnotationError, match=words):
        validate(folder, tmp_path / "out", config, known)
    assert not (tmp_path / "out").exists()


def test_no_boxes_and_broken_pictures(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "008.png").write_bytes(b"\x89PNG")
    with pytest.raises(ImageError, match=r"008\.png"):
        validate(folder, tmp_path / "out", SMALL)
    empty = write_canonical(tmp_path / "empty", [image_record(n) for n in range(1, 5)], [])
    with pytest.raises(AnnotationError, match="has 0 annotated boxes"):
        validate(empty, tmp_path / "out", SMALL)
