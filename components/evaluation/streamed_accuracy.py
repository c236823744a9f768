"""How accurate a stream was: its answers in the log, against large's and against the truth.

The log has, for every answer that large looked at too, what both saw. Frame by frame that gives
mAP50-95 of the answers and of large on the same frames, whose ratio is the accuracy retained: with
large's own detections as the truth (all that production has), and where the stream came from
annotated scenes with their boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.data.classes import Classes
from components.data.dataset import Dataset, DatasetCategory
from components.data.harvest import HarvestConfig
from components.evaluation.average_precision import (
    MatchedDetections,
    SeenDetections,
    match_detections,
)
from inference_graph.contract import GEARS, LADDER, REFERENCE, Detections
from inference_graph.prediction_log.columns import DETECTION_COLUMNS

COLUMNS = (
    "event_id",
    "frame_id",
    "time",
    "policy_revision",
    "answered_by",
    "total_ms",
    "width",
    "height",
    *DETECTION_COLUMNS,
    "agreement",
)
"""Columns of the log that are read."""

_ANSWER, _LARGE = 0, 1


@dataclass(frozen=True, eq=False)
class StreamedAccuracy:
    """N answered frames that large looked at as well, in the order of the stream.

    Attributes:
        numbers: int64 [N], number of the frame in its stream.
        times: float64 [N], seconds since 1970.
        rungs: int64 [N], who answered, as index into `GEARS`: those of the rungs are the ladder's.
        revisions: revision of the policy, by frame.
        total_ms: float64 [N], from arrival to answer.
        truth: answers and large, matched to the annotated boxes.
        pseudo: the same, matched to what large saw.
    """

    numbers: NDArray[np.int64]
    times: NDArray[np.float64]
    rungs: NDArray[np.int64]
    revisions: tuple[str, ...]
    total_ms: NDArray[np.float64]
    truth: MatchedDetections
    pseudo: MatchedDetections

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.numbers)

    def figures(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Figures of some of the frames.

        Args:
            weights: float64 [N], how often each frame counts.

        Returns:
            ``retained`` against large, ``retained_truth`` and ``map`` against the annotated boxes,
            ``large_map`` likewise, ``large_share`` and ``mean_ms``; NaN where nothing counts.
        """
        total = float(weights.sum())
        if not total:
            return dict.fromkeys(
                ("retained", "retained_truth", "map", "large_map", "large_share", "mean_ms"),
                float("nan"),
            )
        ours = self.truth.mean_average_precision(_ANSWER, weights)
        large = self.truth.mean_average_precision(_LARGE, weights)
        return {
            "retained": _ratio(
                self.pseudo.mean_average_precision(_ANSWER, weights),
                self.pseudo.mean_average_precision(_LARGE, weights),
            ),
            "retained_truth": _ratio(ours, large),
            "map": ours,
            "large_map": large,
            "large_share": float(weights @ (self.rungs == len(LADDER) - 1)) / total,
            "mean_ms": float(weights @ self.total_ms) / total,
        }


def streamed_accuracy(
    rows: pa.Table,
    scenes: Mapping[str, Dataset],
    shown: Mapping[int, tuple[str, int]],
    classes: Classes,
) -> StreamedAccuracy:
    """Match a stream's answers.

    Args:
        rows: of the log, one session's, with COLUMNS.
        scenes: the annotated data sets that were streamed, by name.
        shown: by number of the frame, the data set and the position there of what was streamed.
        classes: those of the detectors.
    """
    found = [
        row
        for row in sorted(rows.to_pylist(), key=lambda row: row["frame_id"])
        if row["frame_id"] in shown
        and (row["shadow"] or row["answered_by"] == REFERENCE)
        and row["answered_by"]
    ]
    answers = [_detections(row, "") for row in found]
    looks = [_detections(row, "shadow_" if row["shadow"] else "") for row in found]
    rungs = [SeenDetections.of(each, classes.category_ids) for each in (answers, looks)]
    truth = _shown(scenes, [shown[row["frame_id"]] for row in found])
    return StreamedAccuracy(
        numbers=np.array([row["frame_id"] for row in found], np.int64),
        times=np.array([row["time"].timestamp() for row in found], np.float64),
        rungs=np.array([GEARS.index(row["answered_by"]) for row in found], np.int64),
        revisions=tuple(row["policy_revision"] for row in found),
        total_ms=np.array([row["total_ms"] for row in found], np.float64),
        truth=match_detections(truth, rungs, classes),
        pseudo=match_detections(_as_truth(truth, rungs[_LARGE], classes), rungs, classes),
    )


def change_between(
    streamed: StreamedAccuracy,
    before: Mapping[str, NDArray[np.int64]],
    after: Mapping[str, NDArray[np.int64]],
    figure: str,
    resamples: int = 300,
    confidence: float = 0.9,
) -> tuple[float, float, float]:
    """Change of a figure between two passes over the same clips, with its interval.

    Args:
        streamed: both passes.
        before: positions of the frames of each clip in the first pass.
        after: likewise in the second; clips that only one of them has do not count.
        figure: of ``StreamedAccuracy.figures``.
        resamples: of the clips; each counts the same clips in both passes.
        confidence: of the interval.

    Returns:
        The change, and the ends of its interval; NaN without a clip.
    """
    clips = sorted(set(before) & set(after))
    rng = np.random.default_rng(0)
    drawn = [np.ones(len(clips))] + [
        np.bincount(rng.integers(0, len(clips), len(clips)), minlength=len(clips)).astype(float)
        for _ in range(resamples if clips else 0)
    ]
    changes = []
    for counts in drawn:
        values = []
        for members in (before, after):
            weights = np.zeros(len(streamed))
            for clip, count in zip(clips, counts, strict=True):
                weights[members[clip]] += count
            values.append(streamed.figures(weights)[figure])
        changes.append(values[1] - values[0])
    tail = 50 * (1 - confidence)
    low, high = np.nanpercentile(changes, (tail, 100 - tail)).tolist()
    return changes[0], low, high


def _ratio(one: float, other: float) -> float:
    return one / other if other > 0 else float("nan")


def _detections(row: Mapping[str, Any], prefix: str) -> Detections:
    return Detections(
        np.array(row[f"{prefix}boxes"] or (), np.float32).reshape(-1, 4),
        np.array(row[f"{prefix}scores"] or (), np.float32),
        np.array(row[f"{prefix}labels"] or (), np.int32),
    )


def _shown(scenes: Mapping[str, Dataset], shown: Sequence[tuple[str, int]]) -> Dataset:
    """What was streamed as a data set, frame by frame; a picture shown twice is in it twice."""
    first = next(iter(scenes.values()))
    owned = [scenes[name].annotations_of(index) for name, index in shown]
    pieces = [(scenes[name], rows) for (name, _), rows in zip(shown, owned, strict=True)]
    return replace(
        first,
        images=tuple(
            replace(scenes[name].images[index], id=number)
            for number, (name, index) in enumerate(shown)
        ),
        annotation_ids=np.arange(sum(rows.stop - rows.start for rows in owned)),
        boxes=np.concatenate([data.boxes[rows] for data, rows in pieces]),
        category_ids=np.concatenate([data.category_ids[rows] for data, rows in pieces]),
        areas=np.concatenate([data.areas[rows] for data, rows in pieces]),
        is_crowd=np.concatenate([data.is_crowd[rows] for data, rows in pieces]),
        offsets=np.concatenate(([0], np.cumsum([rows.stop - rows.start for rows in owned]))),
    )


def _as_truth(data: Dataset, seen: SeenDetections, classes: Classes) -> Dataset:
    """The same frames with what was seen as their objects, as harvested frames have them."""
    sure = seen.scores >= HarvestConfig.score
    boxes = seen.boxes[sure].astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]
    owner = np.repeat(np.arange(len(data)), np.diff(seen.offsets))[sure]
    counts = np.bincount(owner, minlength=len(data))
    return replace(
        data,
        images=tuple(replace(image, pseudo=True) for image in data.images),
        categories=tuple(map(DatasetCategory, classes.category_ids, classes.names)),
        annotation_ids=np.arange(len(boxes)),
        boxes=boxes,
        category_ids=seen.category_ids[sure],
        areas=boxes[:, 2] * boxes[:, 3],
        is_crowd=np.zeros(len(boxes), np.bool_),
        offsets=np.concatenate(([0], np.cumsum(counts))),
    )
