from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from campaign import runs
from coco_samples import box_record, coco, image_record, write_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from replay_samples import CATEGORIES, CLASSES, data_of, detections_of

from components.data.class_names import in_coco, normalised
from components.data.classes import Classes, match_dataset, nearest, refuse_unjudgeable
from components.data.dataset import Dataset, DatasetCategory, load_dataset
from components.data.ingest import IngestConfig, ingest
from components.data.validate import ValidateConfig, validate
from components.evaluation.average_precision import match_detections
from foundation.errors import AnnotationError

SAMPLE = Classes(("person", "car", "traffic light", "couch"), (1, 3, 10, 63))


def data(*names: str, crowd: int = 0) -> Dataset:
    """One box of each category, numbered from 1 as they come."""
    payload = data_of(1, [(0, (0, 0, 9, 9), 1, crowd)] * len(names))
    return replace(
        payload,
        categories=tuple(DatasetCategory(number, name) for number, name in enumerate(names, 1)),
        category_ids=np.arange(1, len(names) + 1),
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("car", "car"),
        ("Car", "car"),
        (" CAR ", "car"),
        ("Traffic_Light", "traffic light"),
        ("traffic-light", "traffic light"),
        ("trafficlight", "traffic light"),
        ("\uff43\uff41\uff52", "car"),  # full-width letters
        ("sofa", "couch"),
        ("Sofa", "couch"),
        ("cart", None),
        ("", None),
        ("truck", None),
        ("3", None),
        ("-", None),
    ],
)
def test_what_a_name_means(written: str, meant: str | None) -> None:
    assert [SAMPLE.names[label] for label in SAMPLE.meant_by(written)] == ([meant] if meant else [])


def test_an_exact_name_goes_before_one_that_is_like_it() -> None:
    classes = Classes(("Car", "car", "sofa", "couch"), (1, 2, 3, 4))
    assert classes.meant_by("car") == (1,)
    assert classes.meant_by("CAR") == (0, 1)  # ambiguous
    assert classes.meant_by("sofa") == (2,)
    assert (normalised("T-Shirt"), in_coco("TV Monitor")) == ("tshirt", "tv")
    assert nearest("Carr", SAMPLE) == "car"


def test_the_match_states_what_it_found() -> None:
    match = match_dataset(data("Car", "person", "forklift"), SAMPLE)
    assert match.labels == {1: 1, 2: 0}
    assert match.matched == ("person",)
    assert match.renamed == {"Car": "car"}
    assert match.unknown == ("forklift",)


def test_what_is_ambiguous_is_refused() -> None:
    with pytest.raises(AnnotationError, match=r"1 \('Car'\) and 2 \('car'\) both mean .* 'car'"):
        match_dataset(data("Car", "car"), SAMPLE)
    with pytest.raises(AnnotationError, match="'CAR' may be the ladder's 'Car' and 'car'"):
        match_dataset(data("CAR"), Classes(("Car", "car"), (1, 2)))
    unused = replace(data("Car"), categories=(DatasetCategory(1, "Car"), DatasetCategory(2, "car")))
    assert match_dataset(unused, SAMPLE).labels == {1: 1}


def test_only_crowds_are_no_silent_null() -> None:
    with pytest.raises(AnnotationError, match="all of its 2 boxes .* crowds"):
        refuse_unjudgeable(data("car", "person", crowd=1), SAMPLE)


def test_two_categories_of_one_name_are_refused_by_ingest(tmp_path: Path) -> None:
    boxes = [
        box_record(number, 1, [1, 1, 9, 9], category_id=category)
        for number, category in enumerate((1, 40), 1)
    ]
    payload = coco([image_record(1)], boxes)
    payload["categories"].append({"id": 40, "name": "Person"})
    payload["categories"].append({"id": 41, "name": "dog"})  # in no box, so nothing is ambiguous
    source = write_folder(tmp_path / "source", payload)
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    with pytest.raises(
        AnnotationError, match=r"category 40 \(Person\) and 1 \(person\) have one name"
    ):
        ingest(str(source), tmp_path / "out", config)
    dropped = ingest(str(source), tmp_path / "out", replace(config, on_invalid="drop")).dropped
    assert dropped == {"ambiguous_category": 1, "unknown_category": 1}


def test_numbers_of_an_annotation_tool_change_no_report(tmp_path: Path) -> None:
    """The same boxes, the classes numbered by name: every figure that is not a number stays."""
    boxes = [
        box_record(number, 1 + number % 3, [4.0 * number, 5, 9, 9], category_id=category)
        for number, category in enumerate((1, 3, 18, 1, 3, 1), 1)
    ]
    own = coco([image_record(number) for number in (1, 2, 3)], boxes)
    tool: Any = json.loads(json.dumps(own))
    new = {3: 1, 18: 2, 1: 3}  # car, dog, person
    for category in tool["categories"]:
        category["id"] = new[category["id"]]
    for box in tool["annotations"]:
        box["category_id"] = new[box["category_id"]]
    found = []
    for name, payload in (("own", own), ("tool", tool)):
        write_folder(tmp_path / name, payload)
        config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
        ingest(str(tmp_path / name), tmp_path / f"{name}-in", config)
        summary = validate(
            tmp_path / f"{name}-in",
            tmp_path / f"{name}-out",
            ValidateConfig(min_images=1),
            Classes(("person", "car"), (1, 3)),
        )
        rows = json.loads((tmp_path / f"{name}-out" / "validation.json").read_text())["categories"]
        found.append((summary, sorted((r["name"], r["class"], r["annotations"]) for r in rows)))
    assert found[0] == found[1]
    assert found[0][0].known_share == round(5 / 6, 4)
    assert found[0][0].unknown == ("dog",)
    names = {one.id: one.name for one in load_dataset(tmp_path / "tool-in").categories}
    assert names == {1: "car", 2: "dog", 3: "person"}


@pytest.mark.campaign
@settings(max_examples=runs(25, 500), deadline=None)
@given(
    order=st.permutations((1, 2, 5, 90, 0)),
    seed=st.integers(0, 2**16),
    spelling=st.sampled_from((str.upper, str.title, lambda name: f"{name} ", str)),
)
def test_a_permutation_of_numbers_changes_no_figure(order: Any, seed: int, spelling: Any) -> None:
    rng = np.random.default_rng(seed)
    objects = [
        (
            int(frame),
            tuple(rng.integers(0, 60, 2).tolist() + rng.integers(5, 40, 2).tolist()),
            int(rng.choice(CATEGORIES)),
            int(rng.random() < 0.1),
        )
        for frame in rng.integers(0, 4, 12)
    ]
    seen = [
        (frame, tuple((np.array(box) + rng.integers(-3, 4, 4)).tolist()), float(rng.random()), kind)
        for frame, box, kind, _ in objects
    ]
    plain = data_of(4, objects)
    new = dict(zip(CATEGORIES, order, strict=False))
    moved = replace(
        plain,
        categories=tuple(
            sorted(
                (DatasetCategory(new[one.id], spelling(one.name)) for one in plain.categories),
                key=lambda one: one.id,
            )
        ),
        category_ids=np.array([new[one] for one in plain.category_ids.tolist()], np.int64),
    )
    rungs = [detections_of(4, seen), detections_of(4, seen[::2], "large")]
    one, other = (match_detections(each, rungs, CLASSES) for each in (plain, moved))
    choice = rng.integers(0, 2, 4)
    np.testing.assert_equal(
        one.mean_average_precision(choice), other.mean_average_precision(choice)
    )
    np.testing.assert_array_equal(one.contributions(), other.contributions())
