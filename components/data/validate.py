"""Stage validate: what is in a data set, what is odd about it, and whether one can train on it.

Ingest has made sure that every record is sound; here the data as a whole are looked at. Oddities
are reported, not refused: only a data set on which nothing can be learnt is an error.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.data.anomalies import (
    Anomaly,
    AnomalyConfig,
    Scope,
    find_anomalies,
    joined_anomalies,
)
from components.data.classes import Classes, ClassMatch, refuse_unjudgeable
from components.data.dataset import SCENE_TYPES, Dataset, load_dataset
from components.data.image_facts import ImageFacts, facts_of_frame, known_facts
from components.data.label_check import DetectionsByImage
from components.data.overview import html_report, markdown_report
from components.parallel import Progress, ordered_map
from feature_transformer.image import decode
from foundation.configuration import configuration
from foundation.errors import AnnotationError, ImageError
from foundation.storage import atomic_path

STATISTICS_FILE = "validation.json"
HTML_FILE = "report.html"
MARKDOWN_FILE = "report.md"

_COCO_SMALL, _COCO_LARGE = 32.0**2, 96.0**2  # square pixels; COCO's own size classes


@configuration
class ValidateConfig(AnomalyConfig):
    """What a data set must have; the other attributes are AnomalyConfig's.

    Attributes:
        min_images: fewer images are refused.
        min_boxes: fewer boxes are refused; crowds do not count.
        workers: threads that look at pictures ingest has not seen; 0 is one per core.
    """

    min_images: Annotated[int, Field(ge=1)] = 16
    min_boxes: Annotated[int, Field(ge=1)] = 1
    workers: int = 0


@dataclass(frozen=True)
class ValidateSummary:
    """The main numbers of a data set.

    Attributes:
        images: pictures.
        annotations: boxes.
        clips: clips of several frames; stills are not counted.
        images_without_objects: pictures without a box.
        scene_types: pictures by scene type.
        conditions: pictures by condition.
        crowds: boxes that stand for a crowd; accuracy does not count them.
        known_share: share of the boxes whose category the ladder knows (0 to 1); None when the
            ladder's classes were not given.
        renamed: the ladder's class, by the category's name, where the two are written differently.
        unknown: names of categories in use that the ladder does not know.
        anomalies: number of oddities by kind; kinds that do not occur are left out.
    """

    images: int
    annotations: int
    clips: int
    images_without_objects: int
    scene_types: dict[str, int]
    conditions: dict[str, int]
    crowds: int
    known_share: float | None
    anomalies: dict[str, int]
    renamed: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def validate(
    dataset: Path,
    out: Path,
    config: ValidateConfig | None = None,
    classes: Classes | None = None,
    progress: Progress | None = None,
    detections: DetectionsByImage | None = None,
    reference: Path | None = None,
    found: Sequence[Anomaly] | None = None,
) -> ValidateSummary:
    """Examine a data set and write ``validation.json``, ``report.html`` and ``report.md``.

    Args:
        dataset: canonical data set folder.
        out: folder for the three files; appears whole or not at all.
        config: what to demand and what counts as odd.
        classes: what the ladder detects, to which categories belong by name; None when no ladder
            is at hand.
        progress: called with pictures looked at and in all; those ingest has seen are not counted.
        detections: what a detector sees on the images, to hold the labels against.
        reference: folder of an earlier version, to hold the categories against.
        found: what is odd about single images and boxes, where it has been looked for.

    Raises:
        AnnotationError: too few images or boxes, no box of a category the ladder knows, only
            crowds, or categories whose names are ambiguous.
        ImageError: a picture is missing or damaged.
        StorageError: the disk is full.
    """
    config = config or ValidateConfig()
    data = load_dataset(dataset)
    match = _refuse_useless(data, config, classes)
    earlier = None if reference is None else load_dataset(reference)
    statistics = examine(data, config, match, progress, detections, earlier, found)
    with atomic_path(out) as folder:
        folder.mkdir()
        text = json.dumps(statistics, indent=1, allow_nan=False)
        (folder / STATISTICS_FILE).write_text(text + "\n", encoding="utf-8")
        (folder / HTML_FILE).write_text(html_report(statistics), encoding="utf-8")
        (folder / MARKDOWN_FILE).write_text(markdown_report(statistics), encoding="utf-8")
    return ValidateSummary(
        images=len(data),
        annotations=len(data.boxes),
        clips=statistics["clips"],
        images_without_objects=statistics["images_without_objects"],
        scene_types=statistics["scene_types"],
        conditions=statistics["conditions"],
        crowds=statistics["crowd"],
        known_share=statistics["known_share"],
        anomalies={one["kind"]: one["count"] for one in statistics["anomalies"]},
        renamed={} if match is None else dict(match.renamed),
        unknown=() if match is None else match.unknown,
    )


def examine(
    data: Dataset,
    config: ValidateConfig,
    match: ClassMatch | None = None,
    progress: Progress | None = None,
    detections: DetectionsByImage | None = None,
    earlier: Dataset | None = None,
    found: Sequence[Anomaly] | None = None,
) -> dict[str, Any]:
    """What is in a data set and what is odd about it: the content of ``validation.json``.

    Args:
        data: the data set.
        config: what counts as odd.
        match: how its categories match the ladder's classes; None where no ladder is at hand.
        progress: as in ``validate``.
        detections: what a detector sees on the images, to compare the labels with.
        earlier: an earlier version, to compare the categories with.
        found: as in ``validate``.

    Raises:
        ImageError: a picture is missing or damaged.
    """
    known = None if match is None else frozenset(match.labels)
    facts = facts_of(data, config.workers, progress)
    scope: Scope = "all" if found is None else "set"
    anomalies = find_anomalies(data, facts, config, known, detections, earlier, scope)
    anomalies = joined_anomalies([found or (), anomalies], config.examples)
    return _statistics(data, facts, anomalies, match)


def _refuse_useless(
    data: Dataset, config: ValidateConfig, classes: Classes | None
) -> ClassMatch | None:
    """Refuse data on which nothing can be learnt; returns how categories match the classes."""
    if len(data) < config.min_images:
        raise AnnotationError(
            f"the data set has {len(data)} images, too few to train and judge a policy; "
            f"give at least {config.min_images}"
        )
    crowds = int(data.is_crowd.sum())
    if len(data.boxes) - crowds < config.min_boxes:
        aside = f" beside {crowds} of crowds (iscrowd 1), which do not count" if crowds else ""
        raise AnnotationError(
            f"the data set has {len(data.boxes) - crowds} annotated boxes{aside}, so no accuracy "
            f"can be measured; give at least {config.min_boxes}"
        )
    return None if classes is None else refuse_unjudgeable(data, classes)


def facts_of(
    data: Dataset, workers: int = 0, progress: Progress | None = None
) -> Sequence[ImageFacts]:
    """Facts of every image; those that ingest has stored are not computed again."""
    missing = [index for index, one in enumerate(data.images) if known_facts(one) is None]
    looked_at: dict[int, ImageFacts] = {}

    def look(index: int) -> ImageFacts:
        path = data.path_of(index)
        try:
            content = path.read_bytes()
            return facts_of_frame(decode(content), hashlib.sha256(content).hexdigest())
        except (OSError, ImageError) as error:
            raise ImageError(f"{path}: {error}; run ingest on the source again") from error

    for done, (index, fact) in enumerate(
        zip(missing, ordered_map(look, missing, workers), strict=True), start=1
    ):
        looked_at[index] = fact
        if progress:
            progress(done, len(missing))
    return _Facts(data, looked_at)


class _Facts(Sequence[ImageFacts]):
    """Facts of every image, made of its record when they are asked for."""

    def __init__(self, data: Dataset, looked_at: Mapping[int, ImageFacts]) -> None:
        self._images, self._looked_at = data.images, looked_at

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> ImageFacts: ...
    @overload
    def __getitem__(self, index: slice) -> list[ImageFacts]: ...
    def __getitem__(self, index: int | slice) -> ImageFacts | list[ImageFacts]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        fact = self._looked_at.get(index) or known_facts(self._images[index])
        if fact is None:
            raise IndexError(f"no facts of image {index}")
        return fact


def _statistics(
    data: Dataset,
    facts: Sequence[ImageFacts],
    anomalies: list[Anomaly],
    match: ClassMatch | None,
) -> dict[str, Any]:
    """Return the content of validation.json, from which both reports are drawn."""
    areas = data.boxes[:, 2] * data.boxes[:, 3]
    sides = np.sqrt(areas)
    pixels = np.empty(len(data))
    sizes: Counter[tuple[int, int]] = Counter()
    by_condition: dict[str, Counter[str]] = {}
    clips: Counter[str | None] = Counter()
    for index, image in enumerate(data.images):
        pixels[index] = image.width * image.height
        sizes[image.width, image.height] += 1
        by_condition.setdefault(image.condition, Counter())[image.scene_type] += 1
        clips[image.clip] += 1
    shares = areas / np.repeat(pixels, data.object_counts)
    scene_types = sum(by_condition.values(), Counter[str]())
    known_share = None
    if match is not None:
        known_share = round(float(np.isin(data.category_ids, list(match.labels)).mean()), 4)
    brightness = np.array([fact.brightness for fact in facts])
    return {
        "task": data.task,
        "images": len(data),
        "annotations": len(data.boxes),
        "crowd": int(data.is_crowd.sum()),
        "clips": len(clips.keys() - {None}),
        "stills": clips[None],
        "images_without_objects": int((data.object_counts == 0).sum()),
        "source_sha256": data.info.get("source_sha256"),
        "dropped": data.info.get("dropped") or {},
        "categories": _categories(data, match),
        "known_share": known_share,
        "scene_types": {name: scene_types[name] for name in SCENE_TYPES},
        "conditions": {
            condition: counts.total() for condition, counts in sorted(by_condition.items())
        },
        "scene_types_by_condition": {
            condition: {name: counts[name] for name in SCENE_TYPES}
            for condition, counts in sorted(by_condition.items())
        },
        "objects_per_image": _spread(data.object_counts.astype(np.float64)),
        "objects_per_image_counts": np.bincount(data.object_counts).tolist(),
        "box_side": _spread(sides),
        "box_side_histogram": _histogram(sides, np.array([0, *2.0 ** np.arange(1, 12), np.inf])),
        "box_area_share": _spread(shares),
        "coco_sizes": {
            "small": int((data.areas < _COCO_SMALL).sum()),
            "medium": int(((data.areas >= _COCO_SMALL) & (data.areas < _COCO_LARGE)).sum()),
            "large": int((data.areas >= _COCO_LARGE).sum()),
        },
        "image_sizes": [
            {"width": width, "height": height, "images": count}
            for (width, height), count in sizes.most_common()
        ],
        "brightness": _spread(brightness),
        "brightness_histogram": _histogram(brightness, np.linspace(0, 1, 21)),
        "anomalies": [
            {
                "kind": anomaly.kind,
                "meaning": anomaly.meaning,
                "count": anomaly.count,
                "examples": list(anomaly.examples),
            }
            for anomaly in anomalies
        ],
    }


def _categories(data: Dataset, match: ClassMatch | None) -> list[dict[str, Any]]:
    """Return the listed categories with their counts, the most frequent first."""
    rows = []
    for category in data.categories:
        boxes = np.flatnonzero(data.category_ids == category.id)
        rows.append(
            {
                "id": category.id,
                "name": category.name,
                "annotations": len(boxes),
                "images": len(np.unique(data.owners_of(boxes))),
                "known": None if match is None else category.id in match.labels,
                "class": None if match is None else match.class_of(category),
            }
        )
    return sorted(rows, key=lambda row: (-row["annotations"], row["id"]))


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    points = {"min": 0, "p10": 10, "p50": 50, "p90": 90, "max": 100}
    spread = {name: round(float(np.percentile(values, q)), 4) for name, q in points.items()}
    return spread | {"mean": round(float(values.mean()), 4)}


def _histogram(values: NDArray[np.float64], edges: NDArray[np.float64]) -> list[dict[str, Any]]:
    counts = np.histogram(values, bins=edges)[0]
    return [
        {
            "from": round(float(low), 4),
            "to": round(float(high), 4) if np.isfinite(high) else None,
            "count": int(count),
        }
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
