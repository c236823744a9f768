"""What the worker publishes: answers, frames that it skipped, and dead letters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from inference_graph.gateway.answers import FrameAnswer
from inference_graph.gateway.frames import AnsweredFrame
from inference_graph.streams.messages import (
    DETECTIONS,
    SKIPPED,
    FrameMessage,
    OutgoingMessage,
    event_headers,
)

SkipReason = Literal["age", "duplicate"]


class DetectionsEvent(FrameAnswer):
    """The answer to one frame."""

    frame: str = Field(description="ce_id of the frame.")  # type: ignore[assignment]
    camera: str = Field(description="Key of the frame's message.")
    session: str = Field(description="Name of the camera's session in the prediction log.")
    policy_revision: str = Field(description="Start of the policy's SHA-256; empty without one.")
    captured: datetime = Field(description="ce_time of the frame.")
    age_ms: float = Field(description="From ce_time to the answer; 0 where the clock is ahead.")
    clock_ahead_ms: float = Field(description="How far the camera's clock is ahead; 0 if it isn't.")


class SkippedEvent(BaseModel):
    """A frame that was not answered on purpose."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["skipped"]
    frame: str = Field(description="ce_id of the frame.")
    camera: str = Field(description="Key of the frame's message.")
    event_id: str = Field(description="What the answer's would have been.")
    reason: SkipReason = Field(
        description="age: older than the worker's max_age; duplicate: its ce_id came before."
    )
    captured: datetime = Field(description="ce_time of the frame.")
    age_ms: float = Field(description="From ce_time to the decision.")
    detail: str


class ReferenceValue(BaseModel):
    """Value of a frame whose image lies in a bucket."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field(min_length=1, max_length=2000, description="s3://… or gs://… of the image.")
    sha256: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="Digest of the image, if it is known."
    )


def detections_event(
    topic: str,
    source: str,
    frame: FrameMessage,
    answered: AnsweredFrame,
    age_seconds: float,
) -> OutgoingMessage:
    """An answer.

    Args:
        topic: where it goes.
        source: of the worker, as ``ce_source``.
        frame: what was answered.
        answered: the answer.
        age_seconds: of the frame now; below 0 where the camera's clock is ahead.
    """
    value: dict[str, Any] = orjson.loads(answered.body)
    value |= {
        "frame": frame.frame_id,
        "camera": frame.camera,
        "session": answered.columns["session"],
        "policy_revision": answered.columns["policy_revision"],
        "captured": frame.time,
        "age_ms": round(max(age_seconds, 0.0) * 1e3, 3),
        "clock_ahead_ms": round(max(-age_seconds, 0.0) * 1e3, 3),
    }
    return _event(topic, frame, DETECTIONS, answered.event_id, source, value)


def skipped_event(
    topic: str,
    source: str,
    frame: FrameMessage,
    *,
    event_id: str,
    reason: SkipReason,
    age_seconds: float,
    detail: str,
) -> OutgoingMessage:
    """The notice that a frame was skipped; see :func:`detections_event`."""
    value = {
        "type": "skipped",
        "frame": frame.frame_id,
        "camera": frame.camera,
        "event_id": event_id,
        "reason": reason,
        "captured": frame.time,
        "age_ms": round(max(age_seconds, 0.0) * 1e3, 3),
        "detail": detail,
    }
    return _event(topic, frame, SKIPPED, event_id, source, value)


def _event(
    topic: str, frame: FrameMessage, kind: str, event_id: str, source: str, value: Mapping[str, Any]
) -> OutgoingMessage:
    headers = event_headers(kind, event_id, source, datetime.now(UTC))
    return OutgoingMessage(topic, frame.camera.encode(), orjson.dumps(value), headers)
