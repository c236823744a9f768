"""Slices of a data set by which it may be biased, and how unevenly a split shares them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from components.data.capture import UNKNOWN
from components.data.dataset import Dataset

_DARK, _BRIGHT = 0.25, 0.6  # mean grey value
_SMALL, _LARGE = 32.0**2, 96.0**2  # square pixels, COCO's size classes
_PAIRS, _PLACES = 10, 12
_DRAWS = 20  # random splits that one is compared with


def slices_of(data: Dataset) -> dict[str, tuple[str, ...]]:
    """The slice of each image, by what is looked at.

    ``brightness`` of the picture, ``object size`` (the median box), ``density`` (scene type),
    ``condition``, ``category pair``: the most frequent pair of categories that it shows; and, where
    the data record it of any image, ``time of day`` and ``place`` (the most frequent ones).
    """
    pairs = [_pairs(data, index) for index in range(len(data))]
    common = [
        pair for pair, _ in Counter(one for many in pairs for one in many).most_common(_PAIRS)
    ]
    names = {category.id: category.name for category in data.categories}
    shown = [next((pair for pair in common if pair in many), None) for many in pairs]
    found = {
        "brightness": tuple(_brightness(image.brightness) for image in data.images),
        "object size": tuple(_size(data, index) for index in range(len(data))),
        "density": tuple(image.scene_type for image in data.images),
        "condition": tuple(image.condition for image in data.images),
        "category pair": tuple(
            "other" if pair is None else f"{names[pair[0]]} and {names[pair[1]]}" for pair in shown
        ),
    }
    captured = {
        "time of day": [image.time_of_day for image in data.images],
        "place": [image.place for image in data.images],
    }
    for kind, values in captured.items():
        if set(values) - {UNKNOWN}:
            frequent = {name for name, _ in Counter(values).most_common(_PLACES)} | {UNKNOWN}
            found[kind] = tuple(name if name in frequent else "other" for name in values)
    return found


def imbalance(slices: Mapping[str, Sequence[str]], part_of: NDArray[np.int64]) -> dict[str, float]:
    """How far the parts' shares of the slices are from the whole set's, by what is looked at.

    The total variation distance, 0 (the same) to 1 (nothing in common), of the part that is worst.

    Args:
        slices: as ``slices_of`` returns them.
        part_of: part of each image, int64[N], counted from 0.
    """
    found = {}
    for kind, names in slices.items():
        _, codes = np.unique(np.array(names), return_inverse=True)
        whole = np.bincount(codes) / len(codes)
        counts = np.zeros((int(part_of.max()) + 1, len(whole)))
        np.add.at(counts, (part_of, codes), 1.0)
        shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
        found[kind] = round(float(np.abs(shares - whole).sum(axis=1).max() / 2), 4)
    return found


def random_imbalance(
    slices: Mapping[str, Sequence[str]],
    groups: Sequence[NDArray[np.int64]],
    shares: NDArray[np.float64],
    seed: int,
) -> dict[str, float]:
    """The imbalance of splits that hand out the same groups at random, on average.

    Args:
        slices: as ``slices_of`` returns them.
        groups: positions that stay together.
        shares: of the parts, summing up to 1.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    sizes = np.array([len(group) for group in groups])
    draws = []
    for _ in range(_DRAWS):
        order = random.permutation(len(groups))
        filled = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
        part_of = np.zeros(int(sizes.sum()), np.int64)
        for group, part in zip(order, np.searchsorted(np.cumsum(shares)[:-1], filled), strict=True):
            part_of[groups[int(group)]] = part
        draws.append(imbalance(slices, part_of))
    return {kind: round(float(np.mean([draw[kind] for draw in draws])), 4) for kind in slices}


def _brightness(value: float | None) -> str:
    if value is None:
        return "unknown"
    return "dark" if value < _DARK else "bright" if value > _BRIGHT else "medium"


def _size(data: Dataset, index: int) -> str:
    areas = data.areas[data.annotations_of(index)]
    if not len(areas):
        return "none"
    median = float(np.median(areas))
    return "small" if median < _SMALL else "large" if median >= _LARGE else "medium"


def _pairs(data: Dataset, index: int) -> set[tuple[int, int]]:
    shown = sorted(set(data.category_ids[data.annotations_of(index)].tolist()))
    return {(one, other) for place, one in enumerate(shown) for other in shown[place + 1 :]}
