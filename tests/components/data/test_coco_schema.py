"""The published schema and the check that ingest makes agree on every record."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from coco_samples import box_record, coco, image_record
from jsonschema import Draft202012Validator

from components.data.coco import check_coco
from components.data.coco_schema import annotation_schema, checked_record
from components.data.violations import RULES

SCHEMA = annotation_schema(RULES)
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 7, 2**63, 1.5, "", "a", "1", [], {}, [1, 2, 3], [1, 2, 3, "4"],
    [1, 2, 3, 4.5], [1, 2, 3, True], {"frame_index": 3}, {"frame_index": "3"}, "no", "TRUE",
)  # fmt: skip


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA))["x-rules"]["box_outside"]


@pytest.mark.parametrize("kind", ["image", "annotation", "category"])
def test_the_schema_agrees_with_the_check_on_random_records(kind: str) -> None:
    name = {"image": "Image", "annotation": "Annotation", "category": "Category"}[kind]
    validator = Draft202012Validator({**SCHEMA["$defs"][name], "$defs": SCHEMA["$defs"]})
    sound: dict[str, Any] = {
        "image": image_record(1, attributes={"frame_index": 1}),
        "annotation": box_record(1, 1, [1, 1, 2, 2], iscrowd=0, area=4.0),
        "category": {"id": 1, "name": "car"},
    }[kind]
    dice = random.Random(kind)
    verdicts = set()
    for _ in range(400):
        record = dict(sound)
        for field in dice.sample(sorted(record), dice.choice((0, 1, 1, 2))):
            if dice.random() < 0.2:
                del record[field]
            else:
                record[field] = dice.choice(ODD)
        if record.get("iscrowd") == "TRUE" or isinstance(record.get("name"), bool):
            continue  # spellings beyond the schema's that ingest takes, too
        found = checked_record(kind, record)
        assert validator.is_valid(record) == (not isinstance(found, str)), (record, found)
        verdicts.add(isinstance(found, str))
    assert verdicts == {True, False}


def test_messages_name_the_field_and_the_value() -> None:
    rows = coco([image_record(1)], [box_record(5, 1, [1, 1, 1, 2]), {"id": 6}])
    rows["annotations"][0]["bbox"][2] = "x"
    rows["annotations"].append(7)
    assert [one.message for one in check_coco(rows).violations] == [
        "annotation 5 of image 1 needs bbox to be four finite numbers: x, y, width, height, "
        "not \"[1, 1, 'x', 2]\"",
        "annotation 6 needs image_id to be an integer of 64 bits, and has none",
        "annotation record 2 needs to be an object",
    ]


def test_every_rule_that_is_broken_is_published() -> None:
    images = [image_record(1), image_record(1), {"id": 2}, image_record(3, file_name="../a.png")]
    boxes = [
        box_record(1, 1, [0, 0, -4, 4]),
        box_record(1, 1, [0, 0, 4, 4]),
        box_record(2, 9, [0] * 4),
        box_record(3, 1, [0, 0, 0, 0]),
        box_record(4, 1, [60, 0, 8, 8], category_id=77),
    ]
    broken = {one.rule for one in check_coco(coco(images, boxes)).violations}
    assert len(broken) == 8 and broken <= set(RULES)
