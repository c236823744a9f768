"""From a YOLO head's raw output to detections: candidates, then non-maximum suppression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from inference_graph.contract import Detections

_BLOCK = 128
"""Candidates compared at once; larger blocks compare pairs that a kept box would have settled."""


def candidates(
    output: npt.NDArray[np.float32],
    confidence: float,
    multi_label: bool = False,
    limit: int = 1000,
) -> Detections:
    """The boxes whose score exceeds a confidence, best first.

    Args:
        output: float32 [4 + classes, anchors]: centre x, centre y, width, height, class scores.
        confidence: scores must be greater than this, 0..1.
        multi_label: whether an anchor counts once for every class above the confidence (as
            validation does) or for its best class only (as prediction does).
        limit: at most so many are kept, the best ones.

    Returns:
        Detections in the pixels of ``output``, by falling score.
    """
    classes = output[4:]
    if multi_label:
        labels, anchors = np.nonzero(classes > confidence)
        scores = classes[labels, anchors]
    else:
        best = classes.max(axis=0)
        anchors = np.flatnonzero(best > confidence)
        scores = best[anchors]
        labels = classes[:, anchors].argmax(axis=0)
    order = np.argsort(-scores, kind="stable")[:limit]
    anchors = anchors[order]
    centre, half = output[0:2, anchors].T, output[2:4, anchors].T / np.float32(2)
    boxes = np.concatenate((centre - half, centre + half), axis=1)
    return Detections(boxes, scores[order], labels[order].astype(np.int32))


def suppress(found: Detections, iou: float, limit: int) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression, each class on its own.

    A box is dropped when its intersection over union with a kept box of the same class and a
    higher score exceeds ``iou``; equal to torchvision.ops.batched_nms.

    Args:
        found: detections by falling score.
        iou: threshold, 0..1.
        limit: at most so many are kept.

    Returns:
        Indices of the kept ones, by falling score.
    """
    boxes, labels = found.boxes.astype(np.float64), found.labels
    areas: npt.NDArray[np.float64] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = np.empty(0, np.intp)
    for start in range(0, len(boxes), _BLOCK):
        block = np.arange(start, min(start + _BLOCK, len(boxes)))
        if len(kept):
            block = block[~_rivals(boxes, areas, labels, kept, block, iou).any(axis=0)]
        beats = _rivals(boxes, areas, labels, block, block, iou)
        alive = np.ones(len(block), bool)
        # Only boxes that overlap a rival need a look one by one.
        for index in np.flatnonzero(beats.sum(axis=1) > 1):
            if alive[index]:
                alive[index + 1 :] &= ~beats[index, index + 1 :]
        kept = np.concatenate((kept, block[alive]))
        if len(kept) >= limit:
            break
    return kept[:limit]


def _rivals(
    boxes: npt.NDArray[np.float64],
    areas: npt.NDArray[np.float64],
    labels: npt.NDArray[np.int32],
    first: npt.NDArray[np.intp],
    second: npt.NDArray[np.intp],
    iou: float,
) -> npt.NDArray[np.bool_]:
    """Pairs [first, second] of one class that overlap by more than ``iou``."""
    one, two = boxes[first], boxes[second]
    width = np.minimum(one[:, None, 2], two[None, :, 2])
    width -= np.maximum(one[:, None, 0], two[None, :, 0])
    height = np.minimum(one[:, None, 3], two[None, :, 3])
    height -= np.maximum(one[:, None, 1], two[None, :, 1])
    shared = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    # shared > iou * union, without a division that an empty box would make 0 / 0.
    over = shared > iou * (areas[first][:, None] + areas[second][None, :] - shared)
    over &= labels[first][:, None] == labels[second][None, :]
    return np.asarray(over, np.bool_)
