"""Serving one model with KServe's model server: addresses, signals, logging, and an end.

KServe's own ``ModelServer.start`` binds every interface, cannot tell which port it was given
for port 0, lets anybody unload the model and logs a traceback for each bad request; so its parts
are put together here, see :mod:`serving_kit.kserve_parts`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Annotated, Literal

import uvicorn
from prometheus_client import REGISTRY
from pydantic import Field
from starlette.types import ASGIApp

from foundation.command_line import announce
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.event_loop import run
from foundation.event_sender import EventSender
from foundation.metrics import expose_build
from serving_kit.connection_limits import ConnectionLimits, Connections, limited_http
from serving_kit.foreign_pages import hosts_of
from serving_kit.http_front import HttpFront
from serving_kit.kserve_parts import KServeParts
from serving_kit.listening import listen
from serving_kit.model_service import ModelService
from serving_kit.payload_log import PayloadLog, mode_of, sender_of
from serving_kit.rest_guard import error_body
from serving_kit.server_metrics import ServerMetrics

_LAST_EVENTS_SECONDS = 2.0
"""How long the end waits for events that are on their way."""


@configuration
class ServerOptions:
    """Where and how a service listens.

    Attributes:
        host: address to listen on; 127.0.0.1 keeps it to this machine.
        http_port: port of REST, 0 for any free one.
        grpc_port: port of gRPC, 0 for any free one.
        enable_grpc: whether gRPC is served at all.
        max_body_bytes: longest request in bytes, of both protocols.
        body_seconds: longest wait for a request's body.
        drain_seconds: time in which a server that is told to stop goes on answering, and ends each
            connection with the next answer.
        grace_seconds: time that requests in work are given after that.
        log_level: what is logged to stderr.
        allowed_hosts: names REST answers to, separated by commas, besides those of loopback; on
            another address than loopback any name does without it.
        workers: only 1 is possible, for a model lives in one process; scale by replicas.
    """

    host: str = "0.0.0.0"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8080
    grpc_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    enable_grpc: bool = True
    max_body_bytes: Annotated[int, Field(ge=1024, le=2**31 - 1)] = 32 * 1024 * 1024
    body_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    drain_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    grace_seconds: Annotated[float, Field(gt=0, le=3600)] = 5.0
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    allowed_hosts: str = ""
    workers: int = 1

    def __post_init__(self) -> None:
        if self.http_port and self.http_port == self.grpc_port and self.enable_grpc:
            raise ConfigurationError(f"REST and gRPC cannot share port {self.http_port}")
        if self.workers != 1:
            raise ConfigurationError(f"workers is {self.workers}; give 1 and scale by replicas")


def serve(service: ModelService, options: ServerOptions, schema: str) -> None:
    """Serve a model until SIGTERM or SIGINT; requests in work are finished first.

    A line on stdout announces when both protocols answer.

    Args:
        service: the model, loaded.
        options: where and how.
        schema: hash of the observation's schema, for the metric of what runs.

    Raises:
        ConfigurationError: an address that cannot be listened on.
    """
    _log_to_stderr(options.log_level)
    listener = listen(options.host, options.http_port)
    with contextlib.closing(listener):
        metrics = ServerMetrics(service.kind, service.name, REGISTRY)
        expose_build(REGISTRY, service.kind, schema)
        parts = KServeParts(service, metrics, options.max_body_bytes, options.body_seconds)
        run(_serve(service, options, parts, metrics, listener))


async def _serve(
    service: ModelService,
    options: ServerOptions,
    parts: KServeParts,
    metrics: ServerMetrics,
    listener: socket.socket,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await service.start(metrics)
    sender = sender_of(os.environ)
    connections = Connections(ConnectionLimits(header_seconds=options.body_seconds))
    try:
        rest = _Rest(
            uvicorn.Config(
                HttpFront(
                    _logged(parts.app, service, options.max_body_bytes, sender),
                    error_body,
                    hosts_of(options.host, options.allowed_hosts),
                ),
                http=limited_http(connections, error_body),
                ws="none",
                log_config=None,
                access_log=options.log_level in ("debug", "info"),
                timeout_keep_alive=65,
                timeout_graceful_shutdown=max(1, round(options.grace_seconds)),
                server_header=False,
            )
        )
        running = asyncio.create_task(rest.serve(sockets=[listener]))
        grpc, grpc_address = None, None
        if options.enable_grpc:
            grpc = parts.grpc_server()
            grpc_address = _bind_grpc(grpc, options.host, options.grpc_port)
            await grpc.start()
        while not rest.started and not running.done():
            await asyncio.sleep(0.01)
        http_address = _address(options.host, listener.getsockname()[1])
        announce(service.name, http=http_address, grpc=grpc_address)
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((running, stopped), return_when=asyncio.FIRST_COMPLETED)
        connections.draining = True
        if not running.done():
            await asyncio.sleep(options.drain_seconds)
        rest.should_exit = True
        if grpc is not None:
            await grpc.stop(options.grace_seconds)
        await running
        stopped.cancel()
    finally:
        await service.close()
        if sender is not None:
            await asyncio.to_thread(sender.close, _LAST_EVENTS_SECONDS)


def _logged(
    app: ASGIApp, service: ModelService, most_bytes: int, sender: EventSender | None
) -> ASGIApp:
    """The application; with a sender, what passes it is sent on."""
    if sender is None:
        return app
    # KServe's names: whatever is no transformer is a predictor.
    component = "transformer" if service.kind == "transformer" else "predictor"
    return PayloadLog(app, sender, service.name, component, mode_of(os.environ), most_bytes)


class _Rest(uvicorn.Server):
    """Uvicorn that leaves the signals to the server it is a part of."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bind_grpc(server: object, host: str, port: int) -> str:
    bind: Callable[[str], int] = server.add_insecure_port  # type: ignore[attr-defined] # untyped
    try:
        return _address(host, bind(_address(host, port)))
    except RuntimeError as error:
        raise ConfigurationError(
            f"cannot listen on {_address(host, port)}: it is taken or not this machine's; give "
            "another address or port"
        ) from error


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _log_to_stderr(level: str) -> None:
    """One line per record on stderr; KServe and Uvicorn come with setups of their own."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("kserve", "kserve.trace"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
