"""Serving the gateway: sockets that say nothing are let go of, and a free port can be taken."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from feature_transformer.errors import ConfigurationError
from inference_graph.gateway.app import build_app
from inference_graph.gateway.runtime import Runtime
from inference_graph.gateway.settings import GatewaySettings

_GRACE = 5
"""Seconds that answers in work have when the gateway stops."""
_TOO_SLOW_BODY = b'{"detail":"the request did not arrive in time; send it again"}'
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(_TOO_SLOW_BODY), _TOO_SLOW_BODY)
)


def serve_gateway(
    settings: GatewaySettings,
    on_ready: Callable[[str], None] | None = None,
    more_routes: Sequence[Callable[[Runtime], APIRouter]] = (),
) -> None:
    """Serve until interrupted or terminated; blocks.

    Args:
        settings: how to run.
        on_ready: called with the gateway's URL once it answers.
        more_routes: see `build_app`.

    Raises:
        ConfigurationError: the address is in use or not this machine's, or tokens, rungs or log
            are unusable.
        ModelError: the policy, or weights in process, are unusable.
    """
    listening = listen(settings.host, settings.port)
    with listening:
        server = make_server(
            settings, build_app(settings, more_routes=more_routes), listening, on_ready
        )
        server.run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigurationError: the address is in use or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host.strip("[]"), port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; choose another port"
        ) from error
    listening.listen(1024)
    return listening


def url_of(listening: socket.socket) -> str:
    """The URL of a server on this socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def make_server(
    settings: GatewaySettings,
    app: FastAPI,
    listening: socket.socket,
    on_ready: Callable[[str], None] | None = None,
) -> uvicorn.Server:
    """The server of an application; run it with ``sockets=[listening]``.

    Args:
        settings: limits of connections.
        app: the ASGI application.
        listening: where it listens.
        on_ready: called with its URL once it answers.
    """

    class Patient(HttpToolsProtocol):
        """A connection that is closed when the headers of a request do not come."""

        _giving_up: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._giving_up = self.loop.call_later(settings.body_seconds, self._give_up)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._stop_waiting()
            self._giving_up = self.loop.call_later(settings.body_seconds, self._give_up)

        def on_headers_complete(self) -> None:
            self._stop_waiting()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self) -> None:
            self._stop_waiting()
            super().handle_websocket_upgrade()

        def _stop_waiting(self) -> None:
            if self._giving_up is not None:
                self._giving_up.cancel()
                self._giving_up = None

        def _give_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.write(_TOO_SLOW)
                self.transport.close()

    class Refusing(WebSocketsSansIOProtocol):
        """A WebSocket whose refusal is an answer; uvicorn would log each as an error."""

        async def send(self, message: Any) -> None:
            await super().send(message)
            if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
                self.handshake_complete = True

    class Announcing(uvicorn.Server):
        """A server that tells when it answers."""

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            # Before the application's own start, which would tell a failure to nobody but a log.
            await app.state.runtime.start()
            await super().startup(sockets)
            if on_ready is not None and not self.should_exit:
                on_ready(url_of(listening))

    return Announcing(
        uvicorn.Config(
            app,
            http=Patient,
            ws=Refusing,
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
