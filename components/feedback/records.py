"""Feedback as COCO records: boxes in pixels of the picture that is kept, cut at its border."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components.data.dataset import IMAGES_FOLDER, scene_type_of
from components.data.image_facts import facts_of_frame
from components.feedback.item import FeedbackItem
from feature_transformer.image import decode, read_header
from foundation.errors import ImageError

_LEAST_SIDE = 1.0
"""Pixels; a box that is cut to less at the border is left out."""


@dataclass(frozen=True)
class Annotated:
    """One picture with what is on it.

    Attributes:
        item: where it comes from.
        file_name: below ``images/``.
        image: its COCO record, without an id.
        objects: COCO records {category_id, bbox, area, iscrowd}, without ids.
        data: the encoded picture.
    """

    item: FeedbackItem
    file_name: str
    image: Mapping[str, Any]
    objects: tuple[Mapping[str, Any], ...]
    data: bytes

    @property
    def sha256(self) -> str:
        """Of the picture's bytes."""
        return str(self.image["sha256"])


def annotated(item: FeedbackItem, data: bytes, folder: str = "") -> Annotated:
    """An item with its picture as COCO records.

    Args:
        item: the feedback.
        data: its encoded picture.
        folder: below ``images/``, and before the name of its clip; neither without it.

    Raises:
        ImageError: the picture cannot be decoded.
    """
    header = read_header(data)
    frame = decode(data)
    height, width = frame.shape[:2]
    facts = facts_of_frame(frame, hashlib.sha256(data).hexdigest())
    suffix = {"jpeg": "jpg"}.get(header.format, header.format)
    name = f"{folder}/{item.item_id}.{suffix}" if folder else f"{item.item_id}.{suffix}"
    objects = []
    boxes = item.scaled_boxes(width, height)
    whole = np.prod(item.boxes[:, 2:] - item.boxes[:, :2], axis=1)
    for index, (left, top, right, bottom) in enumerate(boxes.tolist()):
        wide, high = right - left, bottom - top
        if wide < _LEAST_SIDE or high < _LEAST_SIDE:
            continue
        objects.append(
            {
                "category_id": int(item.category_ids[index]),
                "bbox": [left, top, wide, high],
                # An object covers the same share of its box as it did in the frame.
                "area": wide * high * float(item.areas[index] / whole[index]),
                "iscrowd": int(item.is_crowd[index]),
            }
        )
    attributes = {
        "condition": item.condition,
        "scene_type": scene_type_of(len(objects)),
        "clip": f"{folder}/{item.clip}" if folder and item.clip is not None else item.clip,
        "frame_index": item.frame_index,
        **facts.attributes,
        **({"part": item.part} if item.part is not None else {}),
    }
    image = {
        "file_name": name,
        "width": width,
        "height": height,
        "sha256": facts.sha256,
        "attributes": attributes,
    }
    return Annotated(item, name, image, tuple(objects), data)


def read_annotated(
    items: Iterable[FeedbackItem], pictures: Mapping[str, bytes], folder: str = ""
) -> tuple[list[Annotated], list[str]]:
    """Every item that has a picture, and the ids of those whose picture is gone or damaged."""
    found, lost = [], []
    for item in items:
        data = pictures.get(item.item_id)
        if data is None or item.blockers:
            lost.append(item.item_id)
            continue
        try:
            found.append(annotated(item, data, folder))
        except ImageError:
            lost.append(item.item_id)
    return found, lost


def write_pictures(records: Iterable[Annotated], root: Path) -> list[Path]:
    """Write pictures below ``root/images``; returns their files in the same order."""
    files = []
    for record in records:
        file = root / IMAGES_FOLDER / record.file_name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(record.data)
        files.append(file)
    return files
