"""Labels that a detector contradicts.

The limits were chosen on scenes of their own (docs/data.md has the figures on others). Below 12
pixels of the detector's input it mixes up classes that share their outline, a bicycle and a
motorcycle, as surely as it is right elsewhere: such boxes made most of the false finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes, match_dataset
from components.data.dataset import Dataset
from inference_graph.contract import Detections

_SURE, _SURE_OVERLAP = 0.6, 0.6
"""Score and overlap from which a detection of another class contradicts a label."""
_OWN, _OWN_OVERLAP = 0.15, 0.4
"""Score and overlap from which a detection of the label's own class still supports it."""
_LEAST_SIDE = 12.0
"""Pixels of the detector's input; a box with a shorter side is too small to be judged."""
_LEAST_OWN_SIDE = 16.0
"""Pixels of the picture itself, where it is not shrunk for the detector."""


class DetectionsByImage(Protocol):
    """Detections of a data set's images; a rung's profile is one."""

    @property
    def classes(self) -> Classes:
        """The detector's classes."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the detector's input, pixels."""

    def of(self, index: int) -> Detections:
        """Detections of the image at a position."""


def contradicted_labels(data: Dataset, found: DetectionsByImage) -> Iterator[dict[str, Any]]:
    """Boxes in whose place a detector is sure of another class, and sees none of theirs.

    Crowds, boxes that are too small in the detector's input, and categories that the detector does
    not know are left out.

    Args:
        data: the data set.
        found: what the detector sees, in the data set's order.
    """
    labels = match_dataset(data, found.classes).labels
    corners = data.boxes_xyxy
    height, width = found.input_size
    for index, image in enumerate(data.images):
        seen = found.of(index)
        rows = range(data.offsets[index], data.offsets[index + 1])
        scale = min(height / image.height, width / image.width)
        known = [
            row
            for row in rows
            if int(data.category_ids[row]) in labels
            and data.boxes[row, 2:].min() >= max(_LEAST_SIDE / scale, _LEAST_OWN_SIDE)
        ]
        if not len(seen) or not known:
            continue
        overlaps = overlap_matrix(corners[known], seen.boxes.astype(np.float64))
        for row, overlap in zip(known, overlaps, strict=True):
            own = seen.labels == labels[int(data.category_ids[row])]
            if (
                data.is_crowd[row]
                or (own & (overlap >= _OWN_OVERLAP) & (seen.scores >= _OWN)).any()
            ):
                continue
            against = np.where(~own & (overlap >= _SURE_OVERLAP), seen.scores, 0.0)
            best = int(np.argmax(against))
            if against[best] >= _SURE:
                yield {
                    "image_id": image.id,
                    "annotation_id": int(data.annotation_ids[row]),
                    "bbox": data.boxes[row].tolist(),
                    "detected": found.classes.names[int(seen.labels[best])],
                    "score": round(float(against[best]), 3),
                }


def overlap_matrix(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Intersection over union of corner boxes, float64[N, M], of float64[N, 4] and [M, 4]."""
    sides = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(
        boxes[:, None, :2], others[None, :, :2]
    )
    shared = sides.clip(min=0).prod(axis=2)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    other_areas = (others[:, 2:] - others[:, :2]).prod(axis=1)
    union = np.maximum(areas[:, None] + other_areas[None, :] - shared, 1e-12)
    overlaps: NDArray[np.float64] = shared / union
    return overlaps
