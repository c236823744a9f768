"""What is logged of feedback: one row per piece, with the frame it is about.

A field of :class:`Feedback` is the column of that name in ``FEEDBACK_SCHEMA``. Logs written before
the frame was kept lack its columns; readers give null for them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa

from foundation.errors import InvalidInput
from inference_graph.prediction_log.row import (
    FLOATS,
    INTEGERS,
    TIME,
    Numbers,
    check_aware,
    check_event_id,
    check_sizes,
)

NOTE_LIMIT = 500
"""Characters of a note at most."""
FEEDBACK_BOXES = 300
"""Boxes of one correction at most."""
KINDS = ("confirm", "correct")

FEEDBACK_SCHEMA = pa.schema(
    [
        pa.field("feedback_id", pa.string(), nullable=False),
        pa.field("time", TIME, nullable=False),
        *((name, pa.string()) for name in ("event_id", "client", "kind")),
        ("boxes", FLOATS),
        ("labels", INTEGERS),
        ("note", pa.string()),
        *((name, pa.int32()) for name in ("width", "height")),
        ("image_kept", pa.bool_()),
        ("image", pa.binary()),
    ]
)
"""Columns of the log; boxes are flattened, four numbers x1, y1, x2, y2 for each object."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Feedback:
    """A client's judgement of an answer.

    Attributes:
        event_id: the row it is about.
        time: when it was given; aware.
        client: name of the token that gave it.
        kind: "confirm", or "correct" with what should have been found.
        boxes: float32 [n, 4], corners x1, y1, x2, y2 in pixels of the frame; none to confirm.
        labels: int32 [n], class indices.
        note: at most 500 characters.
        width: of the frame that the boxes are in, pixels; None where it is not known.
        height: of the frame likewise.
        image: the frame as JPEG, at most 640 pixels wide; None where it is gone.
    """

    event_id: str
    time: datetime
    client: str
    kind: str
    boxes: Numbers = ()
    labels: Numbers = ()
    note: str = ""
    width: int | None = None
    height: int | None = None
    image: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse feedback that cannot be used.

        Raises:
            InvalidInput: names the value and what it must be.
        """
        check_event_id(self.event_id)
        check_aware(self.time)
        if self.kind not in KINDS:
            raise InvalidInput(f"kind {self.kind!r} is none of {', '.join(KINDS)}")
        if len(self.note) > NOTE_LIMIT:
            raise InvalidInput(f"the note has {len(self.note)} characters; {NOTE_LIMIT} fit")
        check_sizes(self.boxes, self.labels, self.labels)
        if self.kind == "confirm" and len(self.labels):
            raise InvalidInput("a confirmation carries no boxes; send it as a correction")
        if len(self.labels) > FEEDBACK_BOXES:
            raise InvalidInput(f"{len(self.labels)} boxes in a correction; {FEEDBACK_BOXES} fit")
        boxes = np.asarray(self.boxes, np.float64).reshape(-1, 4)
        if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
            raise InvalidInput("a box is not x1 < x2, y1 < y2 in finite pixels")
        if any(label < 0 for label in self.labels):
            raise InvalidInput("a label is negative; give class indices of the detector")

    @property
    def image_kept(self) -> bool:
        """Whether there is an image; a column, so that no image is read for it."""
        return self.image is not None

    @property
    def feedback_id(self) -> str:
        """Unique key: the same feedback sent again has the same one, 32 hexadecimal digits."""
        boxes = np.asarray(self.boxes, np.float32).ravel().tolist()
        labels = [int(label) for label in self.labels]
        content = [self.event_id, self.client, self.kind, boxes, labels, self.note]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
