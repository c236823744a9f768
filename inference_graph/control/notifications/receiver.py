"""A small receiver of alerts, in Alertmanager's place where there is none.

It listens where Prometheus looks for an Alertmanager. Pushed alerts rather than polled ones:
Prometheus sends them within one evaluation and again until they are taken, so a receiver that
was away misses nothing, and putting a real Alertmanager there changes an address and no code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from foundation.errors import GearshiftError, PayloadTooLarge
from inference_graph.control.notifications.alerts import AlertBook, read_alerts
from inference_graph.control.notifications.message import Message

_LARGEST = 4 * 1024 * 1024
"""Bytes of a request; Prometheus sends 64 alerts in one."""


def build_receiver(send: Callable[[Message], None]) -> Starlette:
    """The ASGI application.

    Args:
        send: takes a message; must not block.
    """
    book = AlertBook()

    async def alerts(request: Request) -> Response:
        try:
            found = read_alerts(await _body(request))
        except ClientDisconnect:
            return Response(status_code=400)  # the client has gone
        except GearshiftError as error:
            return JSONResponse({"error": str(error)}, error.http_status)
        for message in book.news(found, datetime.now(UTC)):
            send(message)
        return JSONResponse({})

    async def healthy(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/api/v2/alerts", alerts, methods=["POST"]),
            Route("/webhook", alerts, methods=["POST"]),
            Route("/healthz", healthy),
        ]
    )


async def _body(request: Request) -> bytes:
    parts = bytearray()
    async for part in request.stream():
        parts += part
        if len(parts) > _LARGEST:
            raise PayloadTooLarge(f"the request has more than {_LARGEST} bytes; send fewer alerts")
    return bytes(parts)
