"""KServe's failures and ours, each answered with its status and one sentence."""

from __future__ import annotations

from typing import Any

from foundation.errors import GearshiftError
from serving_kit.rest_guard import error_body


def explain(error: Exception) -> tuple[int, str] | None:
    """HTTP status and sentence for a failure that is not the server's own, else None."""
    from kserve import errors  # type: ignore[import-untyped]  # ships no types

    if isinstance(error, GearshiftError):
        return error.http_status, str(error)
    if isinstance(error, errors.InvalidInput | errors.UnsupportedProtocol | errors.InferenceError):
        return 400, str(error)
    if isinstance(error, errors.ModelNotFound | NotImplementedError):
        return 404, str(error)
    if isinstance(error, errors.ModelNotReady | errors.ServerNotReady | errors.ServerNotLive):
        return 503, str(error)
    return None


def answer_errors(app: Any) -> None:
    """Answer every failure that has a sentence with it, and log no traceback for it."""
    from fastapi.exceptions import RequestValidationError
    from kserve import errors
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    def answer(status: int, text: str) -> Response:
        return Response(error_body(text), status, media_type="application/json")

    async def known(_: Any, error: Exception) -> Response:
        status, text = explain(error) or (500, "the server failed on this request")
        return answer(status, text)

    async def invalid(_: Any, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return answer(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")

    async def http(_: Any, error: HTTPException) -> Response:
        return answer(error.status_code, str(error.detail))

    for kind in (
        GearshiftError,
        NotImplementedError,
        errors.InvalidInput,
        errors.InferenceError,
        errors.ModelNotFound,
        errors.ModelNotReady,
        errors.ServerNotLive,
        errors.ServerNotReady,
        errors.UnsupportedProtocol,
    ):
        app.add_exception_handler(kind, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
