"""Broken records kept beside a data set, so that they can be corrected and ingested."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from components.data.dataset import ANNOTATIONS_FILE, IMAGES_FOLDER
from components.data.picture_files import link_or_copy
from components.data.violations import Violation, write_violations

VIOLATIONS_FILE = "violations.jsonl"
QUARANTINE_FOLDER = "quarantine"


def quarantine_writer(
    payload: Mapping[str, Any],
    violations: Sequence[Violation],
    annotations: Path,
    files: Mapping[str, Path],
    keep: bool,
) -> Callable[[Path], None] | None:
    """What writes the violations, and with ``keep`` the records, into a data set folder.

    The quarantine holds the broken records as the source has them, the annotations of broken
    images, the image records of broken annotations, and the pictures of them all.

    Args:
        payload: the source's annotations, as they were checked.
        violations: what is wrong with them.
        annotations: the source's annotation file.
        files: the pictures there are, by file name.
        keep: whether the records are kept, or only listed.

    Returns:
        A function of the folder; None without a violation.
    """
    if not violations:
        return None

    def write(folder: Path) -> None:
        write_violations(violations, annotations, folder / VIOLATIONS_FILE)
        if keep:
            _write_records(_broken(payload, violations), files, folder / QUARANTINE_FOLDER)

    return write


def _broken(payload: Mapping[str, Any], violations: Sequence[Violation]) -> dict[str, list[Any]]:
    images = {one.place for one in violations if one.record == "image"}
    boxes = {one.place for one in violations if one.record == "annotation"}
    categories = {one.place for one in violations if one.record == "category"}
    ids = [_field(record, "id") for record in payload["images"]]
    broken = {ids[place] for place in images} - {None}
    owners = [_field(record, "image_id") for record in payload["annotations"]]
    shown = {owners[place] for place in boxes} - {None}
    return {
        "images": _chosen(payload["images"], images, ids, shown),
        "annotations": _chosen(payload["annotations"], boxes, owners, broken),
        "categories": [
            record
            for place, record in enumerate(payload["categories"])
            if place in categories or _field(record, "id") is not None
        ],
    }


def _chosen(
    records: Sequence[Any], places: set[int], keys: Sequence[Any], wanted: set[Any]
) -> list[Any]:
    return [
        record
        for place, (record, key) in enumerate(zip(records, keys, strict=True))
        if place in places or key in wanted
    ]


def _field(record: Any, name: str) -> int | str | None:
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, int | str) else None


def _write_records(records: dict[str, list[Any]], files: Mapping[str, Path], folder: Path) -> None:
    (folder / IMAGES_FOLDER).mkdir(parents=True)
    for record in records["images"]:
        name = _field(record, "file_name")
        name = str(PurePosixPath(name)) if isinstance(name, str) else ""
        target = folder / IMAGES_FOLDER / name
        if name in files and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(files[name], target)
    # As ASCII, because a record is kept as it is, also with a text that UTF-8 cannot hold.
    (folder / ANNOTATIONS_FILE).write_text(json.dumps(records) + "\n", encoding="utf-8")
