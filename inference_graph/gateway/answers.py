"""Messages to a client: the answer to one frame, and the notices of a stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from inference_graph.detections import Detection

_EXAMPLE: dict[str, Any] = {
    "type": "detections",
    "frame": 0,
    "event_id": "0jx3w1v9c4k2-7f3a",
    "rung": "nano",
    "answered_by": "nano",
    "fallback": "",
    "probabilities": [0.91, 0.08, 0.01],
    "milliseconds": {
        "decode": 1.2,
        "observe": 0.4,
        "decide": 0.1,
        "queue": 0.3,
        "detect": 6.1,
        "total": 8.4,
    },
    "detections": [
        {
            "box": [10.5, 20.0, 80.25, 60.0],
            "score": 0.87,
            "label": 2,
            "category_id": 3,
            "name": "car",
        }
    ],
    "shadow": False,
}


class FrameAnswer(BaseModel):
    """What was found on one frame, by falling score."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    type: Literal["detections"]
    frame: int = Field(description="Number of the frame in its stream, from 0.")
    event_id: str = Field(description="Name it in feedback on this answer.")
    rung: str = Field(description="The rung the policy chose.")
    answered_by: str = Field(
        description='The rung that answered, or "reuse" where the tracks were moved on.'
    )
    fallback: Literal["", "failed", "late", "open"] = Field(
        description="Why another rung answered than the one chosen; empty if none did."
    )
    probabilities: list[float] = Field(description="Of the rungs, cheapest first.")
    milliseconds: dict[str, float] = Field(
        description="decode, observe, decide, queue, detect, track where answers are fused, "
        "and total from arrival to answer."
    )
    detections: list[Detection]
    shadow: bool = Field(description="Whether the reference is run too, for the log.")


class Problem(BaseModel):
    """Why there is no answer."""

    detail: str = Field(description="One sentence: what is wrong and what to do about it.")


def frame_answer(
    frame: int,
    event_id: str,
    route: tuple[str, str, str],
    probabilities: Sequence[float],
    milliseconds: Mapping[str, float],
    detections: Sequence[Detection],
    shadow: bool,
) -> bytes:
    """The JSON of a :class:`FrameAnswer`, made by hand because it is made for every frame.

    Args:
        frame: its number.
        event_id: of the answer.
        route: the rung chosen, the rung that answered, the reason of a fallback.
        probabilities: of the rungs.
        milliseconds: of the stages.
        detections: those the client asked for.
        shadow: whether the reference is run too.
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
            "detections": detections,
            "shadow": shadow,
        }
    )


def dropped(first: int, last: int, reason: str) -> bytes:
    """The notice that frames ``first`` to ``last`` will not be answered."""
    frames = list(range(first, last + 1))
    return orjson.dumps({"type": "dropped", "frames": frames, "reason": reason})


def refused(frame: int | None, status: int, detail: str) -> bytes:
    """The notice that a frame, or a message that was none, has no answer."""
    return orjson.dumps({"type": "error", "frame": frame, "status": status, "detail": detail})
