"""ASGI middleware for answers that are given before the request has come whole: refusals.

A client that is still sending reads no answer before it is done, so what is left is taken in, but
for a moment only: then the connection is closed behind the answer, whatever else would come.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_kit.rest_guard import drain

_TOO_SLOW = 408


class DrainBody:
    """Bounds what is read behind an answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an ASGI application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
            await self._app(scope, receive, send)
            return
        begun = whole = False

        async def wrapped_receive() -> Message:
            nonlocal begun, whole
            begun = True
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def wrapped_send(message: Message) -> None:
            if message["type"] == "http.response.start" and not whole:
                # Who waits to be wrapped_send to continue sends nothing, unless it is asked for.
                waits = not begun and headers.get("expect", "").lower() == "100-continue"
                if not waits and message["status"] != _TOO_SLOW:
                    await drain(wrapped_receive)
                if not whole:
                    MutableHeaders(scope=message)["connection"] = "close"
            await send(message)

        await self._app(scope, wrapped_receive, wrapped_send)
