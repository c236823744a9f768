"""Oddities of a data set that are no errors, but worth a look before training on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.box_shapes import corner_boxes, normalised_boxes
from components.data.category_drift import drifted_categories
from components.data.dataset import Dataset
from components.data.image_facts import BLANK, ImageFacts
from components.data.label_check import DetectionsByImage, contradicted_labels, overlap_matrix
from components.data.near_duplicates import MOST_BITS, AlikeBits, groups_of, near_duplicates
from foundation.configuration import Share, configuration

Scope = Literal["all", "image", "set"]
"""Which oddities are looked for."""


MEANINGS: Mapping[str, str] = MappingProxyType(
    {
        "identical_images": "groups of images with the same bytes",
        "near_duplicates": "groups of different images, not of one clip, that show the same",
        "near_duplicates_across_parts": "pairs of images that show the same and are in different "
        "parts of a split",
        "images_without_objects": "images without a box",
        "blank_images": "images of one colour",
        "dark_images": "images that are nearly black",
        "bright_images": "images that are nearly white",
        "overexposed_images": "images of which a large part is white, without detail",
        "normalised_boxes": "boxes whose numbers are shares of the image, not pixels",
        "corner_boxes": "boxes that are most likely x1, y1, x2, y2 instead of x, y, width, height",
        "tiny_boxes": "boxes of a few pixels",
        "huge_boxes": "boxes that fill nearly all of the image",
        "slim_boxes": "boxes much longer than wide",
        "repeated_boxes": "pairs of boxes of one category in one place",
        "contradicted_labels": "boxes in whose place a detector sees another class",
        "crowd_only_categories": "categories whose boxes are all crowds, which count neither as "
        "found nor as missed",
        "rare_categories": "categories with very few boxes",
        "unknown_to_ladder": "annotated categories that the ladder cannot detect",
        "drifted_categories": "categories that came, went, or have another share of the boxes "
        "than in the reference",
    }
)
"""Kinds of oddity, in the order in which they are reported."""


@configuration
class AnomalyConfig:
    """What counts as odd.

    Attributes:
        tiny_side: boxes whose square root of the area is smaller (pixels).
        huge_share: boxes that cover more of their image (0 to 1).
        slim_ratio: boxes whose longer side is more times the shorter one.
        dark: images whose mean grey value is lower (0 to 1).
        bright: images whose mean grey value is higher (0 to 1).
        overexposed: images of which a larger share is white (0 to 1).
        alike_bits: images are near-duplicates whose difference hashes differ in at most so many of
            64 bits (0 to 7), and whose pixels agree.
        drift: categories whose share of the boxes differs from the reference's by more (0 to 1),
            and by more than chance explains.
        rare: categories with at least one box, but fewer than this many.
        repeated_iou: two boxes of one category in one image that overlap more (IoU, 0 to 1).
        examples: how many examples of each kind are listed.
    """

    tiny_side: Annotated[float, Field(ge=0)] = 4.0
    huge_share: Share = 0.9
    slim_ratio: Annotated[float, Field(ge=0)] = 10.0
    dark: Share = 0.08
    bright: Share = 0.92
    overexposed: Share = 0.5
    alike_bits: AlikeBits = MOST_BITS
    drift: Share = 0.05
    rare: Annotated[int, Field(ge=0)] = 5
    repeated_iou: Share = 0.95
    examples: Annotated[int, Field(ge=0)] = 20


@dataclass(frozen=True)
class Anomaly:
    """All oddities of one kind: how many, what it means, and the first few."""

    kind: str
    meaning: str
    count: int
    examples: tuple[dict[str, Any], ...]


def find_anomalies(
    data: Dataset,
    facts: Sequence[ImageFacts],
    config: AnomalyConfig,
    known: frozenset[int] | None = None,
    detections: DetectionsByImage | None = None,
    reference: Dataset | None = None,
    scope: Scope = "all",
) -> list[Anomaly]:
    """Return the kinds of oddity that occur, in a fixed order.

    Args:
        data: the data set.
        facts: facts of every image, in the data set's order.
        config: what counts as odd.
        known: categories the ladder detects, or None.
        detections: what a detector sees on the images, to hold the labels against.
        reference: an earlier version, to hold the categories against.
        scope: "image" finds what one image shows by itself, "set" what only all of them show.

    Raises:
        ImageError: a picture that has a close look-alike is missing or damaged.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    if scope != "set":
        found |= _of_images(data, facts, config)
        found["contradicted_labels"] = (
            [] if detections is None else list(contradicted_labels(data, detections))
        )
    if scope != "image":
        found |= _of_set(data, facts, config, known, reference)
    return [
        Anomaly(kind, meaning, len(cases), tuple(cases[: config.examples]))
        for kind, meaning in MEANINGS.items()
        if (cases := found.get(kind))
    ]


def joined_anomalies(parts: Iterable[Sequence[Anomaly]], examples: int) -> list[Anomaly]:
    """The oddities of several parts of a data set as those of the whole, in the fixed order.

    Args:
        parts: what was found in each, in the data set's order.
        examples: how many examples of each kind are kept.
    """
    counts: Counter[str] = Counter()
    kept: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for part in parts:
        for one in part:
            counts[one.kind] += one.count
            kept[one.kind] += one.examples[: examples - len(kept[one.kind])]
    return [
        Anomaly(kind, meaning, counts[kind], tuple(kept[kind]))
        for kind, meaning in MEANINGS.items()
        if counts[kind]
    ]


def _of_images(
    data: Dataset, facts: Sequence[ImageFacts], config: AnomalyConfig
) -> dict[str, list[dict[str, Any]]]:
    """What is odd about single images and boxes, by kind."""
    sides = np.sqrt(data.boxes[:, 2] * data.boxes[:, 3])
    owners = np.repeat(np.arange(len(data)), data.object_counts)
    pixels = np.array([image.width * image.height for image in data.images], dtype=np.float64)
    shares = sides**2 / pixels[owners]
    ratios = data.boxes[:, 2:].max(axis=1, initial=0) / data.boxes[:, 2:].min(axis=1, initial=1e9)
    brightness = np.array([fact.brightness for fact in facts])
    blank = np.array([fact.contrast < BLANK for fact in facts], np.bool_)
    white = np.array([fact.overexposed for fact in facts])
    normalised = normalised_boxes(data)

    def boxes(mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        return _boxes(data, mask)

    def images(mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
        return [
            {"image_id": image.id, "file_name": image.file_name}
            for image in (data.images[index] for index in np.flatnonzero(mask).tolist())
        ]

    return {
        "images_without_objects": images(data.object_counts == 0),
        "blank_images": images(blank),
        "dark_images": images(brightness < config.dark),
        "bright_images": images(brightness > config.bright),
        "overexposed_images": images(white > config.overexposed),
        "normalised_boxes": boxes(normalised),
        "tiny_boxes": boxes((sides < config.tiny_side) & ~normalised),
        "huge_boxes": boxes(shares > config.huge_share),
        "slim_boxes": boxes(ratios > config.slim_ratio),
        "repeated_boxes": list(_repeated(data, config.repeated_iou)),
    }


def _of_set(
    data: Dataset,
    facts: Sequence[ImageFacts],
    config: AnomalyConfig,
    known: frozenset[int] | None,
    reference: Dataset | None,
) -> dict[str, list[dict[str, Any]]]:
    """What only all images together show, by kind."""
    pairs = near_duplicates(data, facts, config.alike_bits)
    across = [
        [one.id for one in pair]
        for pair in ((data.images[i], data.images[j]) for i, j in pairs.tolist())
        if pair[0].part and pair[1].part and pair[0].part != pair[1].part
    ]
    return {
        "identical_images": _identical(data, facts),
        "near_duplicates": _alike(data, pairs),
        "near_duplicates_across_parts": [{"image_ids": ids} for ids in across],
        # Which sizes are usual for a category follows from all images.
        "corner_boxes": _boxes(data, corner_boxes(data)),
        "crowd_only_categories": _crowd_only(data),
        "rare_categories": _categories(data, lambda _, count: count < config.rare),
        "unknown_to_ladder": []
        if known is None
        else _categories(data, lambda category, _: category not in known),
        "drifted_categories": []
        if reference is None
        else list(drifted_categories(data, reference, config.drift)),
    }


def _boxes(data: Dataset, mask: NDArray[np.bool_]) -> list[dict[str, Any]]:
    rows = np.flatnonzero(mask)
    return [
        {
            "image_id": data.images[owner].id,
            "annotation_id": int(data.annotation_ids[row]),
            "bbox": data.boxes[row].tolist(),
        }
        for owner, row in zip(data.owners_of(rows).tolist(), rows.tolist(), strict=True)
    ]


def _identical(data: Dataset, facts: Sequence[ImageFacts]) -> list[dict[str, Any]]:
    starts = np.fromiter((int(fact.sha256[:15], 16) for fact in facts), np.int64, len(data))
    _, place, counts = np.unique(starts, return_inverse=True, return_counts=True)
    groups: dict[str, list[int]] = defaultdict(list)
    for index in np.flatnonzero(counts[place] > 1).tolist():
        groups[facts[index].sha256].append(data.images[index].id)
    return [{"sha256": sha256, "image_ids": ids} for sha256, ids in groups.items() if len(ids) > 1]


def _alike(data: Dataset, pairs: NDArray[np.int64]) -> list[dict[str, Any]]:
    first = groups_of(pairs, len(data))
    groups: dict[int, list[int]] = defaultdict(list)
    for index in np.unique(pairs).tolist():
        groups[int(first[index])].append(data.images[index].id)
    return [{"image_ids": ids} for _, ids in sorted(groups.items())]


def _repeated(data: Dataset, least: float) -> Iterator[dict[str, Any]]:
    for index, image in enumerate(data.images):
        rows = data.annotations_of(index)
        box, category = data.boxes_xyxy[rows], data.category_ids[rows]
        if len(box) < 2:
            continue
        iou = overlap_matrix(box, box)
        pairs = np.argwhere(np.triu(iou > least, 1) & (category[:, None] == category[None, :]))
        ids = data.annotation_ids[rows]
        for first, second in pairs:
            yield {
                "image_id": image.id,
                "annotation_ids": [int(ids[first]), int(ids[second])],
                "iou": round(float(iou[first, second]), 4),
            }


def _crowd_only(data: Dataset) -> list[dict[str, Any]]:
    single = set(data.category_ids[~data.is_crowd].tolist())
    crowds = Counter(data.category_ids[data.is_crowd].tolist())
    return [
        {"category_id": category.id, "name": category.name, "crowds": crowds[category.id]}
        for category in data.categories
        if crowds[category.id] and category.id not in single
    ]


def _categories(data: Dataset, chosen: Callable[[int, int], bool]) -> list[dict[str, Any]]:
    """Categories in use that are chosen by their id and their number of boxes."""
    counts = Counter(data.category_ids.tolist())
    return [
        {"category_id": category.id, "name": category.name, "annotations": counts[category.id]}
        for category in data.categories
        if counts[category.id] and chosen(category.id, counts[category.id])
    ]
