"""The words of serving: the ladder, tensors with their shapes and units, and what is exchanged.

A detector is an Ultralytics YOLO export: input ``images`` float32 [1, 3, height, width], RGB in
0..1, letterboxed; output ``output0`` float32 [1, 4 + classes, anchors], centre x, centre y,
width and height in letterbox pixels, then one score per class in 0..1.

A policy: input ``observations`` float32 [n, OBSERVATION_SIZE]; outputs ``action`` int64 [n], an
index into the ladder, and ``probabilities`` float32 [n, 3].
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_transformer.observation import LADDER

__all__ = [
    "CARD_KEY",
    "CATEGORY_IDS_KEY",
    "DETECTOR_INPUT",
    "DETECTOR_OUTPUT",
    "GEARS",
    "IMAGE_SIZE_KEY",
    "LADDER",
    "LADDER_KEY",
    "LATENCY_WEIGHT_KEY",
    "NAMES_KEY",
    "POLICY_ACTION",
    "POLICY_INPUT",
    "POLICY_PROBABILITIES",
    "REFERENCE",
    "REUSE",
    "REUSE_KEY",
    "SCHEMA_HASH_KEY",
    "USES_FRAME_KEY",
    "Answer",
    "Detections",
    "Route",
]

REFERENCE = LADDER[-1]
"""The rung every saving and every accuracy retained is measured against."""

REUSE = "reuse"
"""Who answers, where no rung looked and the stream's tracks were moved on."""
GEARS = (*LADDER, REUSE)
"""Who may answer a frame of a stream; the places of the rungs are those of the ladder."""

DETECTOR_INPUT = "images"
DETECTOR_OUTPUT = "output0"
NAMES_KEY = "names"
"""Ultralytics' metadata: the text of a dict from class index to class name."""
IMAGE_SIZE_KEY = "imgsz"
"""Ultralytics' metadata: the text of [height, width]."""
TASK_KEY = "task"
"""Ultralytics' metadata: what the network is for, such as "detect" or "segment"."""
CATEGORY_IDS_KEY = "gearshift.category_ids"
"""JSON list: the COCO category id of every class, in class order."""

POLICY_INPUT = "observations"
POLICY_ACTION = "action"
POLICY_PROBABILITIES = "probabilities"
SCHEMA_HASH_KEY = "gearshift.schema_hash"
LADDER_KEY = "gearshift.ladder"
"""JSON list of the rungs, in the order of the actions."""
LATENCY_WEIGHT_KEY = "gearshift.latency_weight"
"""The default operating point, a number as text."""
REUSE_KEY = "gearshift.reuse"
"""JSON object that says when a stream's tracks answer in place of a rung: ``longest``, frames in a
row at most, and ``doubt`` of the last look at most; never where the key is missing."""
USES_FRAME_KEY = "gearshift.uses_frame"
"""JSON boolean: whether the policy reads the frame's own part of the observation; it does where
the key is missing."""
CARD_KEY = "gearshift.card"
"""JSON object that describes where the policy comes from."""


@dataclass(frozen=True)
class Detections:
    """What one detector saw on one image, by falling score.

    Attributes:
        boxes: float32 [n, 4], corners x1, y1, x2, y2 in pixels of the image given.
        scores: float32 [n], 0..1.
        labels: int32 [n], class indices of the detector.
        texts: what each region reads, of a rung that reads; None of a detector.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Number of detections."""
        return len(self.scores)

    def take(self, rows: npt.NDArray[np.intp]) -> Detections:
        """Those in these places."""
        texts = None if self.texts is None else tuple(self.texts[row] for row in rows.tolist())
        return Detections(self.boxes[rows], self.scores[rows], self.labels[rows], texts)

    def at_least(self, score: float) -> Detections:
        """Those with at least this score."""
        count = int(np.count_nonzero(self.scores >= score))  # they are sorted
        texts = None if self.texts is None else self.texts[:count]
        return Detections(self.boxes[:count], self.scores[:count], self.labels[:count], texts)


@dataclass(frozen=True)
class Route:
    """The policy's decision for one frame.

    Attributes:
        model: the rung that shall look.
        probabilities: one per rung, in the ladder's order; they sum to 1.
        shadow: whether the reference sees the frame too, to measure the accuracy retained.
    """

    model: str
    probabilities: tuple[float, ...]
    shadow: bool = False


@dataclass(frozen=True)
class Answer:
    """One detector's answer for one frame.

    Attributes:
        detections: what it saw.
        milliseconds: wall time of ``preprocess``, ``inference`` and ``postprocess``.
        rung: which rung answered.
        revision: first 12 hexadecimal digits of the SHA-256 of its weights.
    """

    detections: Detections
    milliseconds: Mapping[str, float]
    rung: str
    revision: str
