"""Every refusal is JSON with one sentence: what is wrong and what to do about it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from foundation.errors import GearshiftError
from inference_graph.gateway.answers import Problem

_log = logging.getLogger(__name__)

_HEADERS = 431
"""Any request may be refused with it, before its route is looked for."""
_TOO_LARGE = 413
_OF_A_BODY = (415, 429, 503)
"""What any request with a body may be refused with: its coding, and places."""
_MEANINGS = {
    400: "What was sent cannot be used.",
    401: "No token, or an unknown one.",
    403: "The token does not allow this.",
    404: "Nothing of that name.",
    408: "The request did not arrive whole in time.",
    409: "It contradicts what runs here.",
    413: "More bytes or pixels than allowed.",
    415: "A content type or image format that is not accepted.",
    422: "A parameter out of its range, or weights that cannot be used.",
    429: "More than the rate allowed.",
    _HEADERS: "More or longer headers than allowed.",
    503: "No rung answers now.",
    504: "No answer before the deadline.",
    507: "The log's disk has no room.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for its documentation."""
    return {
        status: {"model": Problem, "description": _MEANINGS[status]}
        for status in sorted({*statuses, *(_OF_A_BODY if _TOO_LARGE in statuses else ()), _HEADERS})
    }


def problem(status: int, detail: str) -> JSONResponse:
    """A refusal."""
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status in (429, 503):
        headers["retry-after"] = "1"
    return JSONResponse({"detail": _unicode(detail)}, status, headers)


def problem_body(detail: str) -> bytes:
    """The body of a refusal that is given before the application is asked."""
    return orjson.dumps({"detail": _unicode(detail)})


def _unicode(text: str) -> str:
    """A text that can be sent: half a character, which JSON may hold as an escape, is one again."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def sentence(errors: Sequence[Mapping[str, Any]]) -> str:
    """The first of pydantic's errors in words."""
    if not errors:
        return "it cannot be read"
    where = ".".join(str(part) for part in errors[0].get("loc", ())) or "the body"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{where[:100]}: {errors[0].get('msg', 'cannot be used')}{more}"


def add_handlers(app: FastAPI) -> None:
    """Have the application answer every failure so."""

    @app.exception_handler(GearshiftError)
    async def _known(request: Request, error: GearshiftError) -> JSONResponse:
        return problem(error.http_status, error.for_clients)

    @app.exception_handler(ClientDisconnect)
    async def _gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # for the count; the client is gone

    @app.exception_handler(RequestValidationError)
    async def _parameters(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, sentence(error.errors()))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        words = str(error.detail).lower()
        detail = f"{request.method} {request.url.path[:100]}: {words}; see /docs"
        answer = problem(error.status_code, detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
        _log.error("%s %s broke", request.method, request.url.path, exc_info=error)
        return problem(500, "the gateway failed; its log says why")
