"""What a client reads: the answer to one frame, and the words of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, Field

from inference_graph.contract import Detections
from inference_graph.detector.wire import DetectorFacts


class Detection(BaseModel):
    """One object."""

    box: list[float] = Field(description="Corners x1, y1, x2, y2 in pixels of the image sent.")
    score: float = Field(description="0 to 1.")
    label: int = Field(description="Class index of the detector.")
    category_id: int = Field(description="COCO category id.")
    name: str = Field(description="Class name.")


class FrameAnswer(BaseModel):
    """What was found on one frame, by falling score."""

    type: Literal["detections"]
    frame: int = Field(description="Number of the frame in its stream, from 0.")
    event_id: str = Field(description="Name it in feedback on this answer.")
    rung: str = Field(description="The rung the policy chose.")
    answered_by: str = Field(description="The rung that answered.")
    fallback: Literal["", "failed", "late", "open"] = Field(
        description="Why another rung answered than the one chosen; empty if none did."
    )
    probabilities: list[float] = Field(description="Of the rungs, cheapest first.")
    milliseconds: dict[str, float] = Field(
        description="decode, observe, decide, queue, detect, and total from arrival to answer."
    )
    detections: list[Detection]
    shadow: bool = Field(description="Whether the reference looks too, for the log.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="One sentence: what is wrong and what to do about it.")


def frame_answer(
    frame: int,
    event_id: str,
    route: tuple[str, str, str],
    probabilities: Sequence[float],
    milliseconds: Mapping[str, float],
    found: tuple[Detections, DetectorFacts],
    shadow: bool,
) -> bytes:
    """The JSON of a :class:`FrameAnswer`, made by hand because it is made for every frame.

    Args:
        frame: its number.
        event_id: of the answer.
        route: the rung chosen, the rung that answered, the reason of a fallback.
        probabilities: of the rungs.
        milliseconds: of the stages.
        found: what was seen, and the classes of who saw it.
        shadow: whether the reference looks too.
    """
    rung, answered_by, fallback = route
    return orjson.dumps(
        {
            "type": "detections",
            "frame": frame,
            "event_id": event_id,
            "rung": rung,
            "answered_by": answered_by,
            "fallback": fallback,
            "probabilities": [round(share, 4) for share in probabilities],
            "milliseconds": {stage: round(spent, 3) for stage, spent in milliseconds.items()},
            "detections": detections_json(*found),
            "shadow": shadow,
        }
    )


def detections_json(found: Detections, facts: DetectorFacts) -> list[dict[str, Any]]:
    """Detections as JSON objects; see :class:`Detection`.

    Args:
        found: what was seen.
        facts: classes of the rung that saw it.
    """
    names, categories = facts.class_names, facts.category_ids
    boxes = np.round(found.boxes.astype(np.float64), 2).tolist()
    scores = np.round(found.scores.astype(np.float64), 4).tolist()
    return [
        {
            "box": box,
            "score": score,
            "label": label,
            "category_id": categories[label],
            "name": names[label],
        }
        for box, score, label in zip(boxes, scores, found.labels.tolist(), strict=True)
    ]


def dropped(first: int, last: int, reason: str) -> bytes:
    """The notice that frames ``first`` to ``last`` will not be answered."""
    frames = list(range(first, last + 1))
    return orjson.dumps({"type": "dropped", "frames": frames, "reason": reason})


def refused(frame: int | None, status: int, detail: str) -> bytes:
    """The notice that a frame, or a message that was none, has no answer."""
    return orjson.dumps({"type": "error", "frame": frame, "status": status, "detail": detail})
