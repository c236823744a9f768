"""POST /v1/detect: one image, as it is, as a form's file, or as base64 in JSON."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from foundation.errors import InvalidInput, UnsupportedMedia
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.answers import FrameAnswer
from inference_graph.gateway.frames import FrameRequest
from inference_graph.gateway.limits import read_body
from inference_graph.gateway.parameters import FrameParameters
from inference_graph.gateway.problems import problems, sentence
from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.stream import check_tags
from serving_kit.base64_text import from_base64

_FIELD = "image"
_BASE64 = 4 / 3
"""Length of base64 over that of what it carries."""
_ENVELOPE = 16_384
"""Bytes allowed around an image in JSON or a form."""


class EncodedImage(BaseModel):
    """An image in JSON."""

    model_config = ConfigDict(extra="forbid")

    b64: str = Field(
        description="A jpeg, png, webp or bmp in base64; a wav of speech.",
        json_schema_extra={"format": "byte"},
    )


class DetectBody(BaseModel):
    """The JSON form of a request."""

    model_config = ConfigDict(extra="forbid")

    image: EncodedImage
    tags: dict[str, str] = Field(
        default_factory=dict, description="Kept with the answer in the log.", max_length=16
    )


_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        **{
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("image/jpeg", "image/png", "image/webp", "image/bmp", "audio/wav")
        },
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": [_FIELD],
                "properties": {_FIELD: {"type": "string", "format": "binary"}},
            }
        },
        "application/json": {"schema": DetectBody.model_json_schema()},
    },
}
# The nested model stands inline: a reference would point into this operation.
_JSON_SCHEMA = _REQUEST_BODY["content"]["application/json"]["schema"]
_JSON_SCHEMA["properties"]["image"] = _JSON_SCHEMA.pop("$defs")["EncodedImage"]


def detect_routes(runtime: Runtime) -> APIRouter:
    """The route, bound to a running gateway."""
    router = APIRouter(tags=["frames"])
    allowed = runtime.guard(Role.STREAM)
    settings = runtime.settings

    @router.post(
        "/v1/detect",
        summary="Detect objects on one image",
        response_model=FrameAnswer,
        responses=problems(400, 401, 403, 408, 413, 415, 422, 429, 503, 504),
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def detect(
        request: Request,
        wanted: Annotated[FrameParameters, Query()],
        client: Client = allowed,
    ) -> Response:
        """Detect by the rung that the policy chooses for this image, without a previous one."""
        runtime.frame_limit.take(client.name, "frames")
        deadline = runtime.deadline(wanted.deadline_ms)
        routing = runtime.routing(wanted.latency_weight)
        detections = runtime.wanted(wanted.confidence, wanted.classes)
        image, tags = await _image(request, settings.max_body, settings.body_seconds)
        arrived = time.monotonic()  # a slow body is no fault of the rungs
        frame = FrameRequest("detect", client.name, arrived, deadline, tags=tags, wanted=detections)
        turn = await runtime.scheduler.enter_before(client.name, arrived + deadline / 1e3)
        work_ms = None
        try:
            answered = await runtime.pipeline.answer(image, frame, routing)
            work_ms = answered.work_ms
        finally:
            runtime.scheduler.leave(turn, work_ms)
        runtime.pipeline.finish(answered)
        return Response(answered.body, media_type="application/json")

    return router


async def _image(request: Request, limit: int, seconds: float) -> tuple[bytes, dict[str, str]]:
    """The encoded image of a request, and its tags."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    raw = kind.startswith(("image/", "audio/")) or kind == "application/octet-stream"
    if not raw and kind not in ("application/json", "multipart/form-data"):
        raise UnsupportedMedia(
            f"content-type {kind[:60]!r} is none of image/*, audio/*, application/octet-stream, "
            "multipart/form-data, application/json"
        )
    if kind == "application/json":
        limit = int(limit * _BASE64)
    if not raw:
        limit += _ENVELOPE
    body = await read_body(request.stream(), request.headers, limit, seconds)
    if raw:
        return body, {}
    return _from_json(body) if kind == "application/json" else (await _from_form(request, body), {})


def _from_json(body: bytes) -> tuple[bytes, dict[str, str]]:
    try:
        read = DetectBody.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from error
    except ValidationError as error:
        raise InvalidInput(
            f"the body is not {{image: {{b64}}}}: {sentence(error.errors())}"
        ) from error
    check_tags(read.tags)
    return from_base64(read.image.b64, "image.b64"), read.tags


async def _from_form(request: Request, body: bytes) -> bytes:
    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    parser = MultiPartParser(request.headers, whole(), max_files=1, max_fields=4)
    parser.spool_max_size = len(body) + 1  # it is in memory already, and never goes to a disk
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError, ValueError, LookupError) as error:
        reason = getattr(error, "message", None) or str(error)
        raise InvalidInput(f"the form cannot be read: {reason[:200]}") from error
    try:
        upload = form.get(_FIELD)
        if not isinstance(upload, UploadFile):
            raise InvalidInput(f"the form has no file named {_FIELD}; send the image under it")
        return await upload.read()
    finally:
        await form.close()
