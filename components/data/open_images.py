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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from components.data.coco_payload import CocoPayload, number_of, size_of
from components.data.image_facts import FactsCache
from foundation.errors import AnnotationError

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
    payload = CocoPayload()
    numbers: dict[str, int] = {}

    def image_of(name: str) -> dict[str, Any]:
        if name not in numbers:
            picture = pictures.get(name)
            path = picture.relative_to(folder).as_posix() if picture else f"{name}.jpg"
            numbers[name] = payload.add_image(path, size_of(picture, facts))
        return payload.images[numbers[name] - 1]

    for line, row in _rows(file):
        image = image_of(row["ImageID"])
        label = names.get(row["LabelName"], row["LabelName"])
        left, right, top, bottom = (number_of(row[name]) for name in _COLUMNS[2:])
        width, height = image["width"], image["height"]
        payload.add_box(
            image["id"],
            payload.category(label),
            [left * width, top * height, (right - left) * width, (bottom - top) * height],
            f"line {line}",
            iscrowd=int(row.get("IsGroupOf", "").strip() == "1"),
        )
    for name in empty:
        image_of(name)
    return payload.content()


def _has_boxes(file: Path) -> bool:
    try:
        return set(_COLUMNS) <= set(next(_read(file), []))
    except AnnotationError:
        return False


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, str]]]:
    """The number of each row, the header's being 1, and its values by column."""
    lines = _read(file)
    header = next(lines, [])
    if repeated := [name for name in _COLUMNS if header.count(name) > 1]:
        raise AnnotationError(f"{file}: has the column {repeated[0]} twice; name one otherwise")
    for number, row in enumerate(lines, 2):
        if row:
            yield number, dict.fromkeys(header, "") | dict(zip(header, row, strict=False))


def _read(file: Path) -> Iterator[list[str]]:
    try:
        if not file.is_file():
            raise FileNotFoundError(file)
        with file.open(encoding="utf-8-sig", newline="") as stream:
            yield from csv.reader(stream)
    except (OSError, ValueError, csv.Error) as error:
        raise AnnotationError(
            f"{file}: cannot be read as CSV ({type(error).__name__}); download it again"
        ) from error


def _names(folder: Path) -> dict[str, str]:
    """Names of the classes by label, from the descriptions as far as there are any."""
    for pattern in _DESCRIPTIONS:
        for file in sorted(folder.glob(pattern)):
            return {row[0]: row[1] for row in _read(file) if len(row) > 1}
    return {}
