"""The data report: what is on the page is what the data hold, and nothing of it is markup."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from coco_samples import box_record, image_record, write_canonical, write_image

from components.data.dataset import load_dataset
from components.data.gallery import draw, examples_of
from components.data.report import ReportConfig, write_report
from components.data.split import split
from components.data.validate import ValidateConfig, validate
from components.data.versions import make_version, open_version
from foundation.errors import AnnotationError, InvalidInput


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve images, one of them dark; a box doubled, a tiny one; half of them taken by night."""
    images = [
        image_record(n, attributes={"time_of_day": ("night", "midday")[n % 2]})
        for n in range(1, 13)
    ]
    boxes = [box_record(n, n, [4, 4, 20, 20], category_id=(1, 3)[n % 2]) for n in range(1, 13)]
    boxes += [box_record(13, 1, [4, 4, 20, 20], category_id=3), box_record(14, 2, [40, 9, 2, 2])]
    write_image(tmp_path / "data/images/003.png", colour=(2, 2, 2))
    return write_canonical(tmp_path / "data", images, boxes)


def test_the_report_shows_pictures_slices_split_anomalies_and_the_other_version(
    data: Path, tmp_path: Path
) -> None:
    split(data, tmp_path / "split.json")
    store = str(tmp_path / "store")
    make_version(data, store)
    payload = json.loads((data / "annotations.json").read_text())
    payload["images"].append(image_record(13))
    payload["annotations"][5]["bbox"] = [9, 9, 9, 9]
    write_image(data / "images/013.png", seed=99)
    payload["images"] = payload["images"][1:]  # without the first image and its boxes
    payload["annotations"] = [one for one in payload["annotations"] if one["image_id"] != 1]
    (tmp_path / "later").mkdir()
    (data / "images").rename(tmp_path / "later/images")
    (tmp_path / "later/annotations.json").write_text(json.dumps(payload))
    split(tmp_path / "later", tmp_path / "split.json")
    page = tmp_path / "page.html"
    summary = write_report(
        tmp_path / "later",
        page,
        split=tmp_path / "split.json",
        earlier=open_version(store, "latest"),
        config=ReportConfig(pictures=5, per_slice=1),
    )
    assert summary.images == 12 and summary.slices["time of day"] == 3  # one unknown
    assert summary.anomalies["tiny_boxes"] == summary.anomalies["dark_images"] == 1
    text = page.read_text()
    assert summary.bytes == page.stat().st_size and summary.pictures == text.count("<img alt=")
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:)', text)
    # Whatever a link points at is on the page.
    targets = set(re.findall(r'href="#([^"]+)"', text))
    assert "anomaly-tiny_boxes" in targets and targets <= set(re.findall(r'id="([^"]+)"', text))
    assert re.search(r'id="pictures-5"', text) and not re.search(r'id="pictures-6"', text)
    words = re.sub(r"\s+", " ", unescape(re.sub(r"(?s)<(script|style).*?</\1>|<[^>]+>", " ", text)))
    for expected in (
        "annotation id 14, bbox [40.0, 9.0, 2.0, 2.0]",
        "By time of day time of day images share of train of validation of test",
        "Imbalance of the split",
        "images how many added 1 removed 1 changed 0 relabelled 1",
        "category boxes before boxes now car 7 5",
        "Images removed The picture cannot be read. 001.png (image 1)",
    ):
        assert expected in words, expected
    write_report(tmp_path / "later", tmp_path / "again.html", split=tmp_path / "split.json")
    write_report(tmp_path / "later", tmp_path / "third.html", split=tmp_path / "split.json")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "third.html").read_bytes()


def test_what_validate_found_is_taken_and_names_are_no_markup(data: Path, tmp_path: Path) -> None:
    payload = json.loads((data / "annotations.json").read_text())
    payload["categories"][0]["name"] = "<script>alert(1)</script>"
    payload["images"][0]["attributes"]["place"] = "<img src=x>"
    (data / "annotations.json").write_text(json.dumps(payload))
    validate(data, tmp_path / "validation", ValidateConfig(min_images=1, examples=1))
    statistics = json.loads((tmp_path / "validation/validation.json").read_text())
    statistics["anomalies"] = statistics["anomalies"][:1]
    (tmp_path / "validation/validation.json").write_text(json.dumps(statistics))
    summary = write_report(data, tmp_path / "page.html", tmp_path / "validation")
    assert summary.anomalies == {statistics["anomalies"][0]["kind"]: 1}
    text = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in text and "<img src=x>" not in text
    (tmp_path / "validation/validation.json").write_text("{")
    with pytest.raises(InvalidInput, match="run its stage again"):
        write_report(data, tmp_path / "page.html", tmp_path / "validation")
    (tmp_path / "split.json").write_text('{"train": [1], "validation": [2], "test": [99]}')
    with pytest.raises(AnnotationError, match="no image with id 99"):
        write_report(data, tmp_path / "other.html", split=tmp_path / "split.json")
    assert not (tmp_path / "other.html").exists()


def test_cases_become_pictures_with_their_boxes_marked(data: Path) -> None:
    found = load_dataset(data)
    cases = {
        "pair": {"image_id": 1, "annotation_ids": [1, 13], "iou": 1.0},
        "group": {"image_ids": [4, 6, 99]},
        "category": {"category_id": 3, "name": "car", "annotations": 7},
        "by name": {"name": "person", "kind": "gone"},
        "no image": {"name": "boat", "kind": "new"},
        "elsewhere": {"image_id": 99, "file_name": "x.png"},
    }
    examples = list(examples_of(found, {"examples": list(cases.values())}))
    assert [one.images for one in examples] == [(0,), (3, 5), (0, 2, 4), (1, 3, 5), ()]
    assert examples[0].marked == {1, 13} and examples[0].words == "iou 1.0"
    assert examples[2].marked == {1, 3, 5, 13}  # of the images shown
    picture = draw(found, 1, {14})
    assert (picture.words, picture.file_name) == ("2 × person", "002.png")
    assert picture.source.startswith("data:image/jpeg;base64,")
    found.path_of(1).write_bytes(b"no picture")
    assert draw(found, 1).source == ""
