from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from feedback_samples import CLASSES, NOON, annotation_file, correction, picture

from components.data.coco import check_coco, read_coco
from components.data.dataset import load_dataset
from components.data.ingest import IngestConfig
from components.feedback.export import export_feedback
from components.feedback.imports import ImportSummary, import_annotations
from components.feedback.store import FeedbackStore
from foundation.errors import (
    AnnotationError,
    ConfigurationError,
    ImageError,
    InvalidInput,
    TooManyRequests,
)

OpenStore = Callable[..., FeedbackStore]
Logged = Callable[..., None]
TWO = {"a.jpg": picture(1), "b.jpg": picture(2)}
BOXES = {"a.jpg": [("car", [10.0, 20.0, 30.0, 40.0])]}


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., ImportSummary]:
    """Imports into this test's store."""

    def taken(source: Path, images: Path | None, user: str = "anna", **more: Any) -> ImportSummary:
        given: dict[str, Any] = {"renamed": {}, "per_day": 100, "now": NOON}
        given |= {"config": IngestConfig(cache=str(tmp_path / "cache"))} | more
        return import_annotations(tmp_path / "store", source, images, user, CLASSES, **given)

    return taken


def test_an_export_of_cvat(
    take: Callable[..., ImportSummary], open_store: OpenStore, tmp_path: Path
) -> None:
    # There car is category 1, here COCO's 3; b.jpg states that nothing is on it.
    summary = take(*annotation_file(tmp_path / "cvat", TWO, BOXES))
    assert (summary.images, summary.objects, summary.new) == (2, 1, True)
    store = open_store()
    items = {item.about: item for item in store.items}
    assert set(items) == {"a.jpg", "b.jpg"}
    car = items["a.jpg"]
    assert (car.origin, car.user, car.kind, car.time) == ("import", "anna", "correct", NOON)
    assert car.boxes.tolist() == [[10, 20, 40, 60]]
    assert car.category_ids.tolist() == [3]
    assert len(items["b.jpg"]) == 0
    assert {store.state(item) for item in store.items} == {"quarantined"}
    assert store.pictures(store.items) == {items[name].item_id: data for name, data in TWO.items()}


def test_the_same_import_again_adds_nothing(
    take: Callable[..., ImportSummary], open_store: OpenStore, tmp_path: Path
) -> None:
    given = annotation_file(tmp_path / "cvat", TWO, BOXES)
    first, again = take(*given), take(*given, now=NOON + timedelta(days=3))
    assert (first.key, first.new, again.key, again.new) == (first.key, True, first.key, False)
    # Another file with the same labels on the same pictures is the same feedback.
    other = annotation_file(tmp_path / "more", TWO | {"c.jpg": picture(3)}, BOXES)
    assert take(*other).new
    assert sorted(item.about for item in open_store().items) == ["a.jpg", "b.jpg", "c.jpg"]
    assert take(*given, user="bert").new
    assert len(open_store().items) == 5


def test_a_folder_and_a_zip_need_no_images(
    take: Callable[..., ImportSummary], tmp_path: Path
) -> None:
    file, images = annotation_file(tmp_path / "studio", TWO, BOXES)
    file.rename(tmp_path / "studio" / "result.json")
    images.rename(tmp_path / "studio" / "images")
    assert take(tmp_path / "studio", None).images == 2


def test_categories_are_matched_by_name(
    take: Callable[..., ImportSummary], open_store: OpenStore, tmp_path: Path
) -> None:
    boxes = {"a.jpg": [("Coach", [0.0, 0.0, 30.0, 30.0]), ("CAR", [40.0, 40.0, 30.0, 30.0])]}
    given = annotation_file(tmp_path / "cvat", TWO, boxes, ("unused", "CAR", "Coach"))
    with pytest.raises(AnnotationError, match="'Coach' is no class of the ladder") as refused:
        take(*given)
    assert "--rename 'Coach=" in str(refused.value)
    assert not list((tmp_path / "store").glob("imports/*"))
    take(*given, renamed={"Coach": "bus"})
    (item,) = (item for item in open_store().items if len(item))
    assert item.category_ids.tolist() == [6, 3]


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda coco: coco["annotations"][0].update(bbox=[0, 0, 500, 5]),
            AnnotationError,
            "outside its 160x120 image",
        ),
        (lambda coco: coco["images"][0].update(width=80), ImageError, "its record says 80x120"),
        (lambda coco: coco["images"][0].update(file_name="../a.jpg"), AnnotationError, "leaves"),
        (lambda coco: coco["images"][0].update(file_name="c.jpg"), ImageError, "missing"),
        (lambda coco: coco.pop("categories"), AnnotationError, 'no list "categories"'),
    ],
)
def test_broken_records_are_named_and_nothing_is_kept(
    take: Callable[..., ImportSummary], tmp_path: Path, change: Any, error: Any, words: str
) -> None:
    file, images = annotation_file(tmp_path / "cvat", TWO, BOXES)
    coco = json.loads(file.read_text())
    change(coco)
    file.write_text(json.dumps(coco))
    with pytest.raises(error, match=words):
        take(file, images)
    assert list((tmp_path / "store" / "imports").iterdir()) == []


def test_broken_records_can_be_left_out(take: Callable[..., ImportSummary], tmp_path: Path) -> None:
    boxes = BOXES | {"b.jpg": [("car", [0.0, 0.0, 900.0, 5.0])]}
    given = annotation_file(tmp_path / "cvat", TWO, boxes)
    config = IngestConfig(on_invalid="drop", cache=str(tmp_path / "cache"))
    assert take(*given, config=config).objects == 1


def test_what_cannot_be_an_import(take: Callable[..., ImportSummary], tmp_path: Path) -> None:
    file, images = annotation_file(tmp_path / "cvat", TWO, BOXES)
    for arguments, words in (
        ((tmp_path / "no.json", images), "no such annotation file"),
        ((file, tmp_path / "nowhere"), "no such folder"),
        ((file, images, " "), "--user NAME"),
        ((tmp_path / "nothing", None), "no such file or folder"),
    ):
        with pytest.raises(InvalidInput, match=words):
            take(*arguments)


def test_a_user_imports_so_much_a_day(
    take: Callable[..., ImportSummary], open_store: OpenStore, tmp_path: Path
) -> None:
    first = annotation_file(tmp_path / "one", TWO, BOXES)
    third = annotation_file(tmp_path / "two", {"c.jpg": picture(3)}, {"c.jpg": BOXES["a.jpg"]})
    take(*first, per_day=2)
    assert not take(*first, per_day=2).new  # known already
    with pytest.raises(TooManyRequests, match="anna imported 2 pictures today, 1 more are over"):
        take(*third, per_day=2)
    take(*third, per_day=2, user="bert")
    take(*third, per_day=2, now=NOON + timedelta(days=1))
    assert len(open_store().items) == 4


def test_a_damaged_import_is_named(
    take: Callable[..., ImportSummary], open_store: OpenStore, tmp_path: Path
) -> None:
    summary = take(*annotation_file(tmp_path / "cvat", TWO, BOXES))
    (tmp_path / "store" / "imports" / summary.key / "import.json").write_text("{}")
    with pytest.raises(AnnotationError, match="import.json: is damaged"):
        _ = open_store().items


class TestExport:
    def test_it_comes_back_from_the_annotator(
        self,
        take: Callable[..., ImportSummary],
        open_store: OpenStore,
        logged: Logged,
        tmp_path: Path,
    ) -> None:
        # The frame was twice as large as the picture that is kept of it.
        logged(
            [],
            [
                correction(0, width=320, height=240, boxes=[20, 20, 100, 100]),
                correction(1, image=None),
            ],
        )
        store = open_store()
        summary = export_feedback(store, store.select(), tmp_path / "out")
        assert (summary.images, summary.objects, summary.without_picture) == (1, 1, 1)
        coco = read_coco(tmp_path / "out" / "annotations.json")
        assert check_coco(coco).violations == []
        assert coco["annotations"][0]["bbox"] == [10, 10, 40, 40]
        assert {one["id"]: one["name"] for one in coco["categories"]} == {
            1: "person",
            3: "car",
            6: "bus",
        }
        name = coco["images"][0]["file_name"]
        assert coco["info"]["feedback"][name]["user"] == "anna"
        assert (tmp_path / "out" / "images" / name).read_bytes() == picture(0)
        coco["annotations"][0]["bbox"] = [12, 10, 40, 40]
        (tmp_path / "out" / "annotations.json").write_text(json.dumps(coco))
        assert take(tmp_path / "out", None, user="carl").images == 1
        (mended,) = (item for item in open_store().items if item.user == "carl")
        assert mended.boxes.tolist() == [[12, 10, 52, 50]]
        assert mended.frame == hashlib.sha256(picture(0)).hexdigest()

    def test_nothing_to_write(self, open_store: OpenStore, logged: Logged, tmp_path: Path) -> None:
        logged([], [correction(0, image=None)])
        store = open_store()
        with pytest.raises(InvalidInput, match="none of the 1 items chosen has a picture"):
            export_feedback(store, store.items, tmp_path / "out")
        with pytest.raises(ConfigurationError, match="is or holds the store"):
            export_feedback(store, store.items, tmp_path)
        assert not (tmp_path / "out").exists()

    def test_boxes_end_at_the_border(
        self, open_store: OpenStore, logged: Logged, tmp_path: Path
    ) -> None:
        boxes = [[-10, 100, 50, 130], [300, 0, 400, 50]]  # one reaches out, one is all outside
        logged([], [correction(0, boxes=boxes, labels=[0, 1])])
        store = open_store()
        export_feedback(store, store.items, tmp_path / "out")
        dataset = load_dataset(tmp_path / "out")
        assert dataset.boxes.tolist() == [[0, 100, 50, 20]]
