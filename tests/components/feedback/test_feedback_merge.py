from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from feedback_samples import NOON, annotation_file, correction, picture

from components.data.coco import check_coco, read_coco
from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.feedback.decisions import decide
from components.feedback.imports import import_annotations
from components.feedback.merge import MergeConfig, MergeOptions, MergeSummary, merge_feedback
from components.feedback.store import FeedbackStore
from foundation.errors import ConfigurationError, InvalidInput

OpenStore = Callable[..., FeedbackStore]
Logged = Callable[..., None]
Merge = Callable[..., tuple[MergeSummary, Dataset]]
HALF = MergeConfig(0.5, 0.5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty pictures, a person (COCO's 1) on each; number 100 is the first."""
    return make_data(tmp_path, ("person", "bicycle", "car"))


def make_data(tmp_path: Path, names: tuple[str, ...]) -> Path:
    pictures = {f"{number}.jpg": picture(number) for number in range(100, 120)}
    boxes = {name: [(names[0], [5.0, 5.0, 20.0, 20.0])] for name in pictures}
    annotation_file(tmp_path / "source", pictures, boxes, names)
    config = IngestConfig(cache=str(tmp_path / "cache"))
    ingest(str(tmp_path / "source"), tmp_path / "data", config)
    return tmp_path / "data"


@pytest.fixture
def merge(open_store: OpenStore, data: Path, tmp_path: Path) -> Merge:
    def merged(config: MergeConfig = HALF, folder: Path = data) -> tuple[MergeSummary, Dataset]:
        summary = merge_feedback(open_store(), folder, tmp_path / "out", config)
        assert check_coco(read_coco(tmp_path / "out" / "annotations.json")).violations == []
        return summary, load_dataset(tmp_path / "out")

    return merged


def approve(store: FeedbackStore, *numbers: int, reviewer: str = "zoe", at: Any = NOON) -> None:
    """Approve the items whose picture has one of these numbers; every one without a number."""
    hashes = {hashlib.sha256(picture(number)).hexdigest() for number in numbers}
    pictures = store.pictures(store.items)
    chosen = [
        item
        for item in store.items
        if not numbers or hashlib.sha256(pictures[item.item_id]).hexdigest() in hashes
    ]
    decide(store.config.store, chosen, "approved", reviewer, "", at)


def test_only_what_was_approved_comes_in(
    open_store: OpenStore, logged: Logged, merge: Merge, data: Path
) -> None:
    logged([], [correction(number) for number in range(3)])
    store = open_store()
    before, _ = merge()
    assert (before.images, before.added, before.users) == (20, 0, {})
    approve(store, 1)
    waiting = [item for item in open_store().items if open_store().state(item) == "quarantined"]
    decide(store.config.store, waiting[:1], "rejected", "zoe", "not a car")
    summary, dataset = merge()
    assert (summary.images, summary.added, summary.replaced, summary.objects) == (21, 1, 0, 1)
    assert summary.users == {"anna": 1} and summary.left_out == {}
    new = dataset.images[-1]
    assert new.file_name.startswith("feedback/")
    assert dataset.path_of(20).read_bytes() == picture(1)
    assert dataset.boxes[dataset.annotations_of(20)].tolist() == [[10, 10, 40, 40]]
    assert dataset.category_ids[dataset.annotations_of(20)].tolist() == [3]
    old = load_dataset(data)
    assert dataset.images[:20] == old.images
    assert dataset.boxes[:20].tolist() == old.boxes.tolist()
    assert list(dataset.info["feedback"]) == [new.sha256]


def test_boxes_do_not_get_among_texts(
    open_store: OpenStore, logged: Logged, merge: Merge, data: Path
) -> None:
    content = json.loads((data / "annotations.json").read_text())
    content["info"]["task"] = "ocr"
    for number, one in enumerate(content["annotations"]):
        one["text"] = f"line {number}"
    (data / "annotations.json").write_text(json.dumps(content))
    logged([], [correction(1)])
    _, dataset = merge()
    assert dataset.text_of(1) == "line 1"
    approve(open_store())
    with pytest.raises(InvalidInput, match="holds texts, and feedback has boxes without texts"):
        merge()


def test_no_picture_comes_twice_and_the_last_review_stands(
    open_store: OpenStore, logged: Logged, merge: Merge
) -> None:
    given = [
        correction(0, client=user, boxes=[0, 0, side, side])
        for user, side in (("anna", 30), ("bert", 40), ("carl", 50))
    ]
    logged([], given)
    store = open_store()
    by_user = {item.user: item for item in store.items}
    for minute, user in enumerate(("anna", "carl", "bert")):
        at = NOON.replace(minute=minute)
        decide(store.config.store, [by_user[user]], "approved", "zoe", "", at)
    summary, dataset = merge()
    assert (summary.added, summary.left_out) == (1, {"same picture": 2})
    assert summary.users == {"bert": 1}
    assert dataset.boxes[dataset.annotations_of(20)].tolist() == [[0, 0, 40, 40]]


def test_reviewed_objects_replace_those_of_a_known_picture(
    open_store: OpenStore, logged: Logged, merge: Merge
) -> None:
    logged([], [correction(0, image=picture(105), boxes=[50, 50, 90, 90], labels=[1])])
    approve(open_store())
    summary, dataset = merge()
    assert (summary.images, summary.added, summary.replaced) == (20, 0, 1)
    (index,) = (n for n, image in enumerate(dataset.images) if image.file_name == "105.jpg")
    assert dataset.boxes[dataset.annotations_of(index)].tolist() == [[50, 50, 40, 40]]
    assert dataset.category_ids[dataset.annotations_of(index)].tolist() == [3]
    assert len(dataset.boxes) == 20


def test_no_client_gets_more_than_a_share(
    open_store: OpenStore, logged: Logged, merge: Merge
) -> None:
    """Of twenty pictures: two per user, five in all; a name in capitals is no other user."""
    given = [correction(number, client="anna") for number in range(6)]
    given += [correction(number, client="ANNA") for number in range(6, 8)]
    for place, user in enumerate(("bert", "carl", "dora")):
        given += [correction(10 + 2 * place + n, client=user) for n in range(2)]
    logged([], given)
    approve(open_store())
    summary, dataset = merge(MergeConfig(user_share=0.1, feedback_share=0.25))
    assert summary.added == 5 and len(dataset) == 25
    counts = dict(summary.users)
    assert counts.pop("anna", 0) + counts.pop("ANNA", 0) <= 2
    assert max(counts.values()) <= 2
    assert sum(summary.left_out.values()) == len(given) - 5
    assert set(summary.left_out) == {"over the user's share", "over the share of feedback"}
    again, same = merge(MergeConfig(user_share=0.1, feedback_share=0.25))
    assert again == summary and same.images == dataset.images  # drawn, but always the same


def test_a_share_of_nothing_lets_nothing_in(
    open_store: OpenStore, logged: Logged, merge: Merge
) -> None:
    logged([], [correction(0)])
    approve(open_store())
    summary, _ = merge(MergeConfig(user_share=0.04))  # 0.8 of a picture
    assert (summary.added, summary.left_out) == (0, {"over the user's share": 1})


def test_classes_the_data_set_does_not_list_are_added(
    open_store: OpenStore, logged: Logged, merge: Merge
) -> None:
    logged([], [correction(0, labels=[2])])
    approve(open_store())
    summary, dataset = merge()
    assert summary.categories_added == ("bus",)
    assert {one.id: one.name for one in dataset.categories}[6] == "bus"


def test_the_same_name_under_another_id_is_the_same_class(
    open_store: OpenStore, logged: Logged, merge: Merge, tmp_path: Path
) -> None:
    folder = make_data(tmp_path / "other", ("car", "person"))  # there car is 1, person is 2
    logged([], [correction(0, boxes=[[0, 0, 9, 9], [20, 20, 40, 40]], labels=[0, 1])])
    approve(open_store())
    _, dataset = merge(folder=folder)
    assert dataset.category_ids[dataset.annotations_of(20)].tolist() == [2, 1]


def test_a_class_whose_number_is_taken_gets_a_free_one(
    open_store: OpenStore, logged: Logged, merge: Merge, tmp_path: Path
) -> None:
    folder = make_data(tmp_path / "other", ("cat", "dog", "horse"))  # 3 is the horse
    logged([], [correction(0)])
    approve(open_store())
    summary, dataset = merge(folder=folder)
    assert summary.categories_added == ("car",)
    assert {one.id: one.name for one in dataset.categories} == {
        1: "cat",
        2: "dog",
        3: "horse",
        4: "car",
    }
    assert dataset.category_ids[dataset.annotations_of(20)].tolist() == [4]


def test_a_picture_that_went_missing_is_counted(
    open_store: OpenStore, logged: Logged, merge: Merge, tmp_path: Path
) -> None:
    given = annotation_file(
        tmp_path / "cvat", {"a.jpg": picture(1)}, {"a.jpg": [("car", [1.0, 1.0, 9.0, 9.0])]}
    )
    store = open_store()
    config = IngestConfig(cache=str(tmp_path / "cache"))
    import_annotations(store.config.store, *given, "anna", store.classes, {}, 9, config)
    approve(open_store())
    (kept,) = (store.config.store / "imports").rglob("a.jpg")
    kept.write_bytes(picture(1)[:500])
    assert merge()[0].left_out == {"picture gone": 1}


def test_the_result_never_replaces_its_source(open_store: OpenStore, data: Path) -> None:
    for out in (data, data.parent):
        with pytest.raises(ConfigurationError, match="is or holds the data set"):
            merge_feedback(open_store(), data, out)


@pytest.mark.parametrize(
    "options",
    [{"user_share": -0.1}, {"feedback_share": 1.1}, {"user_share": 0.5, "feedback_share": 0.2}],
)
def test_shares_out_of_range_are_named(options: dict[str, float]) -> None:
    for config in (MergeConfig, MergeOptions):
        with pytest.raises(ConfigurationError, match="_share is"):
            config(**options)
