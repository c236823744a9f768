"""Requests and answers of a model server as CloudEvents, as KServe's payload logger sends them.

One POST per message in CloudEvents' binary mode: the request as soon as it has come whole, its
answer where the status is 200, both under one ``Ce-Id``. Nothing waits for it: see
:mod:`foundation.event_sender`. An InferenceService with a ``logger`` has KServe's agent do the same
before its container; a server there must not log as well.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, get_args

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundation.errors import ConfigurationError
from foundation.event_sender import Event, EventSender

LogMode = Literal["all", "request", "response"]
URL_VARIABLE, MODE_VARIABLE = "GEARSHIFT_PAYLOAD_LOG", "GEARSHIFT_PAYLOAD_LOG_MODE"
"""Environment variables: where events go, ``http://NAME:TOKEN@host/...`` as in a service's
``logger``, and which. No options, for a token has no place on a command line."""

REQUEST_TYPE = "org.kubeflow.serving.inference.request"
RESPONSE_TYPE = "org.kubeflow.serving.inference.response"


def sender_of(environment: Mapping[str, str]) -> EventSender | None:
    """What sends events to the address in the environment; None without one.

    Raises:
        ConfigurationError: no http(s) address.
    """
    url = environment.get(URL_VARIABLE)
    return EventSender(url) if url else None


def mode_of(environment: Mapping[str, str]) -> LogMode:
    """Which messages the environment wants logged.

    Raises:
        ConfigurationError: none of all, request, response.
    """
    wrapped_send = environment.get(MODE_VARIABLE, "all")
    modes: tuple[LogMode, ...] = get_args(LogMode)
    for mode in modes:
        if mode == wrapped_send:
            return mode
    raise ConfigurationError(f"{MODE_VARIABLE} is {wrapped_send!r}; give all, request or response")


class PayloadLog:
    """ASGI layer that sends on what passes it; POSTs only, for nothing else carries a payload."""

    def __init__(
        self,
        app: ASGIApp,
        sender: EventSender,
        service: str,
        component: str,
        mode: LogMode,
        most_bytes: int,
    ) -> None:
        """Wrap an ASGI application.

        Args:
            app: the application.
            sender: takes the events.
            service: name of the InferenceService.
            component: "predictor" or "transformer".
            mode: requests, responses, or all.
            most_bytes: a longer message is not sent on.
        """
        self._app = app
        self._sender = sender
        self._attributes = {
            "Ce-Specversion": "1.0",
            "Ce-Source": f"urn:gearshift:{component}:{service}",
            "Ce-Inferenceservicename": service,
            "Ce-Component": component,
        }
        self._requests, self._responses = mode != "response", mode != "request"
        self._most_bytes = most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, and send it on."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        event_id = headers.get(b"ce-id") or str(uuid.uuid4())
        asked, answered = _Copy(self._most_bytes), _Copy(self._most_bytes)
        kind = headers.get(b"content-type", "application/json")

        async def wrapped_receive() -> Message:
            message = await receive()
            if message["type"] == "http.request" and asked.take(message) and self._requests:
                self._offer(REQUEST_TYPE, event_id, kind, asked.whole())
            return message

        async def wrapped_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                answered.wanted = self._responses and message["status"] == 200
                answered.kind = dict(message["headers"]).get(b"content-type", b"application/json")
            elif answered.take(message):
                self._offer(
                    RESPONSE_TYPE, event_id, answered.kind.decode("latin-1"), answered.whole()
                )

        await self._app(scope, wrapped_receive, wrapped_send)

    def _offer(self, kind: str, event_id: str, media: str, body: bytes) -> None:
        attributes = {
            **self._attributes,
            "Ce-Type": kind,
            "Ce-Id": event_id,
            "Ce-Time": datetime.now(UTC).isoformat(),
            "Content-Type": media,
        }
        self._sender.offer(Event(attributes, body))


class _Copy:
    """The parts of one message as they pass."""

    def __init__(self, most_bytes: int) -> None:
        self.wanted = True
        self.kind = b""
        self._left = most_bytes
        self._parts: list[bytes] = []

    def take(self, message: Message) -> bool:
        """Keep a part; whether the message is whole now and not too long."""
        if not self.wanted:
            return False
        part = message.get("body", b"")
        self._left -= len(part)
        if self._left < 0:
            self.wanted, self._parts = False, []
            return False
        self._parts.append(part)
        if message.get("more_body", False):
            return False
        self.wanted = False  # what comes behind the end is no part of it
        return True

    def whole(self) -> bytes:
        """All of it."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
