"""Oddities of a data set that are no errors, but worth a look before training on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset
from components.data.image_facts import ImageFacts

_FLAT_HASHES = {"0" * 16, "f" * 16}
"""Hashes of pictures without structure; looking alike means nothing for them."""


@dataclass(frozen=True)
class AnomalyConfig:
    """What counts as odd.

    Attributes:
        tiny_side: boxes whose square root of the area is smaller (pixels).
        huge_share: boxes that cover more of their image (0 to 1).
        slim_ratio: boxes whose longer side is more times the shorter one.
        dark: images whose mean grey value is lower (0 to 1).
        bright: images whose mean grey value is higher (0 to 1).
        rare: categories with at least one box, but fewer than this many.
        repeated_iou: two boxes of one category in one image that overlap more (IoU, 0 to 1).
        examples: how many examples of each kind are listed.
    """

    tiny_side: float = 4.0
    huge_share: float = 0.9
    slim_ratio: float = 10.0
    dark: float = 0.08
    bright: float = 0.92
    rare: int = 5
    repeated_iou: float = 0.95
    examples: int = 20


@dataclass(frozen=True)
class Anomaly:
    """All oddities of one kind: how many, what it means, and the first few."""

    kind: str
    meaning: str
    count: int
    examples: tuple[dict[str, Any], ...]


def find_anomalies(
    data: Dataset,
    facts: list[ImageFacts],
    config: AnomalyConfig,
    known: frozenset[int] | None = None,
) -> list[Anomaly]:
    """Return the kinds of oddity that occur, in a fixed order.

    Args:
        data: the data set.
        facts: facts of every image, in the data set's order.
        config: what counts as odd.
        known: categories the ladder detects, or None.
    """
    sides = np.sqrt(data.boxes[:, 2] * data.boxes[:, 3])
    owners = np.repeat(np.arange(len(data)), data.object_counts)
    pixels = np.array([image.width * image.height for image in data.images], dtype=np.float64)
    shares = sides**2 / pixels[owners]
    ratios = data.boxes[:, 2:].max(axis=1, initial=0) / data.boxes[:, 2:].min(axis=1, initial=1e9)
    brightness = np.array([fact.brightness for fact in facts])

    def boxes(mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        return [
            {
                "image_id": data.images[owners[row]].id,
                "annotation_id": int(data.annotation_ids[row]),
                "bbox": data.boxes[row].tolist(),
            }
            for row in np.flatnonzero(mask)
        ]

    def images(mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        return [
            {"image_id": data.images[index].id, "file_name": data.images[index].file_name}
            for index in np.flatnonzero(mask)
        ]

    found = [
        ("identical_images", "groups of images with the same bytes", _identical(data, facts)),
        (
            "look_alikes",
            "groups of different images, not of one clip, that look the same (difference hash)",
            _look_alikes(data, facts),
        ),
        ("images_without_objects", "images without a box", images(data.object_counts == 0)),
        ("dark_images", "images that are nearly black", images(brightness < config.dark)),
        ("bright_images", "images that are nearly white", images(brightness > config.bright)),
        ("tiny_boxes", "boxes of a few pixels", boxes(sides < config.tiny_side)),
        (
            "huge_boxes",
            "boxes that fill nearly all of the image",
            boxes(shares > config.huge_share),
        ),
        ("slim_boxes", "boxes much longer than wide", boxes(ratios > config.slim_ratio)),
        (
            "repeated_boxes",
            "pairs of boxes of one category in one place",
            list(_repeated(data, config.repeated_iou)),
        ),
        ("rare_categories", "categories with very few boxes", _rare(data, config.rare)),
        (
            "unknown_to_ladder",
            "annotated categories that the ladder cannot detect",
            _unknown(data, known),
        ),
    ]
    return [
        Anomaly(kind, meaning, len(cases), tuple(cases[: config.examples]))
        for kind, meaning, cases in found
        if cases
    ]


def _identical(data: Dataset, facts: list[ImageFacts]) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for image, fact in zip(data.images, facts, strict=True):
        groups[fact.sha256].append(image.id)
    return [{"sha256": sha256, "image_ids": ids} for sha256, ids in groups.items() if len(ids) > 1]


def _look_alikes(data: Dataset, facts: list[ImageFacts]) -> list[dict[str, Any]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, fact in enumerate(facts):
        if fact.dhash not in _FLAT_HASHES:
            groups[fact.dhash].append(index)
    cases = []
    for dhash, members in groups.items():
        contents = {facts[index].sha256 for index in members}
        # Frames of a clip are expected to look alike; two clips, or two stills, are not.
        origins = {data.images[index].clip or index for index in members}
        if len(contents) > 1 and len(origins) > 1:
            cases.append({"dhash": dhash, "image_ids": [data.images[i].id for i in members]})
    return cases


def _repeated(data: Dataset, least: float) -> Iterator[dict[str, Any]]:
    corners = data.boxes_xyxy
    for index, image in enumerate(data.images):
        rows = data.annotations_of(index)
        box, category = corners[rows], data.category_ids[rows]
        if len(box) < 2:
            continue
        overlap = np.minimum(box[:, None, 2:], box[None, :, 2:]) - np.maximum(
            box[:, None, :2], box[None, :, :2]
        )
        shared = overlap.clip(min=0).prod(axis=2)
        area = (box[:, 2:] - box[:, :2]).prod(axis=1)
        iou = shared / (area[:, None] + area[None, :] - shared)
        pairs = np.argwhere(np.triu(iou > least, 1) & (category[:, None] == category[None, :]))
        ids = data.annotation_ids[rows]
        for first, second in pairs:
            yield {
                "image_id": image.id,
                "annotation_ids": [int(ids[first]), int(ids[second])],
                "iou": round(float(iou[first, second]), 4),
            }


def _rare(data: Dataset, least: int) -> list[dict[str, Any]]:
    counts = Counter(data.category_ids.tolist())
    return [
        {"category_id": category.id, "name": category.name, "annotations": counts[category.id]}
        for category in data.categories
        if 0 < counts[category.id] < least
    ]


def _unknown(data: Dataset, known: frozenset[int] | None) -> list[dict[str, Any]]:
    if known is None:
        return []
    counts = Counter(data.category_ids.tolist())
    return [
        {"category_id": category.id, "name": category.name, "annotations": counts[category.id]}
        for category in data.categories
        if counts[category.id] and category.id not in known
    ]
