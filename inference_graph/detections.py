"""Detected objects as JSON: one shape for every answer, and what a client may leave out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NotRequired

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from foundation.errors import InvalidInput
from foundation.nearest import unknown
from inference_graph.contract import Detections
from inference_graph.tracking import TrackedDetections

CONFIDENCE = 0.25
"""Default of :attr:`DetectionFilter.confidence`, as in Ultralytics' ``predict``. Detectors keep
boxes down to 0.01 for the policy, the log and mAP; to a client most of those are noise."""


class Detection(TypedDict):
    """One object."""

    box: Annotated[
        list[float], Field(description="Corners x1, y1, x2, y2 in pixels of the image sent.")
    ]
    score: Annotated[float, Field(description="0 to 1.")]
    label: Annotated[int, Field(description="Class index of the detector.")]
    category_id: Annotated[int, Field(description="COCO category id.")]
    name: Annotated[str, Field(description="Class name.")]
    text: NotRequired[
        Annotated[str, Field(description="What the line reads, of a ladder that reads text.")]
    ]
    track: NotRequired[
        Annotated[
            int | None,
            Field(description="The same for the same object of a stream; null if too weak."),
        ]
    ]
    age: NotRequired[
        Annotated[int, Field(description="Frames since a detector saw the object; 0 for this one.")]
    ]


@dataclass(frozen=True, slots=True)
class DetectionFilter:
    """Which detections an answer holds; policy, log and metrics always see all of them.

    Attributes:
        confidence: detections below this score are left out, 0..1.
        classes: names of the classes to keep; empty keeps all.
    """

    confidence: float = CONFIDENCE
    classes: frozenset[str] = frozenset()

    def keep(self, found: Detections, class_names: Sequence[str]) -> Detections:
        """Those that pass.

        Args:
            found: what a detector found.
            class_names: of the detector, in the order of its labels.
        """
        return found.take(self.rows(found, class_names))

    def rows(self, found: Detections, class_names: Sequence[str]) -> npt.NDArray[np.intp]:
        """Places of those that pass, in order; see :meth:`keep`."""
        passing = found.scores >= self.confidence
        if self.classes:
            passing &= np.array([name in self.classes for name in class_names], bool)[found.labels]
        return np.flatnonzero(passing)


class _Parameters(BaseModel):
    model_config = ConfigDict(extra="forbid")

    confidence: float = Field(CONFIDENCE, ge=0, le=1)
    classes: list[str] = []


def read_filter(parameters: object, known: Sequence[str]) -> DetectionFilter:
    """The filter of a V1 request: ``"parameters": {"confidence": 0.5, "classes": ["car"]}``.

    Args:
        parameters: the request's; None for the defaults.
        known: names of the detector's classes.

    Raises:
        InvalidInput: an unknown parameter or class, or a value out of its range.
    """
    if parameters is None:
        return DetectionFilter()
    try:
        read = _Parameters.model_validate(parameters)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("parameters", *first["loc"]))
        raise InvalidInput(f"{where[:100]}: {first['msg']}") from error
    return DetectionFilter(read.confidence, read_classes(read.classes, known))


def read_classes(given: str | Sequence[str], known: Sequence[str]) -> frozenset[str]:
    """Names of classes to keep.

    Args:
        given: the names, as a list or separated by commas; empty for all classes.
        known: names there are; empty where they are not known yet, then every name is accepted.

    Raises:
        InvalidInput: a name that no detector has.
    """
    listed = given.split(",") if isinstance(given, str) else given
    names = frozenset(filter(None, (name.strip() for name in listed)))
    for name in sorted(names.difference(known)) if known else ():
        raise InvalidInput(f"classes: {unknown(name, known)}")
    return names


def detections_json(
    found: Detections, class_names: Sequence[str], category_ids: Sequence[int]
) -> list[Detection]:
    """Detections as JSON objects.

    Args:
        found: what a detector found.
        class_names: of the detector, in the order of its labels.
        category_ids: COCO category ids, likewise.
    """
    boxes = np.round(found.boxes.astype(np.float64), 2).tolist()
    scores = np.round(found.scores.astype(np.float64), 4).tolist()
    shown: list[Detection] = [
        {
            "box": box,
            "score": score,
            "label": label,
            "category_id": category_ids[label],
            "name": class_names[label],
        }
        for box, score, label in zip(boxes, scores, found.labels.tolist(), strict=True)
    ]
    for one, text in zip(shown, found.texts or (), strict=False):
        one["text"] = text
    return shown


def tracked_json(
    tracked: TrackedDetections,
    wanted: DetectionFilter,
    class_names: Sequence[str],
    category_ids: Sequence[int],
) -> list[Detection]:
    """The fused state of a frame as JSON objects, each with its track.

    Args:
        tracked: the state.
        wanted: which of it.
        class_names: of the detector, in the order of its labels.
        category_ids: COCO category ids, likewise.
    """
    rows = wanted.rows(tracked.detections, class_names)
    shown = detections_json(tracked.detections.take(rows), class_names, category_ids)
    tracks, ages = tracked.track_ids[rows].tolist(), tracked.ages[rows].tolist()
    for one, track, age in zip(shown, tracks, ages, strict=True):
        one["track"] = track if track >= 0 else None
        one["age"] = age
    return shown
