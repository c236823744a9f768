"""What every HTTP service here does with a request before its application sees it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving_kit.content_coding import decoded
from serving_kit.foreign_pages import FORM_TYPES, why_foreign
from serving_kit.rest_guard import drain

_JSON = (b"content-type", b"application/json")


class HttpFront:
    """ASGI middleware that treats requests alike whatever client they come from.

    Pages of others are refused, compressed bodies are decoded, HEAD is a GET whose body the server
    leaves out, and a slash at the end of a path makes no difference.
    """

    def __init__(
        self,
        app: ASGIApp,
        refusal_body: Callable[[str], bytes],
        hosts: Collection[str] | None = None,
        own_requests: bool = True,
        exact_paths: bool = False,
    ) -> None:
        """Wrap an ASGI application.

        Args:
            app: the application.
            refusal_body: makes the JSON of a refusal of its sentence.
            hosts: see :func:`~serving_kit.foreign_pages.why_foreign`.
            own_requests: whether nothing but a network keeps others out, so that pages of others
                and bodies of a form's types are refused here.
            exact_paths: whether the slash at a path's end is the application's.
        """
        self._app = app
        self._refusal_body = refusal_body
        self._hosts = hosts
        self._own_requests = own_requests
        self._exact_paths = exact_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if self._own_requests:
            foreign = why_foreign(headers, self._hosts)
            if foreign is not None:
                await self._refuse(403, foreign, headers, receive, send)
                return
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind in FORM_TYPES and scope["method"] != "GET":
                text = f"content type {kind!r} is not read here; send application/json"
                await self._refuse(415, text, headers, receive, send)
                return
        inner = dict(scope)
        if scope["method"] == "HEAD":
            inner["method"] = "GET"
        if not self._exact_paths and len(scope["path"]) > 1:
            inner["path"] = scope["path"].rstrip("/") or "/"
        coding = headers.get("content-encoding")
        if coding is not None:
            gone = (b"content-encoding", b"content-length", b"transfer-encoding")
            kept = [pair for pair in scope["headers"] if pair[0] not in gone]
            inner["headers"] = [*kept, (b"transfer-encoding", b"chunked")]
            receive = decoded(coding, receive)

        async def wrapped_send(message: Message) -> None:
            if "route" in inner:  # who counts requests before this one wants to know
                scope["route"] = inner["route"]
            await send(message)

        await self._app(inner, receive, wrapped_send)

    async def _refuse(
        self, status: int, text: str, headers_of_request: Headers, receive: Receive, send: Send
    ) -> None:
        body = self._refusal_body(text)
        if "expect" not in headers_of_request:  # a client that waits for 100-continue sends nothing
            await drain(receive)
        # It may not have come to its end, and then the connection cannot carry another request.
        headers = [_JSON, (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
