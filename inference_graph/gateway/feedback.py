"""POST /v1/feedback: a person or a program confirms or corrects an answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from foundation.errors import NotFound, StorageError, Unavailable
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.feedback_frame import FeedbackFrame, Kept
from inference_graph.gateway.json_request import json_body, read_model
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime
from inference_graph.prediction_log.feedback_row import FEEDBACK_BOXES, NOTE_LIMIT, Feedback

FEEDBACK_BYTES = 64 * 1024
"""Bytes of a piece of feedback at most."""

Pixel = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
Box = Annotated[list[Pixel], Field(min_length=4, max_length=4)]


class FeedbackBody(BaseModel):
    """Feedback on one answer."""

    model_config = ConfigDict(extra="forbid", strict=True)

    event_id: str = Field(min_length=1, max_length=200, description="Of the answer.")
    kind: Literal["confirm", "correct"] = Field(
        description="confirm: the answer was right; correct: boxes and labels are what is there."
    )
    boxes: list[Box] = Field(
        default_factory=list,
        max_length=FEEDBACK_BOXES,
        description="Corners x1, y1, x2, y2 in pixels of the image, x1 < x2 and y1 < y2.",
    )
    labels: list[Annotated[int, Field(ge=0, le=100_000)]] = Field(
        default_factory=list,
        max_length=FEEDBACK_BOXES,
        description="Class index of each box, as in the answer.",
    )
    note: str = Field(default="", max_length=NOTE_LIMIT)


class FeedbackTaken(BaseModel):
    """The feedback is stored; nothing is trained on it before it has been reviewed."""

    feedback_id: str = Field(description="The same feedback sent again has the same one.")
    frame: Kept = Field(description="What became of the frame: only one that is kept can train.")
    detail: str = Field(description="The same in words.")


_SCHEMA: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": FeedbackBody.model_json_schema()}},
}


def feedback_routes(runtime: Runtime) -> APIRouter:
    """The route, bound to a running gateway."""
    router = APIRouter(tags=["feedback"])
    allowed = runtime.guard(Role.FEEDBACK)

    @router.post(
        "/v1/feedback",
        summary="Confirm or correct an answer",
        status_code=202,
        response_model=FeedbackTaken,
        responses=problems(400, 401, 403, 404, 408, 413, 415, 429, 503),
        openapi_extra={"requestBody": _SCHEMA},
    )
    async def feedback(
        request: Request,
        client: Client = allowed,
    ) -> FeedbackTaken:
        """Store feedback on an answer this gateway gave; it is what retraining learns from."""
        runtime.feedback_limit.take(client.name, "pieces of feedback")
        body = await json_body(request, FEEDBACK_BYTES, runtime.settings.body_seconds)
        return await store_feedback(runtime, read_model(body, FeedbackBody), client.name)

    return router


async def store_feedback(runtime: Runtime, given: FeedbackBody, client: str) -> FeedbackTaken:
    """Put feedback into quarantine, whichever way it came.

    Args:
        runtime: of the gateway.
        given: the feedback.
        client: who gave it; the daily quota counts by this name.

    Raises:
        InvalidInput: boxes and labels do not belong together.
        NotFound: no answer has this event id.
        TooManyRequests: the client gave as much as allowed today.
        Unavailable: there is no log, or it cannot be read now.
    """
    row = Feedback(
        event_id=given.event_id,
        time=datetime.now(UTC),
        client=client,
        kind=given.kind,
        boxes=[side for box in given.boxes for side in box],
        labels=given.labels,
        note=given.note,
    )
    if not await asyncio.to_thread(runtime.knows, given.event_id):
        raise NotFound(
            f"no answer has the event id {given.event_id[:60]!r}; send the one of the answer"
        )
    frame = await asyncio.to_thread(_store, runtime, row)
    runtime.metrics.feedback.labels(given.kind).inc()
    return FeedbackTaken(feedback_id=row.feedback_id, frame=frame.kept, detail=frame.sentence)


def _store(runtime: Runtime, row: Feedback) -> FeedbackFrame:
    """Count a piece against its user's quota, find its frame, and log both."""
    try:
        runtime.feedback_quota.take(row.client, row.feedback_id)
    except StorageError as error:
        raise Unavailable(f"today's feedback cannot be counted now: {error}") from error
    try:
        frame = runtime.feedback_frames.find(row.event_id)
        runtime.log_feedback(
            replace(row, width=frame.width, height=frame.height, image=frame.image)
        )
    except BaseException:
        runtime.feedback_quota.give_back(row.client, row.feedback_id)
        raise
    return frame
