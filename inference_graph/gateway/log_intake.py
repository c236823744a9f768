"""PUT /v1/log/...: a device without a network brings what it logged."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from foundation.errors import (
    InvalidInput,
    PayloadTooLarge,
    RequestTimeout,
    StorageError,
    Unavailable,
)
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.limits import read_body
from inference_graph.gateway.problems import problems
from inference_graph.gateway.runtime import Runtime
from inference_graph.prediction_log.intake import (
    check_room,
    incoming,
    take_journal,
    take_session,
)
from inference_graph.prediction_log.writer import PredictionLog

JOURNAL_LIMIT = 32 * 1024 * 1024
"""Bytes of a journal at most; a device closes its own at 4 MB."""
SESSION_LIMIT = 64 * 1024
_UPLOADS, _UPLOADS_EACH = 8, 2
"""Journals that are received at the same time, of all devices and of one token."""

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
    """What was sent is on the gateway's disk, and will be in its log.

    A device removes its copy only where both match what it sent: a page that something on the way
    answers with does not.
    """

    rows: int = Field(description="Answers in it; 0 for a summary of a session.")
    sha256: str = Field(description="Digest of what was stored.")


def log_routes(runtime: Runtime) -> APIRouter:
    """The routes, bound to a running gateway."""
    router = APIRouter(tags=["log"])
    allowed = runtime.guard(Role.SYNC)
    refusals = problems(400, 401, 403, 408, 413, 422, 503, 507)
    uploads: Counter[str] = Counter()
    checking = asyncio.Lock()  # one at a time, or they would take all threads of the gateway

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
        if uploads.total() >= _UPLOADS or uploads[client.name] >= _UPLOADS_EACH:
            raise Unavailable("other journals are being received; send it again in a moment")
        uploads[client.name] += 1
        try:
            with incoming(log) as path:
                await _receive(request, path, log, name, seconds)
                async with checking:
                    is_own = runtime.event_ids.knows
                    rows = await asyncio.to_thread(
                        take_journal, log, client.name, name, path, sha256, is_own
                    )
        finally:
            uploads[client.name] -= 1
        return LogTaken(rows=rows, sha256=sha256.lower())

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
        return LogTaken(rows=0, sha256=sha256.lower())

    return router


async def _receive(
    request: Request, path: FilePath, log: PredictionLog, name: str, seconds: float
) -> None:
    """Write a request's body to a file as it comes, so that what is received takes no memory."""
    too_large = PayloadTooLarge(f"the journal is longer than the {JOURNAL_LIMIT} bytes allowed")
    declared = request.headers.get("content-length", "0")
    if not declared.isascii() or not declared.isdigit():
        raise InvalidInput(f"content-length {declared[:40]!r} is no number of bytes")
    if len(declared) > len(str(JOURNAL_LIMIT)) or int(declared) > JOURNAL_LIMIT:
        raise too_large
    await asyncio.to_thread(check_room, log, name, int(declared))
    length = 0
    try:
        with path.open("wb", buffering=0) as file:
            async with asyncio.timeout(seconds):
                async for piece in request.stream():
                    length += len(piece)
                    if length > JOURNAL_LIMIT:
                        raise too_large
                    await asyncio.to_thread(file.write, piece)
    except TimeoutError as error:
        raise RequestTimeout(
            f"the journal did not arrive within {seconds:g} s; send it again"
        ) from error
    except ClientDisconnect as error:
        raise InvalidInput("the sender went away before the journal was whole") from error
    except OSError as error:
        raise StorageError(
            f"cannot write the journal that is received: {error.strerror}; free some space"
        ) from error
