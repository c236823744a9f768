"""ASGI middleware that counts requests by route and status."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inference_graph.gateway.metrics import GatewayMetrics

_LET_IN = 101
_GONE, _BROKEN = 499, 500
"""Without an answer: the client disconnected before it, or the application failed."""
_STREAM = "WEBSOCKET"
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", _STREAM))


class RequestCount:
    """Counts every request once; a route that does not exist counts as ``other``."""

    def __init__(self, app: ASGIApp, metrics: GatewayMetrics) -> None:
        """Count for an application."""
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def wrapped_send(message: Message) -> None:
            nonlocal status
            if status is None:
                status = self._status(scope, message)
            await send(message)

        unanswered = _BROKEN
        try:
            await self._app(scope, receive, wrapped_send)
            unanswered = _GONE
        finally:
            if status is None:
                self._count(scope, unanswered)

    def _status(self, scope: Scope, message: Message) -> int | None:
        """The status, counted, once a message carries it: before the answer is sent."""
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            status = int(message["status"])
        elif kind == "websocket.accept":
            status = _LET_IN
        elif kind == "websocket.close":
            status = 403  # closed before it was let in, which servers answer so
        else:
            return None
        self._count(scope, status)
        return status

    def _count(self, scope: Scope, status: int) -> None:
        # What clients may invent must not make series.
        route = str(getattr(scope.get("route"), "path", "other"))
        method = scope["method"] if scope["type"] == "http" else _STREAM
        self._metrics.request(route, method if method in _METHODS else "other", status)
