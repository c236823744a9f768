"""How far two detectors agree on one frame: the accuracy retained in production, without labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference_graph.contract import Detections
from inference_graph.tasks.ocr.reading import normal, one_minus_ned, text_of

AGREEMENT_IOU = 0.5
"""From this overlap on, two boxes of a class are the same object."""
AGREEMENT_SCORE = 0.25
"""Detections below this score do not count."""


def agreement(answer: Detections, shadow: Detections) -> float:
    """F1 of an answer when the shadow's detections are taken for the truth.

    Detections of at least 0.25 count. In falling score, each one of the answer takes the free
    shadow box of its class that it overlaps most, if that is by at least 0.5 (intersection over
    union); with T such pairs, F1 = 2 T / (n + m).

    Where both read text it is how alike their texts are, 1 - normalised edit distance.

    Args:
        answer: what the chosen rung saw, by falling score.
        shadow: what the reference saw on the same frame, in the same pixels.

    Returns:
        0..1; 1 when neither saw anything.
    """
    if answer.texts is not None and shadow.texts is not None:
        return one_minus_ned(normal(text_of(shadow)), normal(text_of(answer)))
    mine, theirs = answer.at_least(AGREEMENT_SCORE), shadow.at_least(AGREEMENT_SCORE)
    total = len(mine) + len(theirs)
    if not total:
        return 1.0
    if not len(mine) or not len(theirs):
        return 0.0
    overlap = _overlaps(mine.boxes.astype(np.float64), theirs.boxes.astype(np.float64))
    overlap[mine.labels[:, None] != theirs.labels[None]] = 0.0
    pairs = 0
    for row in overlap:
        best = int(row.argmax())
        if row[best] >= AGREEMENT_IOU:
            pairs += 1
            overlap[:, best] = 0.0  # taken; ``row`` is a view, and done
    return 2 * pairs / total


def _overlaps(
    boxes: npt.NDArray[np.float64], others: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Intersection over union, float64 [n, m]; 0 where both boxes have no area."""
    corner = np.maximum(boxes[:, None, :2], others[None, :, :2])
    sides = np.maximum(np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - corner, 0.0)
    shared = sides[..., 0] * sides[..., 1]
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    union = areas[:, None] + np.prod(others[:, 2:] - others[:, :2], axis=1)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
