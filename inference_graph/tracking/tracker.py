"""A multi-object tracker that fuses the detections of successive frames.

Each track moves at constant velocity. A detection belongs to the track of its class that it
overlaps most (greedy association by intersection over union, in falling score, as in SORT, Bewley
et al. 2016, arXiv 1602.00763). Box and score of the two are averaged, so that one weak answer does
not lose an object that better ones saw. A track without a detection is carried on for a few frames
with a falling score.

Neither a Kalman filter nor an optimal assignment: boxes of a detector are exact to a few pixels, so
averaging is as good, and the tracker has to cost a fraction of the cheapest detector.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from foundation.configuration import Share, configuration
from foundation.errors import InvalidInput
from inference_graph.contract import LADDER, Detections

Boxes = npt.NDArray[np.float64]

RUNG_TRUST: Mapping[str, float] = MappingProxyType(dict(zip(LADDER, (0.6, 0.9, 1.0), strict=True)))
"""How much the answer of each rung counts against what a track remembers."""

_TRUST_LIMIT = 2.0
_TRUST_DECAY = 0.9
_STEADY = 2
"""Sightings from which on a track has a velocity."""
_LEAST_OUTPUT_SCORE = 0.005
_LEAST_VISIBLE_SHARE = 0.4
"""A predicted box of which less is inside the frame has left it."""


@configuration
class TrackerConfig:
    """How detections become tracks.

    Attributes:
        iou: least intersection over union of a detection and its track.
        least_score: least score of a detection that starts a track.
        box_memory: weight of the predicted box against the detected one.
        score_memory: weight of the track's score against the detection's.
        score_decay: factor on a track's score for each look that missed it. A frame that no
            detector looked at leaves it as it is.
        velocity_rate: weight of the newest displacement in the velocity.
        max_age: frames without a detection after which a track ends.
    """

    iou: Share = 0.3
    least_score: Share = 0.05
    # Twice the weight is what a track gets against a detection that deserves no trust.
    box_memory: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    score_memory: Annotated[float, Field(ge=0, le=0.5)] = 0.3
    score_decay: Share = 0.5
    velocity_rate: Share = 0.5
    max_age: Annotated[int, Field(ge=0)] = 2


@dataclass(frozen=True, slots=True)
class TrackedDetections:
    """The fused state of one frame.

    Attributes:
        detections: boxes, scores and labels, by falling score.
        track_ids: int64 [n], the same for the same object from frame to frame; -1 for a detection
            too weak to start a track.
        ages: int64 [n], frames since a detector last saw the object; 0 for this frame.
    """

    detections: Detections
    track_ids: npt.NDArray[np.int64]
    ages: npt.NDArray[np.int64]


class Tracker:
    """The tracks of one stream; make one for each stream, and give it the frames in order."""

    def __init__(self, config: TrackerConfig | None = None) -> None:
        """Start without tracks."""
        self.config = config or TrackerConfig()
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        """End all tracks, for example after a cut; ids go on."""
        self._boxes = np.zeros((0, 4))
        self._velocity = np.zeros((0, 4))
        self._scores = np.zeros(0)
        self._labels = np.zeros(0, np.int64)
        self._ages = np.zeros(0, np.int64)
        self._misses = np.zeros(0, np.int64)
        self._sightings = np.zeros(0, np.int64)
        self._trust = np.zeros(0)
        self._ids = np.zeros(0, np.int64)

    def __len__(self) -> int:
        """Number of tracks."""
        return len(self._ids)

    def update(
        self,
        detections: Detections,
        width: int,
        height: int,
        trust: float = 1.0,
        steps: int = 1,
    ) -> TrackedDetections:
        """Take what a detector saw on the next frame.

        Args:
            detections: boxes in pixels of the frame, by falling score.
            width: of the frame, pixels.
            height: of the frame, pixels.
            trust: how much a detector's answer counts against the track; less for a lighter one.
            steps: frames from the last one to this one; more than 1 where frames were dropped.

        Returns:
            The fused state: every detection, and the tracks that it did not see.

        Raises:
            InvalidInput: trust is not above 0, or steps is below 1.
        """
        if not 0 < trust < math.inf:
            raise InvalidInput(f"trust is {trust}; give a number above 0")
        _check_steps(steps)
        config = self.config
        if steps > 1:
            self._move(steps - 1)
            self._prune(width, height)
        predicted = self._boxes + self._velocity
        boxes = detections.boxes.astype(np.float64)
        scores = detections.scores.astype(np.float64)
        labels = detections.labels.astype(np.int64)
        track_of = _associate(boxes, labels, predicted, self._labels, config.iou)
        found = track_of >= 0
        tracks = track_of[found]

        # A track that trusted detectors confirmed again and again moves less than a young one. One
        # that was seen once has no velocity yet: its box would hold the object where it was.
        memory = 2 * self._trust[tracks] / (self._trust[tracks] + trust)
        hold = config.box_memory * memory * (self._sightings[tracks] >= _STEADY)
        boxes[found] += hold[:, None] * (predicted[tracks] - boxes[found])
        scores[found] += config.score_memory * memory * (self._scores[tracks] - scores[found])

        unseen = np.ones(len(self._ids), bool)
        unseen[tracks] = False
        started = ~found & (detections.scores >= config.least_score)
        ids = np.full(len(scores), -1)
        ids[found] = self._ids[tracks]
        ids[started] = self._next_id + np.arange(int(started.sum()))
        self._next_id += int(started.sum())
        ages, self._misses = self._ages[unseen] + 1, self._misses + unseen
        result = _visible(
            np.concatenate((boxes, predicted[unseen])),
            np.concatenate((scores, self._faded()[unseen])),
            np.concatenate((labels, self._labels[unseen])),
            np.concatenate((ids, self._ids[unseen])),
            np.concatenate((np.zeros(len(scores), np.int64), ages)),
            (width, height),
        )
        self._move(1)
        self._confirm(tracks, boxes[found], scores[found], trust)
        self._start(boxes[started], scores[started], labels[started], ids[started], trust)
        self._prune(width, height)
        return result

    def predict(self, width: int, height: int, steps: int = 1) -> TrackedDetections:
        """Move on to a frame that no detector looks at.

        Args:
            width: of the frame, pixels.
            height: of the frame, pixels.
            steps: frames from the last one to this one; more than 1 where frames were dropped.

        Raises:
            InvalidInput: steps is below 1.
        """
        _check_steps(steps)
        self._move(steps)
        result = _visible(
            self._boxes,
            self._faded(),
            self._labels,
            self._ids,
            self._ages,
            (width, height),
        )
        self._prune(width, height)
        return result

    def _faded(self) -> Boxes:
        """Scores, less for every look that missed the track."""
        return np.asarray(self._scores * self.config.score_decay**self._misses)

    def _move(self, steps: int) -> None:
        self._boxes = self._boxes + steps * self._velocity
        self._ages = self._ages + steps

    def _confirm(
        self, tracks: npt.NDArray[np.int64], boxes: Boxes, scores: Boxes, trust: float
    ) -> None:
        """Take the fused state of the tracks that were seen."""
        predicted = self._boxes[tracks]
        error = (boxes[:, :2] + boxes[:, 2:] - predicted[:, :2] - predicted[:, 2:]) / 2
        rate = np.where(self._sightings[tracks] == 1, 1.0, self.config.velocity_rate)
        # The prediction went wrong by so much in all frames since the track was last seen.
        self._velocity[tracks] += np.tile(error * (rate / self._ages[tracks])[:, None], 2)
        self._boxes[tracks], self._scores[tracks] = boxes, scores
        self._ages[tracks] = self._misses[tracks] = 0
        self._trust *= _TRUST_DECAY
        self._trust[tracks] = np.minimum(self._trust[tracks] + trust, _TRUST_LIMIT)
        self._sightings[tracks] += 1

    def _start(
        self,
        boxes: Boxes,
        scores: Boxes,
        labels: npt.NDArray[np.int64],
        ids: npt.NDArray[np.int64],
        trust: float,
    ) -> None:
        """Begin tracks; they take the velocity that the picture as a whole has, as cameras pan."""
        count = len(ids)
        if not count:
            return
        velocity = np.zeros((count, 4))
        steady = (self._sightings >= _STEADY) & (self._ages == 0)
        if np.count_nonzero(steady) >= 2:
            velocity[:, 0::2] = np.median(self._velocity[steady, 0])
        self._boxes = np.concatenate((self._boxes, boxes))
        self._velocity = np.concatenate((self._velocity, velocity))
        self._scores = np.concatenate((self._scores, scores))
        self._labels = np.concatenate((self._labels, labels))
        self._ages = np.concatenate((self._ages, np.zeros(count, np.int64)))
        self._misses = np.concatenate((self._misses, np.zeros(count, np.int64)))
        self._sightings = np.concatenate((self._sightings, np.ones(count, np.int64)))
        self._trust = np.concatenate((self._trust, np.full(count, trust)))
        self._ids = np.concatenate((self._ids, ids))

    def _prune(self, width: int, height: int) -> None:
        """End tracks that were not seen for too long, faded, or left the frame."""
        centre = (self._boxes[:, :2] + self._boxes[:, 2:]) / 2
        keep = (self._ages <= self.config.max_age) & (self._faded() > self.config.least_score / 2)
        keep &= ((centre > 0) & (centre < (width, height))).all(axis=1) | (self._ages == 0)
        if keep.all():
            return
        self._boxes, self._velocity = self._boxes[keep], self._velocity[keep]
        self._scores, self._labels = self._scores[keep], self._labels[keep]
        self._ages, self._misses = self._ages[keep], self._misses[keep]
        self._sightings = self._sightings[keep]
        self._trust, self._ids = self._trust[keep], self._ids[keep]


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise InvalidInput(f"steps is {steps}; give the frames from the last one to this one")


def _associate(
    boxes: Boxes,
    labels: npt.NDArray[np.int64],
    predicted: Boxes,
    track_labels: npt.NDArray[np.int64],
    least: float,
) -> npt.NDArray[np.int64]:
    """The track of each detection, int64 [n]; -1 for none."""
    track_of = np.full(len(boxes), -1)
    if not len(boxes) or not len(predicted):
        return track_of
    corner = np.maximum(boxes[:, None, :2], predicted[None, :, :2])
    sides = np.minimum(boxes[:, None, 2:], predicted[None, :, 2:]) - corner
    np.maximum(sides, 0.0, out=sides)
    shared = sides[..., 0] * sides[..., 1]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    others = (predicted[:, 2] - predicted[:, 0]) * (predicted[:, 3] - predicted[:, 1])
    union = areas[:, None] + others[None] - shared
    # Without a division: overlap > least, for boxes without area too.
    rows, columns = np.nonzero(
        (shared > least * union) & (labels[:, None] == track_labels[None]) & (union > 0)
    )
    overlap = shared[rows, columns] / union[rows, columns]
    free = [True] * len(predicted)
    last = -1
    order = np.lexsort((-overlap, rows))
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row != last and free[column]:
            track_of[row], free[column], last = column, False, row
    return track_of


def _visible(
    boxes: Boxes,
    scores: Boxes,
    labels: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    ages: npt.NDArray[np.int64],
    size: tuple[int, int],
) -> TrackedDetections:
    """Cut boxes to the frame, leave out what is outside, and sort by falling score."""
    limit = np.array([*size, *size], np.float64)
    inside = np.clip(boxes, 0.0, limit)
    area = np.prod(inside[:, 2:] - inside[:, :2], axis=1)
    whole = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    carried = ages > 0
    keep = ~carried | ((area > _LEAST_VISIBLE_SHARE * whole) & (scores > _LEAST_OUTPUT_SCORE))
    order = np.argsort(-scores, kind="stable")
    order = order[keep[order]]
    return TrackedDetections(
        Detections(
            inside[order].astype(np.float32),
            scores[order].astype(np.float32),
            labels[order].astype(np.int32),
        ),
        ids[order],
        ages[order],
    )
