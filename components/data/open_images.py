"""Open Images' boxes: one CSV file of a row a box, corners as shares of the picture.

::

    train-annotations-bbox.csv              ImageID, LabelName, XMin, XMax, YMin, YMax, IsGroupOf
    class-descriptions-boxable.csv          LabelName, DisplayName; with or without a header
    train/ID.jpg, data/ID.jpg, images/ID.jpg

A box of a group (``IsGroupOf``) becomes a crowd, which counts neither as found nor as missed, as
Open Images' own evaluation has it. Own code, so that a broken row becomes a violation like any
other.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.data.coco import ORIGIN
from components.data.image_facts import FactsCache
from foundation.errors import AnnotationError, ImageError

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
_PLACES = ("*.csv", "annotations/*.csv", "labels/*.csv")
_DESCRIPTIONS = ("*class-descriptions*.csv", "*/*class-descriptions*.csv", "metadata/classes.csv")
_SUFFIXES = {".jpg", ".jpeg", ".png"}


def open_images_annotations(folder: Path) -> tuple[Path, ...]:
    """The CSV files of boxes of an Open Images folder; none where a folder is none."""
    files = (file for pattern in _PLACES for file in sorted(folder.glob(pattern)))
    return tuple(file for file in files if _has_boxes(file))


def read_open_images(file: Path, folder: Path, facts: FactsCache) -> dict[str, Any]:
    """Read a CSV file of boxes as a COCO payload.

    Pictures that no row names are images without objects only where they lie in the folder that
    the file is named for: ``train/`` for ``train-annotations-bbox.csv``.

    Args:
        file: the boxes.
        folder: where pictures are sought, at any depth.
        facts: sizes of the pictures, which the format does not hold.

    Raises:
        AnnotationError: the file cannot be read.
    """
    pictures = {
        one.stem: one for one in sorted(folder.rglob("*")) if one.suffix.lower() in _SUFFIXES
    }
    names = _names(folder)
    own = folder / file.name.partition("-")[0]
    empty = sorted(stem for stem, one in pictures.items() if own in one.parents)
    images: dict[str, dict[str, Any]] = {}
    categories: dict[str, int] = {}
    rows: list[dict[str, Any]] = []

    def image_of(name: str) -> dict[str, Any]:
        if name not in images:
            picture = pictures.get(name)
            size = _size(picture, facts)
            images[name] = {
                "id": len(images) + 1,
                "file_name": picture.relative_to(folder).as_posix() if picture else f"{name}.jpg",
                "width": size[0],
                "height": size[1],
            }
        return images[name]

    for line, row in _rows(file):
        image = image_of(row["ImageID"] or "")
        label = names.get(row["LabelName"] or "", row["LabelName"] or "")
        left, right, top, bottom = (_number(row[name]) for name in _COLUMNS[2:])
        width, height = image["width"], image["height"]
        rows.append(
            {
                "id": len(rows) + 1,
                "image_id": image["id"],
                "category_id": categories.setdefault(label, len(categories) + 1),
                "bbox": [
                    left * width,
                    top * height,
                    (right - left) * width,
                    (bottom - top) * height,
                ],
                "iscrowd": int((row.get("IsGroupOf") or "0").strip() == "1"),
                ORIGIN: f"line {line}",
            }
        )
    for name in empty:
        image_of(name)
    return {
        "images": list(images.values()),
        "annotations": rows,
        "categories": [{"id": number, "name": name} for name, number in categories.items()],
    }


def _has_boxes(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return set(_COLUMNS) <= set(next(csv.reader(stream), []))
    except (OSError, ValueError, csv.Error):
        return False


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, str | None]]]:
    """The line at which each row ends, and the row."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            yield from ((reader.line_num, row) for row in reader)
    except (OSError, ValueError, csv.Error) as error:
        raise AnnotationError(
            f"{file}: cannot be read as CSV ({type(error).__name__}); download it again"
        ) from error


def _names(folder: Path) -> dict[str, str]:
    """Names of the classes by label, from the descriptions as far as there are any."""
    for pattern in _DESCRIPTIONS:
        for file in sorted(folder.glob(pattern)):
            with file.open(encoding="utf-8-sig", newline="") as stream:
                return {row[0]: row[1] for row in csv.reader(stream) if len(row) > 1}
    return {}


def _size(picture: Path | None, facts: FactsCache) -> tuple[int, int]:
    try:
        if picture is None:
            return 1, 1
        known, _ = facts.look(picture.read_bytes())
        return known.width, known.height
    except (ImageError, OSError):
        return 1, 1  # ingest reports what is wrong with the picture


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan
