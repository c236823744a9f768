"""A COCO annotation file read and checked, record by record.

Each record is held against the published schema (``components.data.coco_schema``), then against the
other records; ``components.data.violations`` lists the rules.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from components.data.class_names import normalised
from components.data.coco_schema import checked_record
from components.data.json_stream import Element, elements
from components.data.violations import RecordKind, Violation
from foundation.errors import AnnotationError

ORIGIN = "gearshift_origin"
"""Key of a record that says where in a source of another format it was read."""

OVERHANG = 1.0
"""Pixels by which rounding may push a box over the border; such boxes are clipped."""

_NOISE = 1e-6  # pixels: x + width of a box that ends exactly at the border, in floating point
_ID_LIMIT = 2**63
_NAME_BYTES, _PATH_BYTES = 255, 2048
"""Longest name, and path below a folder; file systems allow 255 and, with the folder, 4096."""
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, surrogates and separators of lines, which break messages."""


@dataclass(frozen=True)
class CheckedCoco:
    """What is sound in a COCO file, and what is not.

    Attributes:
        images: image records whose id, file name and size are sound.
        annotations: records {id, image_id, category_id, bbox, area, iscrowd} of those images, the
            boxes within them.
        categories: records {id, name}.
        violations: the broken records, in the order they were met.
        clipped: boxes that overhung by at most OVERHANG and were clipped.
        dependents: sound annotations that belong to a broken image record.
        image_places: place of each sound image's record in the file, by its id.
    """

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    violations: list[Violation]
    clipped: int
    dependents: int
    image_places: dict[int, int]


def read_coco(file: Path) -> dict[str, Any]:
    """Read a COCO JSON file into memory; raises as ``coco_elements`` does."""
    payload: dict[str, Any] = {}
    for one in coco_elements(file):
        if one.place >= 0:
            payload[one.key].append(one.value)
        else:
            payload[one.key] = one.value if one.text else []
    return payload


def coco_elements(file: Path) -> Iterator[Element]:
    """Read a COCO JSON file record by record; see ``json_stream.elements``.

    Raises AnnotationError when the file is missing, is no JSON, or lacks one of the three lists.
    """
    lists, keys = set[str](), set[str]()
    try:
        for one in elements(file):
            if one.place < 0 and one.key in keys:
                raise ValueError(f"the key {one.key[:40]!r} occurs twice")
            if one.place < 0:
                keys.add(one.key)
            if not one.text:
                lists.add(one.key)
            yield one
    except FileNotFoundError:
        raise AnnotationError(
            f"{file}: no such annotation file; give a COCO folder, or one that ingest has written"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{file}: cannot be read as JSON ({one_line(error)}); export the annotations again"
        ) from error
    for name in ("images", "annotations", "categories"):
        if name not in lists:
            raise AnnotationError(
                f'{file}: has no list "{name}"; give a COCO object detection file '
                "(images, annotations, categories)"
            )


def first_images(payload: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Reduce a COCO payload to its first images by id, and to what belongs to them.

    Records that are not taken are not checked later either; those without an id cannot be taken.

    Args:
        payload: as ``read_coco`` returns it.
        limit: number of images, at least 1.
    """
    records = [r for r in payload["images"] if isinstance(r, dict) and is_id(r.get("id"))]
    taken = sorted(records, key=lambda record: record["id"])[:limit]
    ids = {record["id"] for record in taken}
    rows = [
        row
        for row in payload["annotations"]
        if isinstance(row, dict) and is_id(row.get("image_id")) and row["image_id"] in ids
    ]
    return {**payload, "images": taken, "annotations": rows}


class _Violations(list[Violation]):
    """Violations, each added in one line.

    Attributes:
        places: position of each record in a larger file, by list, where these are a part of one.
    """

    def __init__(self, places: Mapping[str, Sequence[int]] | None = None) -> None:
        super().__init__()
        self.places = places or {}

    def note(self, rule: str, kind: RecordKind, place: int, record: Any, message: str) -> None:
        """Add one: ``message`` follows the record's name."""
        number = record.get("id") if isinstance(record, dict) else None
        number = number if is_id(number) else None
        origin = record.get(ORIGIN) if isinstance(record, dict) else None
        shown = self.places[f"{kind}s"][place] if self.places else place
        name = f"{kind} record {shown}" if number is None else f"{kind} {number}"
        if kind == "annotation" and number is not None and is_id(record.get("image_id")):
            name += f" of image {record['image_id']}"
        if isinstance(origin, str) and origin:
            name = origin if origin.isprintable() else ascii(origin)
        self.append(Violation(rule, kind, place, number, f"{name} {message}"))


def check_coco(
    payload: Mapping[str, Any], in_whole: Mapping[str, Sequence[int]] | None = None
) -> CheckedCoco:
    """Check every record of a COCO payload (the rules: ``components.data.violations``).

    Args:
        payload: as ``read_coco`` returns it.
        in_whole: by list, the position of each record in the file that the payload is a part of;
            messages name it.
    """
    found = _Violations(in_whole)
    categories, wrong = check_categories(payload["categories"], _used(payload["annotations"]))
    found += wrong
    images, broken, places = _check_images(payload["images"], found)
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    known = {category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    seen: set[int] = set()
    clipped = dependents = 0
    for place, record in enumerate(payload["annotations"]):
        sound = _annotation(record)
        if isinstance(sound, str):
            found.note("malformed_annotation", "annotation", place, record, f"needs {sound}")
            continue
        size = sizes.get(sound["image_id"])
        if sound["id"] in seen:
            fault = "duplicate_annotation", "has the id of another"
        elif size is None and sound["image_id"] in broken:
            fault = None
            dependents += 1
        elif size is None:
            fault = "unknown_image", "points at an image not listed"
        elif sound["category_id"] not in known:
            category = sound["category_id"]
            fault = "unknown_category", f"has category {category}, which is not listed"
        elif fault := _box_fault(sound["bbox"], size):
            pass
        else:
            clipped += _overhang(sound["bbox"], size) > _NOISE
            sound["bbox"] = _clip(sound["bbox"], size)
            if min(sound["bbox"][2:]) > 0:
                annotations.append(sound)
            else:
                fault = "zero_area", "has a box of zero area within its image"
        if fault:
            found.note(fault[0], "annotation", place, record, fault[1])
        seen.add(sound["id"])
    return CheckedCoco(images, annotations, categories, found, clipped, dependents, places)


def check_categories(
    records: Sequence[Any], used: Collection[Any]
) -> tuple[list[dict[str, Any]], list[Violation]]:
    """Sound categories, and what is wrong with the others.

    Args:
        records: the file's list.
        used: ids of the categories that have boxes.
    """
    found = _Violations()
    sound: dict[int, dict[str, Any]] = {}
    names: dict[str, dict[str, Any]] = {}
    for place, record in enumerate(records):
        one = checked_record("category", record)
        if isinstance(one, str):
            found.note("malformed_category", "category", place, record, f"needs {one}")
        elif one["id"] in sound:
            message = f"({one['name']}) has the id of another"
            found.note("duplicate_category", "category", place, record, message)
        elif one["id"] in used and (other := names.get(normalised(one["name"]))):
            message = f"({one['name']}) and {other['id']} ({other['name']}) have one name"
            found.note("ambiguous_category", "category", place, record, message)
        else:
            sound[one["id"]] = one
            if one["id"] in used:
                names[normalised(one["name"])] = one
    return list(sound.values()), found


def _box_fault(box: Sequence[float], size: tuple[int, int]) -> tuple[str, str] | None:
    """The rule that a box breaks in an image of this size, and in words how; None for a sound one.

    A box that reaches out of its image, but would be within it as two corners, was most likely
    exported as x1, y1, x2, y2.
    """
    x, y, width, height = box
    shown = list(box)
    if width < 0 or height < 0:
        return "swapped_corners", f"has a box {shown} of negative width or height, corners swapped"
    if width == 0 or height == 0:
        return "zero_area", f"has a box of zero area {shown}"
    if _overhang(box, size) <= OVERHANG + _NOISE:
        return None
    where = f"outside its {size[0]}x{size[1]} image"
    as_corners = (x, y, width - x, height - y)
    if min(as_corners[2:]) > 0 and _overhang(as_corners, size) <= OVERHANG + _NOISE:
        return "corner_box", f"has a box {shown} {where} that fits as the corners x1, y1, x2, y2"
    return "box_outside", f"has a box {shown} {where}"


def is_safe_name(name: str) -> bool:
    """Whether a file name stays below the folder it is joined to, and can be printed."""
    return not fault_of_name(name)


def fault_of_name(name: str) -> str:
    """What is wrong with a file name, for a message; empty for a safe one."""
    path = PurePosixPath(name)
    if any(unicodedata.category(letter) in _UNPRINTABLE for letter in name):
        return "has control characters"
    # A backslash or a drive letter is a path on Windows, and part of a name elsewhere.
    on_windows = os.sep != "/" and ("\\" in name or ":" in name)
    if not path.parts or path.is_absolute() or ".." in path.parts or on_windows:
        return "leaves the folder"
    if len(name.encode()) > _PATH_BYTES or any(
        len(part.encode()) > _NAME_BYTES for part in path.parts
    ):
        return f"is longer than {_NAME_BYTES} bytes, or its path than {_PATH_BYTES}"
    return ""


def _used(records: Sequence[Any]) -> set[Any]:
    """Ids of the categories that have boxes."""
    ids = (record.get("category_id") for record in records if isinstance(record, dict))
    return {number for number in ids if is_id(number)}


def _check_images(
    records: Sequence[Any], found: _Violations
) -> tuple[list[dict[str, Any]], set[int], dict[int, int]]:
    """Sound image records, ids of the others as far as they have one, and places of the sound."""
    sound: dict[int, dict[str, Any]] = {}
    places: dict[int, int] = {}
    names: set[str] = set()
    broken: set[int] = set()
    for place, record in enumerate(records):
        number = record.get("id") if isinstance(record, dict) else None
        if is_id(number) and (number in sound or number in broken):
            found.note("duplicate_image", "image", place, record, "has the id of another")
            continue
        one = checked_record("image", record)
        if isinstance(one, str):
            fault = "malformed_image", f"needs {one}"
        elif wrong := fault_of_name(one["file_name"]):
            fault = (
                "unsafe_file_name",
                f"has the file name {one['file_name'][:80]!r}, which {wrong}",
            )
        elif (name := str(PurePosixPath(one["file_name"]))) in names:
            fault = "duplicate_file_name", f"has the file name {name} of another"
        else:
            names.add(name)
            sound[one["id"]] = {**record, "file_name": name}
            places[one["id"]] = place
            continue
        found.note(fault[0], "image", place, record, fault[1])
        if is_id(number):
            broken.add(number)
    return list(sound.values()), broken, places


def _annotation(record: Any) -> dict[str, Any] | str:
    """Return the annotation reduced to the fields in use, or what it needs."""
    one = checked_record("annotation", record)
    if isinstance(one, str):
        return one
    box, area = one["bbox"], one.get("area")
    return {
        "id": one["id"],
        "image_id": one["image_id"],
        "category_id": one["category_id"],
        "bbox": box,
        "area": float(area) if _is_finite(area) and area > 0 else box[2] * box[3],
        "iscrowd": int(one.get("iscrowd", False)),
        **({"text": one["text"]} if "text" in one else {}),
    }


def _overhang(box: Sequence[float], size: tuple[int, int]) -> float:
    """Pixels by which a box reaches over the border of its image; 0 or less when it does not."""
    x, y, width, height = box
    return max(-x, -y, x + width - size[0], y + height - size[1])


def _clip(box: list[float], size: tuple[int, int]) -> list[float]:
    if _overhang(box, size) <= 0:
        return box
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    right, bottom = min(x + width, float(size[0])), min(y + height, float(size[1]))
    return [left, top, right - left, bottom - top]


def is_id(value: Any) -> TypeGuard[int]:
    """Whether a value can be a record's id."""
    # JSON's true is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _ID_LIMIT


def _is_finite(value: Any) -> TypeGuard[float]:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    # A whole number of JSON can be too large for a float.
    return abs(value) < _ID_LIMIT if isinstance(value, int) else math.isfinite(value)


def one_line(error: BaseException) -> str:
    """Return an exception's message, cut to one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
