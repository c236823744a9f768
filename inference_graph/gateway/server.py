"""Serving the gateway: idle sockets are closed, and a free port can be taken."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import uvicorn
from fastapi import APIRouter, FastAPI

from inference_graph.gateway.app import build_app
from inference_graph.gateway.problems import problem_body
from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.gateway.stream_socket import limited_socket
from serving_kit.connection_limits import ConnectionLimits, Connections, limited_http
from serving_kit.listening import listen, url_of

_log = logging.getLogger(__name__)

_GRACE = 5
"""Seconds that answers in work have when the gateway stops."""
_ARRIVING_BYTES = 96 * 1024 * 1024
"""Bytes of unfinished requests and messages that are held; a journal of a device may have 64 MB."""

Background = Callable[[Runtime], Awaitable[None]]
"""Works beside the requests until it is cancelled."""


def serve_gateway(
    settings: GatewaySettings,
    on_ready: Callable[[str], None] | None = None,
    more_routes: Sequence[Callable[[Runtime], APIRouter]] = (),
    background: Background | None = None,
) -> None:
    """Serve until interrupted or terminated; blocks.

    Args:
        settings: how to run.
        on_ready: called with the gateway's URL once it answers.
        more_routes: see `build_app`.
        background: started once frames can be answered, and cancelled before the end.

    Raises:
        ConfigurationError: the address is in use or not this machine's, or tokens, rungs or log
            are unusable.
        ModelError: the policy, or weights in process, are unusable.
    """
    listening = listen(settings.host, settings.port)
    with listening:
        server = make_server(
            settings, build_app(settings, more_routes=more_routes), listening, on_ready, background
        )
        server.run(sockets=[listening])


def make_server(
    settings: GatewaySettings,
    app: FastAPI,
    listening: socket.socket,
    on_ready: Callable[[str], None] | None = None,
    background: Background | None = None,
) -> uvicorn.Server:
    """The server of an application; run it with ``sockets=[listening]``.

    Args:
        settings: limits of connections.
        app: the ASGI application.
        listening: where it listens.
        on_ready: called with its URL once it answers.
        background: see `serve_gateway`.
    """
    connections = Connections(
        ConnectionLimits(
            proxies=settings.proxies,
            header_seconds=settings.body_seconds,
            write_seconds=settings.send_seconds,
            arriving_bytes=max(_ARRIVING_BYTES, 2 * settings.max_body),
        )
    )

    class Announcing(uvicorn.Server):
        """A server that announces when it answers."""

        _work: asyncio.Future[None] | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            # Before the application's own start, which would only log a failure.
            await app.state.runtime.start()
            await super().startup(sockets)
            if background is not None and not self.should_exit:
                self._work = asyncio.ensure_future(background(app.state.runtime))
                self._work.add_done_callback(self._ended)
            if on_ready is not None and not self.should_exit:
                on_ready(url_of(listening))

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            connections.draining = True
            await asyncio.sleep(settings.drain_seconds)
            if self._work is not None:
                self._work.cancel()
                await asyncio.wait([self._work])
            await super().shutdown(sockets)

        def _ended(self, work: asyncio.Future[None]) -> None:
            if not work.cancelled() and work.exception() is not None:
                _log.error("the work beside the requests failed", exc_info=work.exception())
                self.should_exit = True

    return Announcing(
        uvicorn.Config(
            app,
            http=limited_http(connections, problem_body),
            ws=limited_socket(connections, settings.body_seconds),
            ws_max_size=settings.max_body,
            ws_ping_interval=settings.ping_seconds,
            ws_ping_timeout=settings.ping_seconds,
            # Deflating JSON of a frame costs more time than the loopback or a LAN needs for it.
            ws_per_message_deflate=False,
            timeout_keep_alive=int(max(settings.body_seconds, 1)),
            timeout_graceful_shutdown=_GRACE,
            lifespan="on",
            forwarded_allow_ips=settings.proxies,
            log_level=logging.WARNING,
            log_config=None,
            access_log=False,
            server_header=False,
        )
    )
