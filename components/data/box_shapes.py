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
    sizes = np.array([(image.width, image.height) for image in data.images], np.float64)
    possible = np.zeros(len(data.boxes), np.bool_)
    gain = np.zeros(len(data.boxes))
    counts = np.unique(data.category_ids, return_counts=True)
    for category, count in zip(*counts, strict=True):
        # One category after the other, so that a large set takes little memory at once.
        members = np.flatnonzero(data.category_ids == category)
        shares = _shares(data, sizes, members, corners=False)
        known = shares if count >= _LEAST_BOXES else _shares(data, sizes, slice(None), False)
        usual = _logs(known)
        as_corners = _shares(data, sizes, members, corners=True)
        possible[members] = np.all(data.boxes[members, 2:] - data.boxes[members, :2] > 1.0, axis=1)
        gain[members] = _likelihood(as_corners, usual) - _likelihood(shares, usual)
    for index in range(len(data)):
        rows = data.annotations_of(index)
        if rows.stop > rows.start and possible[rows].all():
            odd[rows] = gain[rows].sum() > _LEAST_EVIDENCE
    return odd


def _shares(
    data: Dataset,
    sizes: NDArray[np.float64],
    members: NDArray[np.int64] | slice,
    corners: bool,
) -> NDArray[np.float64]:
    """Width and height of boxes over their image's, float64[n, 2].

    Args:
        data: the data set.
        sizes: width and height of the images, float64[N, 2].
        members: positions of the boxes.
        corners: whether the boxes are read as x1, y1, x2, y2.
    """
    boxes = data.boxes[members]
    sides = (boxes[:, 2:] - boxes[:, :2]).clip(min=1e-3) if corners else boxes[:, 2:]
    rows = np.arange(len(data.boxes))[members]
    shares: NDArray[np.float64] = sides / sizes[data.owners_of(rows)]
    return shares


def _likelihood(shares: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithm of how likely sizes are, float64[n].

    Args:
        shares: width and height over the image's, float64[n, 2].
        usual: as ``_logs`` returns them, of the boxes that show which sizes are usual.
    """
    middle = np.median(usual, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(usual - middle), axis=0), 0.1)
    distance = ((_logs(shares) - middle) / spread) ** 2
    total: NDArray[np.float64] = (-0.5 * (_FREEDOM + 1) * np.log1p(distance / _FREEDOM)).sum(axis=1)
    return total


def _logs(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Logarithms of area and of aspect, which vary less than width and height do."""
    logs = np.log(sizes)
    both: NDArray[np.float64] = np.stack((logs.sum(axis=1), logs[:, 0] - logs[:, 1]), axis=1)
    return both
