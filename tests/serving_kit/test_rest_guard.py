"""The guard before REST, called as a server calls it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from foundation.errors import TooManyRequests
from serving_kit.rest_guard import RestGuard
from serving_kit.server_metrics import ServerMetrics

Message = dict[str, Any]
SCOPE = {"type": "http", "method": "POST", "path": "/v1/models/m:predict", "headers": []}


class Caller:
    """Sends what it is given, then stays or goes; keeps what it is sent."""

    def __init__(self, *parts: bytes, goes: bool = False) -> None:
        self._parts = list(parts)
        self._goes = goes
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        if self._parts:
            part = self._parts.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self._parts)}
        if not self._goes:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self.sent.append(message)


def counted(registry: CollectorRegistry) -> dict[str, float]:
    return {
        sample.labels["code"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "gearshift_requests_total"
    }


async def call(
    app: Callable[..., Awaitable[None]], caller: Caller, **limits: float
) -> dict[str, float]:
    registry = CollectorRegistry()
    metrics = ServerMetrics("detector", "m", registry)
    guard = RestGuard(app, metrics, **{"max_body_bytes": 10, "body_seconds": 20, **limits})
    async with asyncio.timeout(20):
        await guard(dict(SCOPE), caller.receive, caller.send)
    return counted(registry)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def test_the_body_arrives_whole() -> None:
    caller = Caller(b"one ", b"two")
    assert asyncio.run(call(echo, caller)) == {"200": 1}
    assert caller.sent[1]["body"] == b"one two"


@pytest.mark.parametrize(
    ("caller", "limits", "status"),
    [
        (Caller(b"x" * 6, b"x" * 6, b"x"), {}, 413),
        (Caller(), {"body_seconds": 0.05}, 408),
    ],
)
def test_bodies_beyond_the_limits(caller: Caller, limits: dict[str, float], status: int) -> None:
    assert asyncio.run(call(echo, caller, **limits)) == {str(status): 1}
    assert caller.sent[0]["status"] == status
    assert json.loads(caller.sent[1]["body"])["error"]


def test_failures_have_a_sentence(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        raise TooManyRequests("come back in 2 s")

    async def fail(scope: Any, receive: Any, send: Any) -> None:
        raise ZeroDivisionError("secret")

    caller = Caller(b"x")
    assert asyncio.run(call(refuse, caller)) == {"429": 1}
    assert json.loads(caller.sent[1]["body"]) == {"error": "come back in 2 s"}
    assert not caplog.records
    caller = Caller(b"x")
    assert asyncio.run(call(fail, caller)) == {"500": 1}
    assert b"secret" not in caller.sent[1]["body"]
    assert "ZeroDivisionError: secret" in caplog.text


def test_nothing_is_computed_for_a_caller_that_has_gone() -> None:
    ended = []

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(True)
            raise

    caller = Caller(b"x", goes=True)
    assert asyncio.run(call(endless, caller)) == {"499": 1}
    assert ended == [True]
    assert caller.sent == []


def test_other_than_http_passes() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    metrics = ServerMetrics("detector", "m", CollectorRegistry())
    guard = RestGuard(app, metrics, 10, 20)
    caller = Caller()
    asyncio.run(guard({"type": "lifespan"}, caller.receive, caller.send))
    assert seen == ["lifespan"]
