"""A COCO annotation file read and checked, record by record.

Problems are collected, not raised, so that ingest can name the first one, count the rest, or leave
the broken records out. What counts as a problem:

=========================  ==================================================================
kind                       meaning
=========================  ==================================================================
malformed_image            no integer id, no usable file name, or no positive width and height
malformed_annotation       no integer ids, a bbox that is not four finite numbers, or an iscrowd
                           that says neither yes nor no (see ``flag``)
malformed_category         no integer id or no name
duplicate_image            an image id that was there before
duplicate_file_name        two image records share one file
duplicate_annotation       an annotation id that was there before
duplicate_category         a category id that was there before
ambiguous_category         two categories in use have one name (see ``components.data.class_names``)
unsafe_file_name           a file name that leaves the image folder, has control characters, or is
                           longer than file systems allow
unknown_image              an annotation of an image that is not listed
unknown_category           an annotation of a category that is not listed
zero_area                  a box without width or height
box_outside                a box that reaches more than one pixel beyond its image
=========================  ==================================================================
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

from components.data.class_names import normalised
from foundation.errors import AnnotationError, InvalidInput

OVERHANG = 1.0
"""Pixels by which rounding may push a box over the border; such boxes are clipped."""

DEPENDENT = "annotation_of_dropped_image"
"""Kind under which annotations are counted that go only because their image goes."""

_NOISE = 1e-6  # pixels: x + width of a box that ends exactly at the border, in floating point
_ID_LIMIT = 2**63
_NAME_BYTES, _PATH_BYTES = 255, 2048
"""Longest name, and path below a folder; file systems allow 255 and, with the folder, 4096."""
_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's control characters, surrogates and separators of lines, which break messages."""


@dataclass(frozen=True)
class Problem:
    """One broken record: its kind (see the module) and a message that names it."""

    kind: str
    message: str


@dataclass(frozen=True)
class CheckedCoco:
    """What is sound in a COCO file, and what is not.

    Attributes:
        images: image records whose id, file name and size are sound.
        annotations: records {id, image_id, category_id, bbox, area, iscrowd} of those images, the
            boxes within them.
        categories: records {id, name}.
        problems: the broken records, in the order they were met.
        clipped: boxes that overhung by at most OVERHANG and were clipped.
        dependents: sound annotations that belong to a broken image record.
    """

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    problems: list[Problem]
    clipped: int
    dependents: int


def read_coco(file: Path) -> dict[str, Any]:
    """Read a COCO JSON file down to its three lists.

    Raises AnnotationError when the file is missing, is no JSON, or lacks one of the lists.
    """
    try:
        payload = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise AnnotationError(
            f"{file}: no such annotation file; give a COCO folder, or one that ingest has written"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(
            f"{file}: cannot be read as JSON ({one_line(error)}); export the annotations again"
        ) from error
    for name in ("images", "annotations", "categories"):
        if not isinstance(payload, dict) or not isinstance(payload.get(name), list):
            raise AnnotationError(
                f'{file}: has no list "{name}"; give a COCO object detection file '
                "(images, annotations, categories)"
            )
    result: dict[str, Any] = payload
    return result


def first_images(payload: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Reduce a COCO payload to its first images by id, and to what belongs to them.

    Records that are not taken are not checked later either; those without an id cannot be taken.

    Args:
        payload: as ``read_coco`` returns it.
        limit: number of images, at least 1.
    """
    records = [r for r in payload["images"] if isinstance(r, dict) and _is_id(r.get("id"))]
    taken = sorted(records, key=lambda record: record["id"])[:limit]
    ids = {record["id"] for record in taken}
    rows = [
        row
        for row in payload["annotations"]
        if isinstance(row, dict) and _is_id(row.get("image_id")) and row["image_id"] in ids
    ]
    return {**payload, "images": taken, "annotations": rows}


def check_coco(payload: Mapping[str, Any]) -> CheckedCoco:
    """Check every record of a COCO payload (see the module for the kinds of problem)."""
    problems: list[Problem] = []
    categories = _check_categories(payload["categories"], _used(payload["annotations"]), problems)
    images, broken = _check_images(payload["images"], problems)
    sizes = {image["id"]: (image["width"], image["height"]) for image in images}
    known = {category["id"] for category in categories}
    annotations: list[dict[str, Any]] = []
    seen: set[int] = set()
    clipped = dependents = 0
    for place, record in enumerate(payload["annotations"]):
        sound = _annotation(record)
        if isinstance(sound, str):
            message = f"annotation record {place} needs {sound}"
            problems.append(Problem("malformed_annotation", message))
            continue
        name = f"annotation {sound['id']} of image {sound['image_id']}"
        x, y, width, height = sound["bbox"]
        size = sizes.get(sound["image_id"])
        if sound["id"] in seen:
            problems.append(Problem("duplicate_annotation", f"{name} has the id of another"))
        elif size is None and sound["image_id"] in broken:
            dependents += 1
        elif size is None:
            problems.append(Problem("unknown_image", f"{name} points at an image not listed"))
        elif sound["category_id"] not in known:
            message = f"{name} has category {sound['category_id']}, which is not listed"
            problems.append(Problem("unknown_category", message))
        elif width <= 0 or height <= 0:
            problems.append(Problem("zero_area", f"{name} has a box of zero area {sound['bbox']}"))
        elif _overhang(sound["bbox"], size) > OVERHANG + _NOISE:
            message = f"{name} has a box {sound['bbox']} outside its {size[0]}x{size[1]} image"
            problems.append(Problem("box_outside", message))
        else:
            clipped += _overhang(sound["bbox"], size) > _NOISE
            sound["bbox"] = _clip(sound["bbox"], size)
            if min(sound["bbox"][2:]) > 0:
                annotations.append(sound)
            else:
                message = f"{name} has a box of zero area within its image"
                problems.append(Problem("zero_area", message))
        seen.add(sound["id"])
    return CheckedCoco(images, annotations, categories, problems, clipped, dependents)


def refuse(
    file: Path,
    problems: Sequence[Problem],
    error: type[InvalidInput] = AnnotationError,
    drop: str = "",
) -> None:
    """Raise ``error`` with one line on the first problem and the number of the others.

    ``drop`` is the option of the command that leaves such records out, where it has one.

    Does nothing when there are none.
    """
    if not problems:
        return
    more = ""
    if len(problems) > 1:
        others = count_kinds(problems[1:])
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.items())
        more = f", and {len(problems) - 1} more ({kinds})"
    way_out = f", or leave such records out with {drop}" if drop else ""
    raise error(f"{file}: {problems[0].message}{more}; correct the data{way_out}")


def count_kinds(problems: Iterable[Problem]) -> dict[str, int]:
    """Number of problems of each kind, the most frequent first."""
    return dict(Counter(problem.kind for problem in problems).most_common())


def flag(value: Any) -> bool | None:
    """What a yes-or-no field says, as tools write it; None where it says neither.

    Yes is true, 1, "1" or "true"; no is false, 0, "0", "false", "", null, or no field at all.
    """
    text = str(value).strip().casefold() if isinstance(value, str | bool | int | float) else value
    if text in (None, "", "0", "0.0", "false"):
        return False
    return True if text in ("1", "1.0", "true") else None


def is_safe_name(name: str) -> bool:
    """Tell whether a file name stays below the folder it is joined to, and can be printed."""
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
    return {number for number in ids if _is_id(number)}


def _check_categories(
    records: Sequence[Any], used: Collection[Any], problems: list[Problem]
) -> list[dict[str, Any]]:
    sound: dict[int, dict[str, Any]] = {}
    names: dict[str, dict[str, Any]] = {}
    for place, record in enumerate(records):
        if not isinstance(record, dict) or not _is_id(record.get("id")) or not record.get("name"):
            message = f"category record {place} needs an integer id and a name"
            problems.append(Problem("malformed_category", message))
        elif record["id"] in sound:
            message = f"category {record['id']} ({record['name']}) has the id of another"
            problems.append(Problem("duplicate_category", message))
        elif record["id"] in used and (other := names.get(normalised(str(record["name"])))):
            message = (
                f"categories {other['id']} ({other['name']}) and {record['id']} "
                f"({record['name']}) have one name"
            )
            problems.append(Problem("ambiguous_category", message))
        else:
            one = {"id": record["id"], "name": str(record["name"])}
            sound[one["id"]] = one
            if one["id"] in used:
                names[normalised(one["name"])] = one
    return list(sound.values())


def _check_images(
    records: Sequence[Any], problems: list[Problem]
) -> tuple[list[dict[str, Any]], set[int]]:
    """Return the sound image records, and the ids of the others as far as they have one."""
    sound: dict[int, dict[str, Any]] = {}
    names: set[str] = set()
    broken: set[int] = set()
    for place, record in enumerate(records):
        if not isinstance(record, dict) or not _is_id(record.get("id")):
            message = f"image record {place} needs an integer id"
            problems.append(Problem("malformed_image", message))
            continue
        number, name = record["id"], record.get("file_name")
        if number in sound or number in broken:
            problems.append(Problem("duplicate_image", f"image {number} has the id of another"))
            continue
        broken.add(number)
        size_is_sound = all(
            _is_id(record.get(key)) and record[key] > 0 for key in ("width", "height")
        )
        if not isinstance(name, str) or not name or not size_is_sound:
            message = f"image {number} needs a file_name and a positive integer width and height"
            problems.append(Problem("malformed_image", message))
        elif not _has_sound_attributes(record):
            message = f"image {number} needs attributes to be an object, frame_index an integer"
            problems.append(Problem("malformed_image", message))
        elif not is_safe_name(name):
            message = f"image {number} has the file name {name[:80]!r}, which {fault_of_name(name)}"
            problems.append(Problem("unsafe_file_name", message))
        elif str(PurePosixPath(name)) in names:
            message = f"image {number} has the file name {name} of another"
            problems.append(Problem("duplicate_file_name", message))
        else:
            name = str(PurePosixPath(name))
            broken.discard(number)
            names.add(name)
            sound[number] = {**record, "file_name": name}
    return list(sound.values()), broken


def _has_sound_attributes(record: Mapping[str, Any]) -> bool:
    attributes = record.get("attributes")
    if attributes is None:
        return True
    return isinstance(attributes, dict) and _is_id(attributes.get("frame_index") or 0)


def _annotation(record: Any) -> dict[str, Any] | str:
    """Return the annotation reduced to the fields in use, or what it lacks."""
    ids, box = ("id", "image_id", "category_id"), None
    if isinstance(record, dict) and all(_is_id(record.get(key)) for key in ids):
        box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(_is_finite(value) for value in box):
        return "integer ids and a bbox of four finite numbers"
    crowd = flag(record.get("iscrowd"))
    if crowd is None:
        return f"iscrowd to be 0 or 1, not {str(record['iscrowd'])[:40]!r}"
    area = record.get("area")
    if not _is_finite(area) or area <= 0:
        area = box[2] * box[3]
    return {
        "id": record["id"],
        "image_id": record["image_id"],
        "category_id": record["category_id"],
        "bbox": [float(value) for value in box],
        "area": float(area),
        "iscrowd": int(crowd),
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


def _is_id(value: Any) -> TypeGuard[int]:
    # JSON's true is an int in Python.
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _ID_LIMIT


def _is_finite(value: Any) -> TypeGuard[float]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def one_line(error: BaseException) -> str:
    """Return what an exception says, cut to one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]
