"""Boxes that are written as something else than x, y, width, height in pixels.

Those that leave their image are refused by ingest (``components.data.coco``). What is left fits its
image either way, and only its size gives it away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import Dataset

_LEAST_BOXES = 20  # of a category, to know its sizes; with fewer, those of all categories count
_FREEDOM = 4.0  # of Student's t: heavy tails, so that one odd box is no proof
_LEAST_EVIDENCE = 4.0  # nats, about 50 to 1


def normalised_boxes(data: Dataset) -> NDArray[np.bool_]:
    """Boxes whose four numbers are shares of their image rather than pixels, bool[M]."""
    return np.all(data.boxes <= 1.0, axis=1)


def corner_boxes(data: Dataset) -> NDArray[np.bool_]:
    """Boxes that are two corners, x1, y1, x2, y2, bool[M].

    A tool writes all boxes of an image alike, so they are judged together: each has to be a box
    when it is read as corners, and the sizes that come of it have to be much likelier, for the
    categories that they are of, than the sizes as they are. A category's sizes are known from all
    of its boxes, by median and spread, which a few wrong ones do not move.
    """
    odd = np.zeros(len(data.boxes), np.bool_)
    if not len(data.boxes):
        return odd
    as_sizes = data.boxes[:, 2:]
    as_corners = data.boxes[:, 2:] - data.boxes[:, :2]
    possible = np.all(as_corners > 1.0, axis=1)
    pixels = np.array([(image.width, image.height) for image in data.images], np.float64)
    frame = np.repeat(pixels, data.object_counts, axis=0)
    gain = _likelihood(data, as_corners.clip(min=1e-3) / frame) - _likelihood(
        data, as_sizes / frame
    )
    for index in range(len(data)):
        rows = data.annotations_of(index)
        if rows.stop > rows.start and possible[rows].all():
            odd[rows] = gain[rows].sum() > _LEAST_EVIDENCE
    return odd


def _likelihood(data: Dataset, sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of how likely sizes are for their boxes' categories, float64[M].

    Args:
        data: the data set, whose own boxes define which sizes are usual.
        sizes: width and height over the image's, float64[M, 2].
    """
    pixels = np.array([(image.width, image.height) for image in data.images], np.float64)
    usual = _logs(data.boxes[:, 2:] / np.repeat(pixels, data.object_counts, axis=0))
    asked = _logs(sizes)
    total = np.zeros(len(sizes))
    for category in np.unique(data.category_ids):
        members = data.category_ids == category
        known = usual[members] if members.sum() >= _LEAST_BOXES else usual
        middle = np.median(known, axis=0)
        spread = np.maximum(1.4826 * np.median(np.abs(known - middle), axis=0), 0.1)
        distance = ((asked[members] - middle) / spread) ** 2
        total[members] = (-0.5 * (_FREEDOM + 1) * np.log1p(distance / _FREEDOM)).sum(axis=1)
    return total


def _logs(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of area and of aspect, which vary less than width and height do."""
    logs = np.log(sizes)
    both: NDArray[np.float64] = np.stack((logs.sum(axis=1), logs[:, 0] - logs[:, 1]), axis=1)
    return both
