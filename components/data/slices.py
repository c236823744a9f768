"""Slices of a data set by which it may be biased, and how unevenly a split shares them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from sys import intern

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

    Images of one slice share one text, so that a large set takes a few bytes an image.
    """
    counts = Counter(pair for index in range(len(data)) for pair in _pairs(data, index))
    names = data.category_names
    common = {
        pair: f"{names[pair[0]]} and {names[pair[1]]}" for pair, _ in counts.most_common(_PAIRS)
    }
    found: dict[str, list[str]] = {
        kind: [] for kind in ("brightness", "object size", "density", "condition", "category pair")
    }
    captured: dict[str, list[str]] = {"time of day": [], "place": []}
    for index, image in enumerate(data.images):
        shown = set(_pairs(data, index))
        found["brightness"].append(_brightness(image.brightness))
        found["object size"].append(_size(data, index))
        found["density"].append(intern(image.scene_type))
        found["condition"].append(intern(image.condition))
        found["category pair"].append(
            next((name for pair, name in common.items() if pair in shown), "other")
        )
        captured["time of day"].append(intern(image.time_of_day))
        captured["place"].append(intern(image.place))
    for kind, values in captured.items():
        if set(values) - {UNKNOWN}:
            frequent = {name for name, _ in Counter(values).most_common(_PLACES)} | {UNKNOWN}
            found[kind] = [name if name in frequent else "other" for name in values]
    return {kind: tuple(many) for kind, many in found.items()}


def coded(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different names in order, and the place of each among them, int64[N]."""
    different = sorted(set(names))
    places = {name: place for place, name in enumerate(different)}
    return different, np.fromiter((places[name] for name in names), np.int64, len(names))


def imbalance(slices: Mapping[str, Sequence[str]], part_of: NDArray[np.int64]) -> dict[str, float]:
    """How far the parts' shares of the slices are from the whole set's, by what is looked at.

    The total variation distance, 0 (the same) to 1 (nothing in common), of the part that is worst.

    Args:
        slices: as ``slices_of`` returns them.
        part_of: part of each image, int64[N], counted from 0.
    """
    return {kind: _distance(coded(names)[1], part_of) for kind, names in slices.items()}


def random_imbalance(
    slices: Mapping[str, Sequence[str]],
    group_of: NDArray[np.int64],
    shares: NDArray[np.float64],
    seed: int,
) -> dict[str, float]:
    """The imbalance of splits that hand out the same groups at random, on average.

    Args:
        slices: as ``slices_of`` returns them.
        group_of: group of each image, int64[N], counted from 0; a group stays together.
        shares: of the parts, summing up to 1.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    sizes = np.bincount(group_of)
    codes = {kind: coded(names)[1] for kind, names in slices.items()}
    draws: dict[str, list[float]] = {kind: [] for kind in slices}
    for _ in range(_DRAWS):
        order = random.permutation(len(sizes))
        filled = (np.cumsum(sizes[order]) - sizes[order] / 2) / sizes.sum()
        part_of_group = np.empty(len(sizes), np.int64)
        part_of_group[order] = np.searchsorted(np.cumsum(shares)[:-1], filled)
        for kind, many in codes.items():
            draws[kind].append(_distance(many, part_of_group[group_of]))
    return {kind: round(float(np.mean(many)), 4) for kind, many in draws.items()}


def _distance(codes: NDArray[np.int64], part_of: NDArray[np.int64]) -> float:
    """Total variation distance of the worst part from the whole set."""
    kinds = int(codes.max()) + 1
    counts = np.bincount(part_of * kinds + codes, minlength=kinds * (int(part_of.max()) + 1))
    counts = counts.reshape(-1, kinds)
    shares = counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    whole = np.bincount(codes) / len(codes)
    return round(float(np.abs(shares - whole).sum(axis=1).max() / 2), 4)


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


def _pairs(data: Dataset, index: int) -> Iterator[tuple[int, int]]:
    shown = sorted(set(data.category_ids[data.annotations_of(index)].tolist()))
    return combinations(shown, 2)
