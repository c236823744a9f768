"""The context block: the previous look, the rungs' queues and the operating point as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.errors import ConfigurationError, InvalidInput

Features = npt.NDArray[np.float32]

LADDER = ("nano", "small", "large")
"""The rungs, cheapest first. Floor 2 takes its ladder from here."""

COUNT_SCORES = (0.05, 0.25, 0.5)
DOUBT_SCORE = 0.05
SEEN_SCORE = 0.25
"""A detection counts as seen from this score on."""
TINY_SIZE = 0.05
LOAD_UNIT_MS = 100.0
LOAD_LIMIT = 10.0
PREFERENCE_RANGE = (-4.0, 1.0)
DEFAULT_LATENCY_WEIGHT = 0.1

LOOK_NAMES = (
    "known",
    *(f"previous_is_{rung}" for rung in LADDER),
    *("count_5", "count_25", "count_50", "score_mean", "score_min", "doubt", "score_sum"),
    *("size_mean", "size_small", "tiny", "crowding", "kinds"),
)
LOAD_NAMES = tuple(f"load_{rung}" for rung in LADDER)
CONTEXT_NAMES = (*LOOK_NAMES, *LOAD_NAMES, "preference")
CONTEXT_FEATURES = len(CONTEXT_NAMES)


@dataclass(frozen=True)
class Look:
    """What one rung saw on one frame.

    Attributes:
        rung: index into ``LADDER`` of the rung that looked.
        boxes: float32 [n, 4], corners x1, y1, x2, y2 in pixels of the frame.
        scores: float32 [n], 0..1.
        labels: integers [n], class indices.
        width: frame width in pixels.
        height: frame height in pixels.
    """

    rung: int
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[Any]
    width: int
    height: int

    def __post_init__(self) -> None:
        """Refuse values that cannot be a look.

        Raises:
            InvalidInput: an unknown rung, an empty frame, or arrays that do not belong together.
        """
        count = len(self.scores)
        if not 0 <= self.rung < len(LADDER):
            raise InvalidInput(f"a look by rung {self.rung}; the ladder has rungs 0..2")
        if self.width <= 0 or self.height <= 0:
            raise InvalidInput(f"a look at a frame of {self.width}x{self.height} pixels")
        if self.boxes.shape != (count, 4) or self.labels.shape != (count,):
            raise InvalidInput(
                f"a look with boxes {self.boxes.shape}, scores ({count},) and labels "
                f"{self.labels.shape}; they must be [n, 4], [n] and [n]"
            )


def look_features(look: Look | None) -> Features:
    """The part of the context about the previous look's detections.

    Args:
        look: what the chosen rung saw on the previous frame; None for a first frame or a still.

    Returns:
        float32 [16], named by ``LOOK_NAMES``; all zeros without a look.
    """
    features = np.zeros(len(LOOK_NAMES), np.float32)
    if look is None:
        return features
    features[0] = 1.0
    features[1 + look.rung] = 1.0

    scores = look.scores.astype(np.float64)
    counts = [np.count_nonzero(scores >= floor) for floor in COUNT_SCORES]
    start = 1 + len(LADDER)
    features[start : start + 3] = [math.log1p(count) / 3 for count in counts]
    kept = scores[scores >= DOUBT_SCORE]
    features[start + 5] = math.log1p(float((kept * (1 - kept)).sum())) / 2
    features[start + 6] = math.log1p(float(kept.sum())) / 3

    seen = scores >= SEEN_SCORE
    if not seen.any():
        return features
    boxes = look.boxes[seen].astype(np.float64)
    widths = np.maximum(boxes[:, 2] - boxes[:, 0], 0.0)
    heights = np.maximum(boxes[:, 3] - boxes[:, 1], 0.0)
    areas = widths * heights
    sizes = np.sqrt(areas / (look.width * look.height))
    features[start + 3] = scores[seen].mean()
    features[start + 4] = scores[seen].min()
    features[start + 7] = sizes.mean()
    features[start + 8] = _tenth_percentile(sizes)
    features[start + 9] = (sizes < TINY_SIZE).mean()
    features[start + 10] = _crowding(boxes, areas)
    features[start + 11] = len(set(look.labels[seen].tolist())) / 8
    return features


def load_features(load_ms: Sequence[float]) -> Features:
    """Expected waits as features.

    Args:
        load_ms: expected wait in milliseconds in the queue of every rung, in the ladder's order.

    Returns:
        float32 [3] in 0..10, in units of 100 ms.

    Raises:
        ConfigurationError: not one finite number for each rung.
    """
    waits = np.asarray(load_ms, np.float32)
    if waits.shape != (len(LADDER),) or not np.isfinite(waits).all():
        raise ConfigurationError(
            f"load_ms is {load_ms!r}; give one finite number of milliseconds per rung"
        )
    return np.clip(waits / np.float32(LOAD_UNIT_MS), 0.0, LOAD_LIMIT).astype(np.float32)


def preference(latency_weight: float) -> float:
    """The operating point as a feature: log10 of the latency weight, clipped to [-4, 1].

    Args:
        latency_weight: lambda of ``reward = quality - lambda * latency / latency of large``.

    Raises:
        ConfigurationError: a negative or not finite weight.
    """
    if not math.isfinite(latency_weight) or latency_weight < 0:
        raise ConfigurationError(
            f"the latency weight is {latency_weight}; give a finite number of at least 0"
        )
    low, high = PREFERENCE_RANGE
    if latency_weight <= 10**low:
        return low
    return min(math.log10(latency_weight), high)


def context_features(
    look: Look | None,
    load_ms: Sequence[float] = (0.0, 0.0, 0.0),
    latency_weight: float = DEFAULT_LATENCY_WEIGHT,
) -> Features:
    """The context block: previous look, load, operating point.

    Returns:
        float32 [20], named by ``CONTEXT_NAMES``.

    Raises:
        ConfigurationError: loads or latency weight out of range.
    """
    return np.concatenate(
        (
            look_features(look),
            load_features(load_ms),
            np.array([preference(latency_weight)], np.float32),
        )
    )


def _crowding(boxes: npt.NDArray[np.float64], areas: npt.NDArray[np.float64]) -> float:
    """Mean over the boxes of the largest intersection over union with another box, 0..1."""
    if len(boxes) < 2:
        return 0.0
    corner = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
    sides = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - corner
    np.maximum(sides, 0.0, out=sides)
    shared = sides[..., 0] * sides[..., 1]
    union = areas[:, None] + areas[None, :] - shared
    union[union <= 0] = np.inf  # two boxes without area overlap by nothing
    overlap = shared / union
    overlap.flat[:: len(boxes) + 1] = 0.0
    return float(overlap.max(axis=1).mean())


def _tenth_percentile(values: npt.NDArray[np.float64]) -> float:
    """NumPy's, between neighbours by interpolation, in a tenth of its time."""
    rising = np.sort(values)
    place = 0.1 * (len(rising) - 1)
    below = int(place)
    low, high = float(rising[below]), float(rising[min(below + 1, len(rising) - 1)])
    share = place - below
    return low + (high - low) * share if share < 0.5 else high - (high - low) * (1 - share)
