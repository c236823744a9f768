"""A frame, its answer and its message, without a broker."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
from tiny_models import seen

from inference_graph.contract import Answer
from inference_graph.gateway.answers import frame_answer
from inference_graph.gateway.frames import AnsweredFrame
from inference_graph.streams.messages import FrameMessage
from inference_graph.streams.uncommitted import HeldMessage

FRAME = FrameMessage("cam", "7", "/cameras/cam", datetime(2026, 11, 21, tzinfo=UTC), b"", False)
_FOUND: list[Any] = [
    {"box": [1.0, 2.0, 3.0, 4.0], "score": 0.5, "label": 0, "category_id": 1, "name": "person"}
]
ANSWERED = AnsweredFrame(
    frame_answer(0, "e" * 32, ("nano", "nano", ""), (1, 0, 0), {"total": 5.0}, _FOUND, False),
    "e" * 32,
    "nano",
    "",
    5.0,
    {"total": 5.0},
    False,
    Answer(seen(), {}, "nano", "0" * 12),
    np.zeros((1, 1, 3), np.uint8),
    {"session": "cam-1", "policy_revision": ""},
    (),
)


def held(value: bytes) -> HeldMessage:
    return HeldMessage(("frames", 0), 3, len(value), b"cam", value, [("ce_id", b"7")])
