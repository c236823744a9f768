"""Serving a graph over HTTP, and a process that does nothing else.

As KServe's router does it, a request of any method on any path runs the graph, and ``/readyz``
answers 200 with an empty body, or 503 ``shutting down``. ``/healthz`` is ours and answers the same.
SIGHUP has the process read its manifest again: requests in
work go on through the graph they began with, and the header ``graph-digest`` of ``/readyz`` names
which one new requests meet. Limits are ours too, KServe's router has none: 413 for a body
that is too large, 503 when too many requests are in work, 408 when a request's body does not
arrive within ``routerTimeouts.serverRead``. Each has the router's form of an error.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from foundation.errors import (
    ConfigurationError,
    GearshiftError,
    PayloadTooLarge,
    Unavailable,
)
from foundation.event_loop import run
from foundation.http_client import HttpClient
from inference_graph.graph.execute import GraphAnswer, GraphExecutor, failed
from inference_graph.graph.services import ServiceUrls
from inference_graph.graph.spec import InferenceGraphSpec, load_graph
from serving_kit.connection_limits import ConnectionLimits, Connections, limited_http
from serving_kit.foreign_pages import hosts_of
from serving_kit.http_front import HttpFront
from serving_kit.listening import listen, url_of
from serving_kit.rest_guard import drain

LARGEST_BODY = 32 * 2**20
"""Bytes of a request: a dozen photographs in base64."""
MOST_REQUESTS = 256
"""Requests in work at once; with the largest body each, that is 8 GiB."""
DRAIN_SECONDS = 30
"""How long requests in work may take after the signal to stop."""
# Shorter than the 5 s after which uvicorn's servers close an idle connection, or a call now and
# then goes out on one that is being closed.
_IDLE_SECONDS = 3.0

_HEALTH = ("/healthz", "/readyz")
DIGEST_HEADER = "graph-digest"
"""Names the first 12 digits of the SHA-256 of the manifest in use."""

_log = logging.getLogger(__name__)


def build_app(
    executor: GraphExecutor,
    *,
    largest_body: int = LARGEST_BODY,
    most_requests: int = MOST_REQUESTS,
    stopping: Callable[[], bool] = lambda: False,
) -> _App:
    """The ASGI application of a graph.

    Args:
        executor: the graph, ready to run.
        largest_body: bytes of a request at most.
        most_requests: requests in work at once at most.
        stopping: whether the process is about to end; ``/readyz`` reports it.

    Raises:
        ConfigurationError: a limit below 1.
    """
    for name, limit in (("largest_body", largest_body), ("most_requests", most_requests)):
        if limit < 1:
            raise ConfigurationError(f"{name} is {limit}, but has to be at least 1")
    return _App(executor, largest_body, most_requests, stopping)


class _App:
    digest = ""

    def __init__(
        self,
        executor: GraphExecutor,
        largest_body: int,
        most_requests: int,
        stopping: Callable[[], bool],
    ) -> None:
        self._executor = executor
        self._largest_body = largest_body
        self._most_requests = most_requests
        self._stopping = stopping
        self._in_work = 0
        read = executor.spec.timeouts.server_read
        self._read_limit = read if read > 0 else None

    def use(self, executor: GraphExecutor, digest: str) -> None:
        """Lead requests through another graph from now on; those in work go on as they began."""
        self._executor, self.digest = executor, digest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1003})
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            return  # the client has gone
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.url.path in _HEALTH:
            if self._stopping():
                return Response("shutting down\n", 503, media_type="text/plain")
            return Response(headers={DIGEST_HEADER: self.digest} if self.digest else None)
        if self._in_work >= self._most_requests:
            cause = f"{self._in_work} requests are in work already; try again in a second"
            await drain(request.receive)
            return _response(
                failed(Unavailable.http_status, cause), {**_UNREAD, "Retry-After": "1"}
            )
        self._in_work += 1
        try:
            return await self._run(request)
        finally:
            self._in_work -= 1

    async def _run(self, request: Request) -> Response:
        try:
            async with asyncio.timeout(self._read_limit):
                body = await self._body(request)
        except TimeoutError:
            cause = f"the request's body did not arrive within {self._read_limit} s"
            return _response(failed(408, cause), _UNREAD)
        except GearshiftError as error:
            await drain(request.receive)
            return _response(failed(error.http_status, str(error)), _UNREAD)
        headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in _raw(request)]
        return _response(await self._executor.run(body, headers))

    async def _body(self, request: Request) -> bytes:
        too_large = PayloadTooLarge(f"the request has more than {self._largest_body} bytes")
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._largest_body:
            raise too_large
        parts = bytearray()
        async for part in request.stream():
            parts += part
            if len(parts) > self._largest_body:
                raise too_large
        return bytes(parts)


_UNREAD: Mapping[str, str] = {"Connection": "close"}
"""The rest of the request was not read, so its connection cannot carry another."""


def _raw(request: Request) -> Sequence[tuple[bytes, bytes]]:
    return request.headers.raw


def _response(answer: GraphAnswer, more: Mapping[str, str] | None = None) -> Response:
    # Starlette's Response adds no charset of its own when the headers name the type.
    return Response(answer.body, answer.status, {**answer.headers, **(more or {})})


def serve_graph(
    path: Path,
    port: int,
    host: str = "127.0.0.1",
    services: Mapping[str, str] | None = None,
    header_patterns: Sequence[str] = (),
    on_ready: Callable[[str], None] | None = None,
    *,
    largest_body: int = LARGEST_BODY,
    most_requests: int = MOST_REQUESTS,
    allowed_hosts: str = "",
) -> None:
    """Serve an InferenceGraph until SIGINT or SIGTERM; requests in work are answered first.

    Args:
        path: the manifest.
        port: TCP port; 0 takes a free one.
        host: address to listen on.
        services: address by name, for steps with a ``serviceName``; one without a path gets V1's.
        header_patterns: regular expressions over the names of headers that steps get too.
        on_ready: called once with the graph's URL when requests are accepted.
        largest_body: bytes of a request at most.
        most_requests: requests in work at once at most.
        allowed_hosts: names it answers to, separated by commas, besides those of loopback; any on
            another address without them.

    Raises:
        ConfigurationError: the manifest, a service, a pattern or a limit is not usable, or the
            port is taken.
    """
    spec = load_graph(path)
    resolve = ServiceUrls(services or {})

    async def serve() -> None:
        async with HttpClient(_IDLE_SECONDS) as client:

            def read(spec: InferenceGraphSpec) -> GraphExecutor:
                return GraphExecutor(spec, resolve, client, header_patterns)

            app = build_app(
                read(spec),
                largest_body=largest_body,
                most_requests=most_requests,
                stopping=lambda: server.should_exit,
            )
            app.digest = graph_digest(path)

            def again() -> None:
                try:
                    digest = graph_digest(path)
                    app.use(read(load_graph(path)), digest)
                except (GearshiftError, OSError) as error:
                    _log.error("the graph stays as it was: %s", error)

            _on_hangup(again)
            idle = spec.timeouts.server_idle
            limits = _connection_limits(spec)
            server = uvicorn.Server(
                uvicorn.Config(
                    HttpFront(app, _refused, hosts_of(host, allowed_hosts), exact_paths=True),
                    http=limited_http(Connections(limits), _refused),
                    ws="none",
                    log_config=None,
                    access_log=False,
                    lifespan="off",
                    timeout_keep_alive=idle if idle > 0 else 3600,
                    timeout_graceful_shutdown=DRAIN_SECONDS,
                )
            )
            with listen(host, port) as listener, _Stopping(server):
                await asyncio.gather(
                    server.serve(sockets=[listener]),
                    _announced(server, url_of(listener), on_ready),
                )

    run(serve())


def _connection_limits(spec: InferenceGraphSpec) -> ConnectionLimits:
    """The graph's own timeouts; 0 or less stands for none there, and for an hour here."""
    read, write = spec.timeouts.server_read, spec.timeouts.server_write
    return ConnectionLimits(
        header_seconds=read if read > 0 else 3600, write_seconds=write if write > 0 else 3600
    )


def _refused(text: str) -> bytes:
    return failed(400, text).body


def graph_digest(path: Path) -> str:
    """First 12 digits of the SHA-256 of a manifest."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def _on_hangup(act: Callable[[], None]) -> None:
    if threading.current_thread() is threading.main_thread():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, act)


async def _announced(
    server: uvicorn.Server, url: str, on_ready: Callable[[str], None] | None
) -> None:
    while not server.started and not server.should_exit:
        await asyncio.sleep(0.01)
    if server.started and on_ready is not None:
        on_ready(url)


class _Stopping:
    """Both signals to stop end the server and are then done with.

    uvicorn takes the signals while it serves, and raises them once more when it has stopped: with
    Python's own handlers that would be a traceback, or a process that was killed.
    """

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._server.should_exit = True


__all__ = ["DRAIN_SECONDS", "LARGEST_BODY", "MOST_REQUESTS", "build_app", "serve_graph"]
