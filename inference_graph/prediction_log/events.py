"""Events of detectors, and of KServe's payload logger, become rows of the log.

The logger sends each request and, where the status was 200, each response as one POST in
CloudEvents' binary mode: the attributes are headers, the body is the message. Both carry the same
``Ce-Id``; several workers send, so a response may arrive first. While its queue of one hundred is
full it holds up the model, so an event is taken in at once, and the row is written later.

The logger can send no header of its own, but an url ``http://NAME:TOKEN@host/v1/events`` makes it
send HTTP's basic credentials.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from foundation.errors import InvalidInput, PayloadTooLarge
from inference_graph.prediction_log.event_sink import (
    CloudEventSink,
    EventOptions,
)
from serving_kit.payload_log import REQUEST_TYPE, RESPONSE_TYPE

__all__ = ["REQUEST_TYPE", "RESPONSE_TYPE", "CloudEventSink", "EventOptions", "events_routes"]


class EventTaken(BaseModel):
    """What became of an event: stored, waiting for its counterpart, known, or ignored."""

    outcome: str


def events_routes(sink: Callable[[], CloudEventSink], allowed: Any) -> APIRouter:
    """The route that events are posted to.

    Args:
        sink: gives the sink that is open.
        allowed: a ``fastapi.Depends`` that refuses who may not feed the log.
    """
    routes = APIRouter()

    @routes.post(
        "/v1/events",
        dependencies=[allowed],
        tags=["log"],
        summary="Take an event of KServe's payload logger",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "parameters": [
                {
                    "name": name,
                    "in": "header",
                    "required": name != "ce-inferenceservicename",
                    "schema": {"type": "string", **schema},
                }
                for name, schema in (
                    ("ce-id", {"maxLength": 200}),
                    ("ce-type", {"enum": [REQUEST_TYPE, RESPONSE_TYPE]}),
                    ("ce-specversion", {"enum": ["1.0"]}),
                    ("ce-inferenceservicename", {"maxLength": 253}),
                )
            ],
        },
    )
    async def take(request: Request) -> EventTaken:
        open_sink = sink()
        options = open_sink.options
        try:
            async with asyncio.timeout(options.body_seconds):
                body = await _body(request, options.max_body)
        except TimeoutError as error:
            raise InvalidInput(
                f"the event's body did not come within {options.body_seconds:g} s; send it whole"
            ) from error
        except ClientDisconnect as error:
            raise InvalidInput("the sender went away before the event's body was whole") from error
        return EventTaken(outcome=await asyncio.to_thread(open_sink.receive, request.headers, body))

    return routes


async def _body(request: Request, limit: int) -> bytes:
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > limit:
            raise PayloadTooLarge(f"an event of more than {limit} bytes; send a smaller image")
        parts.append(part)
    return b"".join(parts)
