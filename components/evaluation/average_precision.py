"""Mean average precision of routed detections, and what each frame adds to it.

COCO's measure (mAP50-95: ten IoU thresholds, 101 recall points, one hundred detections per frame;
Lin et al. 2014, arXiv 1405.0312) over detections of which each frame may come from another rung.
Matching a detection to the ground truth depends on its own frame alone, so it is done once per
rung; any routing, and any bootstrap resample, is then a weighted walk over one sorted table.
That is why it stands here beside faster-coco-eval, against which the tests hold it: a report
needs thousands of such figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from components.data.classes import Classes, match_dataset
from components.data.dataset import Dataset
from inference_graph.contract import Detections

IOU_THRESHOLDS: NDArray[np.float64] = np.linspace(0.5, 0.95, 10)
RECALL_POINTS: NDArray[np.float64] = np.linspace(0.0, 1.0, 101)

_MOST_PER_CATEGORY = 100


class FrameDetections(Protocol):
    """One rung's raw detections of a data set, image by image in the data set's order."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Image ``i`` owns the rows ``offsets[i]:offsets[i + 1]``; int64 [N + 1]."""

    @property
    def boxes(self) -> NDArray[np.float32]:
        """Corners x1, y1, x2, y2 in pixels, float32 [D, 4]."""

    @property
    def scores(self) -> NDArray[np.float32]:
        """Scores, 0..1, float32 [D]."""

    @property
    def category_ids(self) -> NDArray[np.int64]:
        """COCO category ids, int64 [D]."""


@dataclass(frozen=True, eq=False)
class SeenDetections:
    """Detections of a data set that were never written down; see FrameDetections."""

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    category_ids: NDArray[np.int64]
    texts: tuple[str, ...] | None = None

    @staticmethod
    def of(found: Sequence[Detections], category_ids: Sequence[int]) -> SeenDetections:
        """Put together what was seen on each image.

        Args:
            found: one per image, in the data set's order; at least one.
            category_ids: COCO's id of each label.
        """
        labels = np.concatenate([one.labels for one in found])
        return SeenDetections(
            np.concatenate(([0], np.cumsum([len(one) for one in found]))).astype(np.int64),
            np.concatenate([one.boxes for one in found]),
            np.concatenate([one.scores for one in found]),
            np.array(category_ids, np.int64)[labels],
            None
            if any(one.texts is None for one in found)
            else tuple(text for one in found for text in one.texts or ()),
        )


@dataclass(frozen=True, eq=False)
class MatchedDetections:
    """All rungs' detections, matched to the ground truth and sorted for counting.

    Attributes:
        frames: int64 [D], position of the frame in the data set.
        rungs: int64 [D], index of the rung that made the detection.
        categories: int64 [D], index of the evaluated category; rows are sorted by it, and by
            falling score within it.
        hits: bool [D, 10], whether the detection found an object, per IoU threshold.
        ignored: bool [D, 10], whether it fell on a crowd region and counts neither way.
        truths: int64 [N, C], objects of each frame and category, crowds not counted.
        rung_count: number of rungs.
    """

    frames: NDArray[np.int64]
    rungs: NDArray[np.int64]
    categories: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    truths: NDArray[np.int64]
    rung_count: int

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """The rows of each category."""
        edges = np.searchsorted(self.categories, np.arange(self.truths.shape[1] + 1))
        return tuple(slice(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True))

    def mean_average_precision(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> float:
        """MAP50-95 when each frame's detections come from the rung chosen for it.

        Args:
            choice: int64 [N], index of the rung per frame, or one rung for all; -1 leaves the
                frame without detections.
            weights: float64 [N], how often each frame counts (0 leaves it out with its objects;
                a bootstrap resample is a vector of counts); all ones by default.

        Returns:
            0..1; NaN where no evaluated object is left.
        """
        found = self.average_precisions(choice, weights)
        counted = ~np.isnan(found)
        return float(found[counted].mean()) if counted.any() else float("nan")

    def average_precisions(
        self, choice: NDArray[np.int64] | int, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        """AP50-95 of each category, float64 [C]; NaN for one without objects.

        Args:
            choice: see `mean_average_precision`.
            weights: see `mean_average_precision`.
        """
        frames, categories = self.truths.shape
        chosen = np.full(frames, choice) if np.isscalar(choice) else np.asarray(choice)
        weight = np.ones(frames) if weights is None else np.asarray(weights, np.float64)
        objects = weight @ self.truths
        row_weight = np.where(chosen[self.frames] == self.rungs, weight[self.frames], 0.0)
        found = np.full(categories, np.nan)
        for category in np.flatnonzero(objects > 0):
            rows = self.blocks[category]
            found[category] = _average_precision(
                self.hits[rows], self.ignored[rows], row_weight[rows], float(objects[category])
            )
        return found

    accuracy = mean_average_precision
    class_accuracies = average_precisions

    def chosen(self, choice: NDArray[np.int64]) -> MatchedDetections:
        """The answers of one routing alone, as those of a single rung.

        Args:
            choice: int64 [N], index of the rung per frame.
        """
        rows = choice[self.frames] == self.rungs
        return MatchedDetections(
            self.frames[rows],
            np.zeros(int(rows.sum()), np.int64),
            self.categories[rows],
            self.hits[rows],
            self.ignored[rows],
            self.truths,
            1,
        )

    def contributions(self) -> NDArray[np.float64]:
        """What each frame adds to the set's mAP, by the rung that looks at it.

        mAP is a measure of the whole set: one false alarm with a high score costs precision at
        every lower score of its category. A frame's own AP does not show that, so quality here is
        the frame's first-order influence on the set's mAP (the idea of judging a frame within an
        ensemble is Qiu et al. 2024, arXiv 2410.18919; the closed form is ours). For a category
        with P objects, and detections in falling score with weights v, hits h, cumulated hits
        A_k = sum(v h) and cumulated detections n_k::

            AP           ~ 1/P sum_k v_k h_k A_k / n_k
            d AP / d v_j = 1/P [ h_j A_j/n_j + sum_{k>=j} v_k h_k (h_j n_k - A_k) / n_k^2 ]

        The reference ensemble is every rung's detections at equal weight, so that scores of all
        rungs are ranked against each other as a routed set ranks them. A frame's quality is the
        sum over its detections, averaged over thresholds and categories, times the number of
        frames: its mean over the frames is about the set's mAP.

        Returns:
            float64 [N, R]; frames without objects or detections have 0.
        """
        frames, categories = self.truths.shape
        quality = np.zeros((frames, self.rung_count))
        evaluated = np.flatnonzero(self.truths.sum(axis=0))
        share = 1.0 / self.rung_count
        for category in evaluated:
            rows = self.blocks[category]
            influence = _influence(
                self.hits[rows], self.ignored[rows], share, float(self.truths[:, category].sum())
            )
            np.add.at(quality, (self.frames[rows], self.rungs[rows]), influence)
        return quality * (frames / max(1, len(evaluated)))


def match_detections(
    dataset: Dataset, rungs: Sequence[FrameDetections], classes: Classes
) -> MatchedDetections:
    """Match every rung's detections to the data set's objects, as COCO's evaluation does.

    On a frame whose boxes a detector drew (``pseudo``) a detection that overlaps by half counts as
    found at every threshold: the box it is held against is itself no more exact, and stricter
    thresholds would measure how alike two networks place a box rather than which is right.

    Args:
        dataset: images and objects.
        rungs: raw detections of each rung, in the ladder's order.
        classes: those that count, usually the ladder's; objects belong to them by name.

    Returns:
        The table that all figures are counted from.

    Raises:
        AnnotationError: two categories of the data set mean one class, or one means two.
    """
    index_of = {category: index for index, category in enumerate(classes.category_ids)}
    label_of = match_dataset(dataset, classes).labels
    truth_category = np.array([label_of.get(int(c), -1) for c in dataset.category_ids], np.int64)
    truths = np.zeros((len(dataset), len(index_of)), np.int64)
    owner = np.repeat(np.arange(len(dataset)), dataset.object_counts)
    counted = (truth_category >= 0) & ~dataset.is_crowd
    np.add.at(truths, (owner[counted], truth_category[counted]), 1)
    parts: list[tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.bool_]]] = []
    for rung, detections in enumerate(rungs):
        category = np.array([index_of.get(int(c), -1) for c in detections.category_ids], np.int64)
        outcome = np.zeros((len(category), 2, len(IOU_THRESHOLDS)), np.bool_)
        keep = np.zeros(len(category), np.bool_)
        for frame in range(len(dataset)):
            seen = slice(int(detections.offsets[frame]), int(detections.offsets[frame + 1]))
            there = dataset.annotations_of(frame)
            for kind in np.unique(category[seen]):
                if kind < 0:
                    continue
                mine = np.flatnonzero(category[seen] == kind) + seen.start
                order = np.argsort(-detections.scores[mine], kind="stable")
                mine = mine[order[:_MOST_PER_CATEGORY]]
                objects = np.flatnonzero(truth_category[there] == kind) + there.start
                found = _match(
                    detections.boxes[mine].astype(np.float64),
                    dataset.boxes_xyxy[objects],
                    dataset.is_crowd[objects],
                )
                outcome[mine] = found[..., :1] if dataset.images[frame].pseudo else found
                keep[mine] = True
        frames = np.repeat(np.arange(len(dataset)), np.diff(detections.offsets))
        where = np.stack([frames, np.full(len(frames), rung), category], axis=1)[keep]
        parts.append((where, detections.scores[keep], outcome[keep]))
    where = np.concatenate([part[0] for part in parts])
    scores = np.concatenate([part[1] for part in parts])
    outcome = np.concatenate([part[2] for part in parts])
    order = np.lexsort((where[:, 1], where[:, 0], -scores.astype(np.float64), where[:, 2]))
    where, outcome = where[order], outcome[order]
    return MatchedDetections(
        where[:, 0], where[:, 1], where[:, 2], outcome[:, 0], outcome[:, 1], truths, len(rungs)
    )


def _overlaps(
    boxes: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU [n, m]; for a crowd region the share of the box that lies in it, as COCO has it."""
    corner = np.maximum(boxes[:, None, :2], objects[None, :, :2])
    side = np.maximum(np.minimum(boxes[:, None, 2:], objects[None, :, 2:]) - corner, 0.0)
    shared = side[..., 0] * side[..., 1]
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)[:, None]
    other = np.prod(objects[:, 2:] - objects[:, :2], axis=1)[None]
    union = np.where(crowd[None], area, area + other - shared)
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _match(
    boxes: NDArray[np.float64], objects: NDArray[np.float64], crowd: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Greedy matching of one frame and category; boxes come in falling score.

    Returns:
        bool [n, 2, 10]: hit and ignored, per threshold.
    """
    outcome = np.zeros((len(boxes), 2, len(IOU_THRESHOLDS)), np.bool_)
    if not len(objects):
        return outcome
    overlap = _overlaps(boxes, objects, crowd)
    plain, crowds = overlap[:, ~crowd], overlap[:, crowd]
    free = np.ones((len(IOU_THRESHOLDS), plain.shape[1]), np.bool_)
    levels = np.arange(len(IOU_THRESHOLDS))
    for row in np.flatnonzero(overlap.max(axis=1) >= IOU_THRESHOLDS[0]):
        if plain.shape[1]:
            able = np.where(free & (plain[row] >= IOU_THRESHOLDS[:, None]), plain[row], -1.0)
            best = able.argmax(axis=1)
            hit = able[levels, best] >= 0.0
            free[levels[hit], best[hit]] = False
            outcome[row, 0] = hit
        if crowds.shape[1]:
            outcome[row, 1] = ~outcome[row, 0] & (crowds[row].max() >= IOU_THRESHOLDS)
    return outcome


def _average_precision(
    hits: NDArray[np.bool_], ignored: NDArray[np.bool_], weights: NDArray[np.float64], total: float
) -> float:
    """AP of one category, averaged over the thresholds; rows come in falling score."""
    used = weights > 0
    hits, ignored, weights = hits[used], ignored[used], weights[used, None]
    found = np.cumsum(hits * weights, axis=0)
    seen = np.cumsum(~ignored * weights, axis=0)
    precision = np.divide(found, seen, out=np.zeros_like(found), where=seen > 0)
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    recall = found / total
    result = 0.0
    for level in range(len(IOU_THRESHOLDS)):
        # Plain floats as COCO has them: 7/10 falls short of its point 0.7000000000000001.
        at = np.searchsorted(recall[:, level], RECALL_POINTS, side="left")
        reached = at[at < len(recall)]
        result += float(envelope[reached, level].sum()) / len(RECALL_POINTS)
    return result / len(IOU_THRESHOLDS)


def _influence(
    hits: NDArray[np.bool_], ignored: NDArray[np.bool_], share: float, total: float
) -> NDArray[np.float64]:
    """First-order change of one category's AP per unit of weight of each detection, float64 [n]."""
    hit = hits.astype(np.float64)
    counted = (~ignored).astype(np.float64)
    found = np.cumsum(hit, axis=0) * share
    seen = np.maximum(np.cumsum(counted, axis=0) * share, 1e-12)
    precision = found / seen
    gained = np.cumsum((share * hit / seen)[::-1], axis=0)[::-1]
    lost = np.cumsum((share * hit * precision / seen)[::-1], axis=0)[::-1]
    influence = (hit * (precision + gained) - counted * lost) / total
    return np.asarray(influence.mean(axis=1))
