"""PUT /v1/log/...: a device without a network brings what it logged."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.limits import read_body
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime
from inference_graph.prediction_log.intake import take_journal, take_session

JOURNAL_LIMIT = 64 * 1024 * 1024
"""Bytes of a journal at most; a device closes its own at 4 MB."""
SESSION_LIMIT = 64 * 1024

_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
_JOURNAL = r"^[0-9]{8}T[0-9]{6}-[0-9a-f]{8}-[0-9]{6}\.journal$"
_SESSION = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,150}\.json$"

Digest = Annotated[
    str, Query(pattern="^[0-9a-fA-F]{64}$", description="SHA-256 that the content must have.")
]


class LogTaken(BaseModel):
    """What was sent is on the gateway's disk, and will be in its log."""

    rows: int = Field(description="Answers in it; 0 for a summary of a session.")


def log_routes(runtime: Runtime) -> APIRouter:
    """The routes, bound to a running gateway."""
    router = APIRouter(tags=["machinery"])
    allowed = runtime.guard(Role.SYNC)
    refusals = problems(400, 401, 403, 408, 413, 422, 503, 507)

    @router.put(
        "/v1/log/predictions/{name}",
        summary="Bring a journal that a device wrote",
        response_model=LogTaken,
        responses=refusals,
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def journal(
        request: Request,
        name: Annotated[str, Path(pattern=_JOURNAL, description="As the device calls it.")],
        sha256: Digest,
        client: Client = allowed,
    ) -> LogTaken:
        """Take a journal whole or not at all; sent again, it changes nothing."""
        log, seconds = runtime.open_log(), runtime.settings.body_seconds
        data = await read_body(request.stream(), request.headers, JOURNAL_LIMIT, seconds)
        rows = await asyncio.to_thread(take_journal, log, client.name, name, data, sha256)
        return LogTaken(rows=rows)

    @router.put(
        "/v1/log/sessions/{name}",
        summary="Bring the summary of a session of a device",
        response_model=LogTaken,
        responses=refusals,
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def session(
        request: Request,
        name: Annotated[str, Path(pattern=_SESSION, description="As the device calls it.")],
        sha256: Digest,
        client: Client = allowed,
    ) -> LogTaken:
        """Take a summary; sent again, it changes nothing."""
        log, seconds = runtime.open_log(), runtime.settings.body_seconds
        data = await read_body(request.stream(), request.headers, SESSION_LIMIT, seconds)
        await asyncio.to_thread(take_session, log, client.name, name, data, sha256)
        return LogTaken(rows=0)

    return router
