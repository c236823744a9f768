"""What guards a REST server: limits of the body, counting, and an answer for every failure."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from typing import Any

import orjson

from foundation.errors import GearshiftError
from serving_kit.server_metrics import ServerMetrics
from serving_kit.statuses import one_line

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]

_log = logging.getLogger("gearshift.server")
_DRAIN_SECONDS, _SILENT_SECONDS = 2.0, 0.5
_GONE = 499
"""What is counted for a caller that went before its answer."""


class RestGuard:
    """ASGI middleware that reads the whole body under limits before anything parses it."""

    def __init__(
        self, app: _App, metrics: ServerMetrics, max_body_bytes: int, body_seconds: float
    ) -> None:
        """Wrap an ASGI application.

        Args:
            app: the application.
            metrics: where answers are counted.
            max_body_bytes: a longer body is answered 413, unread if it declares its length.
            body_seconds: a body that takes longer to arrive is answered 408.
        """
        self._app = app
        self._metrics = metrics
        self._max_body_bytes = max_body_bytes
        self._body_seconds = body_seconds

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        head = scope["path"][:4]
        protocol = {"/v1/": "v1", "/v2/": "v2"}.get(head, "other")
        answer = _Answer(send, functools.partial(self._metrics.answered, protocol))
        body = b""
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            try:
                async with asyncio.timeout(self._body_seconds):
                    body = await self._body(scope, receive)
            except TimeoutError:
                text = f"the body did not arrive within {self._body_seconds:g} s; send it again"
                await answer.refuse(408, text)
            except _TooLong as error:
                await drain(receive)
                await answer.refuse(413, str(error))
            except GearshiftError as error:  # what the body was packed in cannot be read
                await drain(receive)
                await answer.refuse(error.http_status, str(error))
            except _Gone:
                return
        if answer.status is None:
            answer.start = time.perf_counter()
            await self._until_gone(self._answer(scope, _replay(body, receive), answer), receive)
        answer.count(_GONE)

    async def _until_gone(self, work: Coroutine[Any, Any, None], receive: _Receive) -> None:
        """Work until it is done or its caller has gone, for whom nothing need be computed."""
        working = asyncio.ensure_future(work)
        listening = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
            working.cancel()  # does nothing to work that is done
            await asyncio.gather(working, listening, return_exceptions=True)

    async def _answer(
        self, scope: MutableMapping[str, Any], receive: _Receive, answer: _Answer
    ) -> None:
        try:
            await self._app(scope, receive, answer.send)
        except GearshiftError as error:
            await answer.refuse(error.http_status, str(error))
        except Exception:
            # The application's own handlers know every failure that is the caller's.
            _log.exception("%s %s failed", scope["method"], scope["path"])
            await answer.refuse(500, "the server failed on this request; see its log")

    async def _body(self, scope: MutableMapping[str, Any], receive: _Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            raise _TooLong(self._too_long(int(declared)))
        parts, length = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            part = message.get("body", b"")
            length += len(part)
            if length > self._max_body_bytes:
                raise _TooLong(self._too_long(length))
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_long(self, length: int) -> str:
        return (
            f"the body has {length} bytes or more, more than the {self._max_body_bytes} allowed; "
            "send a smaller image"
        )


async def _disconnected(receive: _Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def drain(receive: _Receive) -> None:
    """Let a caller that is still sending come to its end, for otherwise it reads no answer.

    It has two seconds for that; one that sends nothing for half a second is not waited for.
    """
    end = asyncio.get_running_loop().time() + _DRAIN_SECONDS
    with contextlib.suppress(TimeoutError):
        more = True
        while more and asyncio.get_running_loop().time() < end:
            async with asyncio.timeout(_SILENT_SECONDS):
                message = await receive()
            more = message["type"] == "http.request" and message.get("more_body", False)


class _TooLong(Exception):
    pass


class _Gone(Exception):
    pass


class _Answer:
    """Sends, remembers with which status, and is counted before its last byte leaves."""

    def __init__(self, send: _Send, counted: Callable[[int, float], None]) -> None:
        self._send = send
        self._counted: Callable[[int, float], None] | None = counted
        self.status: int | None = None
        self.start = time.perf_counter()

    async def send(self, message: _Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif not message.get("more_body", False):
            self.count(500)
        await self._send(message)

    def count(self, without_status: int) -> None:
        """Count once, under the status sent, or this one without any."""
        if self._counted is not None:
            self._counted(self.status or without_status, time.perf_counter() - self.start)
            self._counted = None

    async def refuse(self, status: int, text: str) -> None:
        if self.status is not None:
            return  # the answer has begun; all that is left is to end it
        body = error_body(text)
        length = str(len(body)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", length)]
        if status in (408, 413, 415):
            # What is left of the body would be read as the next request.
            headers.append((b"connection", b"close"))
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


def error_body(text: str) -> bytes:
    """The body of every refusal: ``{"error": "one sentence"}``, as KServe's own are."""
    return orjson.dumps({"error": one_line(text)})


def _replay(body: bytes, receive: _Receive) -> _Receive:
    """A ``receive`` that gives the body that was read, then what comes after it."""
    left = [body]

    async def again() -> _Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await receive()

    return again
