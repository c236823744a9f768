"""Pictures of a data set to look at: scaled, with their boxes, and in words."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from components.data.dataset import Dataset
from feature_transformer.makers import DETECTION
from feature_transformer.sound import seen
from foundation.errors import ImageError
from inference_graph.local_video.annotate import class_colour, draw_box

_LONGEST = 480
"""Pixels of a picture's longer side."""
_MARKED, _OTHERS = (60, 60, 235), (190, 190, 190)  # BGR
_OF_CATEGORY = 3
"""Pictures that stand for a category."""


@dataclass(frozen=True)
class Picture:
    """A picture with boxes.

    Attributes:
        image_id: of the data set.
        file_name: below ``images/``.
        words: what it shows, for who does not see it: "2 × car, 1 × person"; or what it reads.
        source: ``data:`` URI of a JPEG; empty where the picture cannot be read.
    """

    image_id: int
    file_name: str
    words: str
    source: str


@dataclass(frozen=True)
class Example:
    """A case of an anomaly.

    Attributes:
        images: positions of the images it is about.
        marked: ids of the annotations it is about; none where it is about whole images.
        words: what else is known of it.
    """

    images: tuple[int, ...]
    marked: frozenset[int]
    words: str


def draw(data: Dataset, index: int, marked: Collection[int] = ()) -> Picture:
    """Draw an image of a data set.

    Args:
        data: the data set.
        index: position of the image.
        marked: ids of annotations to set off; the others have thin lines and no names then.
    """
    image = data.images[index]
    names = data.category_names
    rows = data.annotations_of(index)
    counts = Counter(names[number] for number in data.category_ids[rows].tolist())
    words = ", ".join(f"{count} × {name}" for name, count in sorted(counts.items())) or "no boxes"
    if data.task != DETECTION:
        words = " / ".join(data.text_of(index).splitlines()) or "no text"
    return Picture(image.id, image.file_name, words, _drawn(data, index, set(marked)))


def _drawn(data: Dataset, index: int, marked: set[int]) -> str:
    try:
        frame = data.read(index)
    except ImageError:
        return ""
    shown = seen(frame)
    enlarged = _LONGEST / max(shown.shape[:2])
    picture = np.asarray(cv2.resize(shown, None, fx=enlarged, fy=enlarged), np.uint8)
    scale = np.array([picture.shape[1] / frame.shape[1], picture.shape[0] / frame.shape[0]] * 2)
    names = data.category_names
    labels = {category.id: label for label, category in enumerate(data.categories)}
    for row in _rows(data, index):
        x, y, wide, high = data.boxes[row].tolist()
        box = np.array((x, y, x + wide, y + high)) * scale
        category = int(data.category_ids[row])
        if marked and int(data.annotation_ids[row]) not in marked:
            left, top, right, bottom = (round(side) for side in box.tolist())
            cv2.rectangle(picture, (left, top), (right, bottom), _OTHERS, 1)
        else:
            colour = _MARKED if marked else class_colour(labels[category])
            crowd = " (crowd)" if data.is_crowd[row] else ""
            draw_box(picture, box, f"{names[category]}{crowd}", colour)
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def examples_of(data: Dataset, anomaly: Mapping[str, Any]) -> Iterator[Example]:
    """The cases of a kind of anomaly, as ``validation.json`` lists them.

    Args:
        data: the data set that was validated; cases of images it lacks are left out.
        anomaly: an entry of the list ``anomalies``.
    """
    asked = {
        one
        for case in anomaly["examples"]
        for one in (*case.get("image_ids", ()), case.get("image_id"))
    }
    ids = enumerate(data.image_ids.tolist())
    places = {number: index for index, number in ids if number in asked}
    by_name = {category.name: category.id for category in data.categories}
    for case in anomaly["examples"]:
        listed = case.get("image_ids") or ([case["image_id"]] if "image_id" in case else [])
        images = [places[one] for one in listed if one in places]
        marked = {*case.get("annotation_ids", ()), *([case.get("annotation_id")] * 1)} - {None}
        category = case.get("category_id", by_name.get(case.get("name", "")))
        if not listed and category is not None:
            images = _images_of(data, category)
            rows = [row for index in images for row in _rows(data, index)]
            marked = {int(data.annotation_ids[r]) for r in rows if data.category_ids[r] == category}
        shown = {
            key: value
            for key, value in case.items()
            if key not in ("image_ids", "image_id", "annotation_ids", "file_name", "sha256")
        }
        words = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in shown.items())
        if images or not listed:
            yield Example(tuple(images), frozenset(marked), words)


def _rows(data: Dataset, index: int) -> range:
    return range(data.offsets[index], data.offsets[index + 1])


def _images_of(data: Dataset, category: int) -> list[int]:
    """Positions of the first images with a box of a category."""
    rows = np.flatnonzero(data.category_ids == category)
    found: list[int] = np.unique(data.owners_of(rows))[:_OF_CATEGORY].tolist()
    return found
