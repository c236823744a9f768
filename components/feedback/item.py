"""One piece of feedback: what a user states is on a frame, and the reasons not to use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from components.data.dataset import UNKNOWN_CONDITION
from inference_graph.contract import Detections

Origin = Literal["stream", "import"]
State = Literal["quarantined", "approved", "rejected"]
STATES: tuple[State, ...] = ("quarantined", "approved", "rejected")


@dataclass(frozen=True, eq=False)
class FeedbackItem:
    """One piece of feedback, quarantined until a reviewer approves it.

    Attributes:
        item_id: 32 hexadecimal digits; the same feedback given again has the same.
        origin: "stream" came by ``POST /v1/feedback``, "import" from an annotation tool.
        user: who gave it: the name of the token, or the one given with the import.
        time: when; aware.
        kind: "confirm" or "correct".
        about: what it is about: the answer's event id, or the picture's file name.
        frame: the same for feedback on the same frame.
        note: what the user wrote.
        width: of the frame the boxes are in, pixels; 0 where unknown.
        height: likewise.
        boxes: float64 [n, 4], corners x1, y1, x2, y2 in pixels of that frame.
        category_ids: int64 [n], COCO ids.
        is_crowd: bool [n], whether a box stands for a crowd.
        areas: float64 [n], square pixels of that frame that the objects cover.
        condition: of the frame, for example "night".
        clip: of which it is a frame, in an import; None for a still.
        frame_index: its place in the clip.
        part: of an earlier split that it has to stay in, in an import.
        pictured: whether its picture is kept.
        answered_by: the rung whose answer it is about; empty where the log has no answer.
        answer: what that rung saw, in the frame's pixels; None where the log has no answer.
        reference: what the reference detector saw on the frame, in its pixels; None where it has
            not looked.
        blockers: why it can never be used, each in words; empty for most.
    """

    item_id: str
    origin: Origin
    user: str
    time: datetime
    kind: str
    about: str
    frame: str
    note: str
    width: int
    height: int
    boxes: NDArray[np.float64]
    category_ids: NDArray[np.int64]
    is_crowd: NDArray[np.bool_]
    areas: NDArray[np.float64]
    condition: str = UNKNOWN_CONDITION
    clip: str | None = None
    frame_index: int = 0
    part: str | None = None
    pictured: bool = True
    answered_by: str = ""
    answer: Detections | None = None
    reference: Detections | None = None
    blockers: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.category_ids)

    def scaled_boxes(self, width: int, height: int) -> NDArray[np.float64]:
        """The boxes in pixels of a smaller picture of the frame, cut at its border.

        Args:
            width: of the picture.
            height: of the picture.

        Returns:
            float64 [n, 4], corners; a box outside the frame has no area.
        """
        scale = np.array([width / self.width, height / self.height] * 2)
        corners: NDArray[np.float64] = self.boxes * scale
        return np.clip(corners, 0.0, np.array([width, height] * 2, np.float64))
