"""The content of annotations survives import, review, export, the way back, and the merge."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from campaign import runs
from feedback_samples import CLASSES, NOON, annotation_file, answer, correction, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.data.dataset import Dataset, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.feedback.decisions import decide
from components.feedback.export import export_feedback
from components.feedback.imports import ImportSummary, import_annotations
from components.feedback.merge import MergeConfig, merge_feedback
from components.feedback.store import FeedbackConfig, FeedbackStore
from foundation.errors import AnnotationError, ImageError

TWO = {"a.jpg": picture(1), "b.jpg": picture(2)}
BOXES = {"a.jpg": [("car", [10.0, 20.0, 30.0, 40.0])]}
SPELLINGS = {0: [0, "0", False, "false", None], 1: [1, "1", True, "true"]}

Take = Callable[..., ImportSummary]


@pytest.fixture
def take(tmp_path: Path) -> Take:
    """Imports into this test's store."""

    def taken(source: Path, images: Path | None) -> ImportSummary:
        config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
        return import_annotations(
            tmp_path / "store", source, images, "anna", CLASSES, {}, 100, config, now=NOON
        )

    return taken


def facts(dataset: Dataset) -> dict[str, Any]:
    """The content of a data set, without the numbers and names that every road gives anew."""
    names = {one.id: one.name for one in dataset.categories}
    found = {}
    for index, image in enumerate(dataset.images):
        rows = dataset.annotations_of(index)
        objects = zip(
            (names[one] for one in dataset.category_ids[rows].tolist()),
            (tuple(round(side, 6) for side in box) for box in dataset.boxes[rows].tolist()),
            (round(area, 6) for area in dataset.areas[rows].tolist()),
            dataset.is_crowd[rows].tolist(),
            strict=True,
        )
        clip = None if image.clip is None else image.clip.removeprefix("feedback/")
        content = (clip, image.frame_index, image.condition, image.part)
        found[image.sha256 or ""] = (content, sorted(objects))
    return found


BOX = st.tuples(
    st.integers(0, 100), st.integers(0, 80), st.integers(2, 60), st.integers(2, 40)
).map(list)
OBJECT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(CLASSES.names),
        "bbox": BOX,
        "fill": st.sampled_from((0.25, 0.5, 1.0)),
        "iscrowd": st.sampled_from(SPELLINGS[0] + SPELLINGS[1]),
    }
)
ATTRIBUTES = st.fixed_dictionaries(
    {
        "clip": st.sampled_from((None, "one", "two")),
        "frame_index": st.integers(0, 9),
        "condition": st.sampled_from(("night", "fog")),
    },
    optional={"part": st.sampled_from(("train", "test"))},
)


@pytest.mark.campaign
@settings(max_examples=runs(6, 150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pictures=st.lists(st.tuples(ATTRIBUTES, st.lists(OBJECT, max_size=4)), min_size=1, max_size=3),
    numbers=st.permutations((0, 7, 1)),
    folders=st.permutations(("cam1", "cam2/left", ".")),
)
def test_every_road_keeps_the_annotations(pictures: Any, numbers: Any, folders: Any) -> None:
    if not any(objects for _, objects in pictures):
        pictures[0] = (
            pictures[0][0],
            [{"name": "car", "bbox": [1, 1, 9, 9], "fill": 1.0, "iscrowd": "1"}],
        )
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        number_of = dict(zip(CLASSES.names, numbers, strict=True))
        payload: dict[str, Any] = {
            "categories": [{"id": number, "name": name} for name, number in number_of.items()],
            "images": [],
            "annotations": [],
        }
        for number, (attributes, objects) in enumerate(pictures):
            name = str(Path(folders[number]) / "000001.jpg")  # the same name in every folder
            file = root / "source" / "images" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(picture(number))
            payload["images"].append(
                {
                    "id": number,
                    "file_name": name,
                    "width": 160,
                    "height": 120,
                    "attributes": attributes,
                }
            )
            for one in objects:
                payload["annotations"].append(
                    {
                        "id": len(payload["annotations"]),
                        "image_id": number,
                        "category_id": number_of[one["name"]],
                        "bbox": one["bbox"],
                        "area": one["bbox"][2] * one["bbox"][3] * one["fill"],
                        "iscrowd": one["iscrowd"],
                    }
                )
        (root / "source" / "annotations.json").write_text(json.dumps(payload))
        config = IngestConfig(cache=str(root / "cache"), workers=1)
        ingest(str(root / "source"), root / "ingested", config)
        expected = facts(load_dataset(root / "ingested"))
        crowds = sum(one["iscrowd"] in SPELLINGS[1] for _, each in pictures for one in each)
        assert sum(crowd for _, each in expected.values() for *_, crowd in each) == crowds

        first, second = (FeedbackStore(_config(root / name), CLASSES) for name in ("s1", "s2"))
        _import(first, root / "source", config)
        export_feedback(first, first.items, root / "exported")
        assert facts(load_dataset(root / "exported")) == expected
        _import(second, root / "exported", config)
        decide(second.config.store, second.items, "approved", "bert", "")
        second = FeedbackStore(second.config, CLASSES)
        export_feedback(second, second.items, root / "again")
        assert facts(load_dataset(root / "again")) == expected
        file, images = annotation_file(root / "base", {"x.jpg": picture(99)}, {})
        base = json.loads(file.read_text())
        base["annotations"] = [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "iscrowd": 0}
        ]
        (root / "base" / "annotations.json").write_text(json.dumps(base))
        images.rename(root / "base" / "images")
        all_of_it = MergeConfig(user_share=1.0, feedback_share=1.0)
        for more in range(3):  # shares count pictures of the data set
            base["images"].append({**base["images"][0], "id": 50 + more, "file_name": f"{more}"})
            (root / "base" / "images" / f"{more}").write_bytes(picture(50 + more))
        (root / "base" / "annotations.json").write_text(json.dumps(base))
        merge_feedback(second, root / "base", root / "merged", all_of_it)
        merged = facts(load_dataset(root / "merged"))
        assert {key: merged[key] for key in expected} == expected


def _config(store: Path) -> FeedbackConfig:
    return FeedbackConfig(store=store, log="")


def _import(store: FeedbackStore, source: Path, config: IngestConfig) -> None:
    import_annotations(store.config.store, source, None, "anna", CLASSES, {}, 100, config, now=NOON)


def test_crowds_stay_where_feedback_has_no_word_for_them(
    open_store: Any, logged: Any, tmp_path: Path
) -> None:
    file, images = annotation_file(
        tmp_path / "data",
        {"a.jpg": picture(0)},
        {"a.jpg": [("car", [0.0, 0.0, 9.0, 9.0]), ("car", [50.0, 50.0, 60.0, 40.0])]},
    )
    payload = json.loads(file.read_text())
    payload["annotations"][1]["iscrowd"] = 1
    (tmp_path / "data" / "annotations.json").write_text(json.dumps(payload))
    file.unlink()
    images.rename(tmp_path / "data" / "images")
    ingest(str(tmp_path / "data"), tmp_path / "in", IngestConfig(cache=str(tmp_path / "cache")))
    logged([answer(0)], [correction(0)])  # the same picture: one car, and that is all
    store = open_store()
    decide(store.config.store, store.items, "approved", "bert", "")
    config = MergeConfig(user_share=1.0, feedback_share=1.0)
    merge_feedback(open_store(), tmp_path / "in", tmp_path / "out", config)
    data = load_dataset(tmp_path / "out")
    assert data.is_crowd.tolist() == [True, False]
    assert data.boxes.tolist() == [[50, 50, 60, 40], [10, 10, 40, 40]]


@pytest.mark.parametrize(
    ("written", "lies"),
    [
        ("images\\{}", "{}"),
        ("images\\{}", "images/{}"),
        ("..\\..\\label-studio\\data\\media\\upload\\1\\{}", "{}"),
        ("../../label-studio/data/media/upload/1/{}", "{}"),
        ("/label-studio/data/media/upload/1/{}", "1/{}"),
        ("/data/upload/1/{}", "{}"),
        ("/data/upload/1/0a1b2c3d-{}", "{}"),
        ("https://studio.example/data/upload/1/{}", "{}"),
        ("/data/local-files/?d=cam1/{}", "cam1/{}"),
        ("/data/local-files/?d=srv%2Ffilms%2Fcam1%2F{}", "cam1/{}"),
        ("/data/local-files/?d=srv\\films\\cam1\\{}", "{}"),
        ("https://studio.example/data/local-files/?d=cam1/{}&t=1", "cam1/{}"),
        ("/home/anna/films/cam1/{}", "cam1/{}"),
        ("C:\\Users\\anna\\films\\{}", "{}"),
        ("s3://bucket/films/cam1/{}", "cam1/{}"),
        ("frames/{}", "{}"),  # the folder's own name
        ("{}", "{}"),
    ],
)
def test_an_annotation_tools_own_paths(take: Take, tmp_path: Path, written: str, lies: str) -> None:
    file, images = annotation_file(tmp_path / "tool", TWO, BOXES)
    payload = json.loads(file.read_text())
    for image in payload["images"]:
        name = image["file_name"]
        image["file_name"] = written.format(name)
        place = images / lies.format(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        (images / name).rename(place)
    file.write_text(json.dumps(payload))
    summary = take(file, images)
    assert (summary.images, summary.objects) == (2, 1)
    assert summary.found_elsewhere == (0 if written == lies == "{}" else 2)


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        (("../a.jpg", "b.jpg"), AnnotationError, "leaves the folder"),
        (("upload/../../a.jpg", "b.jpg"), AnnotationError, "leaves the folder"),
        (("/data/upload/1/a.jpg", "/data/upload/2/a.jpg"), AnnotationError, "of another"),
        (("cam1/a.jpg", "b.jpg"), ImageError, "missing"),  # a.jpg is there, cam1's is not
        (("?d=../a.jpg", "b.jpg"), ImageError, "missing"),
        (("a\n.jpg", "b.jpg"), AnnotationError, "has control characters"),
    ],
)
def test_what_no_path_means_is_refused_by_its_file(
    take: Take, tmp_path: Path, names: Any, error: Any, words: str
) -> None:
    file, images = annotation_file(tmp_path / "tool", TWO, BOXES)
    payload = json.loads(file.read_text())
    for image, name in zip(payload["images"], names, strict=True):
        image["file_name"] = name
    file.write_text(json.dumps(payload))
    with pytest.raises(error, match=words) as refused:
        take(file, images)
    message = str(refused.value)
    assert (
        message.startswith(f"{file}: ")
        and "--drop-invalid" in message
        and "--on-invalid" not in message
    )
