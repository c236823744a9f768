"""What KServe's agent does for a service on a cluster, done by a service's own process."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
import pytest
from processes import until
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from foundation.errors import ConfigurationError
from foundation.event_sender import Event, EventSender
from serving_kit.payload_log import (
    MODE_VARIABLE,
    REQUEST_TYPE,
    RESPONSE_TYPE,
    URL_VARIABLE,
    LogMode,
    PayloadLog,
    mode_of,
    sender_of,
)


@dataclass
class Receiver:
    """A server that keeps what is posted to it."""

    url: str
    took: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 200
    go: threading.Event = field(default_factory=threading.Event)

    def until(self, count: int, seconds: float = 60) -> list[tuple[dict[str, str], bytes]]:
        end = time.monotonic() + seconds
        while len(self.took) < count:
            assert time.monotonic() < end, f"{len(self.took)} of {count} came"
            time.sleep(0.01)
        return self.took


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            keeper.go.wait(60)
            headers = {name.lower(): value for name, value in self.headers.items()}
            keeper.took.append((headers | {"target": self.path}, body))
            self.send_response(keeper.status)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    keeper = Receiver(f"127.0.0.1:{server.server_address[1]}")
    keeper.go.set()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield keeper
    keeper.go.set()
    server.shutdown()
    thread.join()
    server.server_close()


async def predict(request: Request) -> Response:
    body = await request.body()
    if body == b"bad":
        return JSONResponse({"error": "bad"}, 400)
    if body == b"long":
        return Response(b"x" * 2000)
    if body == b"parts":
        return StreamingResponse((part for part in (b"a", b"b", b"c")), media_type="text/plain")
    return JSONResponse({"predictions": len(body)})


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(receiver: Receiver, request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Asks an application behind the layer; messages of more than 1,000 bytes are not logged."""
    import asyncio

    mode: LogMode = getattr(request, "param", "all")
    sender = EventSender(f"http://logger:s%40crt@{receiver.url}/v1/events?a=1")
    app = Starlette(routes=[Route("/v1/models/nano:predict", predict, methods=["GET", "POST"])])
    logged = PayloadLog(app, sender, "nano", "predictor", mode, 1000)

    def answer(body: bytes, method: str = "POST", **headers: str) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(logged)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return await client.request(
                    method,
                    "/v1/models/nano:predict",
                    content=body,
                    headers={"content-type": "application/json"} | headers,
                )

        return asyncio.run(call())

    yield answer
    sender.close(10)


def test_a_request_and_its_answer_are_two_events_under_one_id(ask: Ask, receiver: Receiver) -> None:
    assert ask(b'{"a": 1}').json() == {"predictions": 8}
    (asked, sent), (answered, got) = receiver.until(2)
    assert (sent, got) == (b'{"a": 1}', b'{"predictions":8}')
    assert (asked["ce-type"], answered["ce-type"]) == (REQUEST_TYPE, RESPONSE_TYPE)
    assert asked["ce-id"] == answered["ce-id"] and len(asked["ce-id"]) == 36
    for headers in (asked, answered):
        assert headers["target"] == "/v1/events?a=1"
        assert headers["authorization"] == "Basic bG9nZ2VyOnNAY3J0"  # logger:s@crt
        assert (headers["ce-specversion"], headers["content-type"]) == ("1.0", "application/json")
        assert (headers["ce-inferenceservicename"], headers["ce-component"]) == (
            "nano",
            "predictor",
        )
        assert datetime.fromisoformat(headers["ce-time"]).tzinfo is not None


def test_what_is_logged_and_what_is_not(ask: Ask, receiver: Receiver) -> None:
    ask(b"", "GET")
    assert ask(b"bad", **{"ce-id": "mine"}).status_code == 400  # its request only
    assert ask(b"parts").text == "abc"
    assert len(ask(b"long").content) == 2000  # its request only
    ask(b"y" * 1001)  # its answer only
    events = [(headers["ce-type"], body) for headers, body in receiver.until(5)]
    assert events == [
        (REQUEST_TYPE, b"bad"),
        (REQUEST_TYPE, b"parts"),
        (RESPONSE_TYPE, b"abc"),
        (REQUEST_TYPE, b"long"),
        (RESPONSE_TYPE, b'{"predictions":1001}'),
    ]
    assert receiver.took[0][0]["ce-id"] == "mine"
    assert receiver.took[2][0]["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("ask", "kind"), [("request", REQUEST_TYPE), ("response", RESPONSE_TYPE)], indirect=["ask"]
)
def test_one_half_only(ask: Ask, receiver: Receiver, kind: str) -> None:
    for _ in range(3):
        ask(b"{}")
    assert {headers["ce-type"] for headers, _ in receiver.until(3)} == {kind}


def test_a_slow_receiver_holds_up_no_request(receiver: Receiver) -> None:
    """At most so many wait, by number and by bytes; answers do not."""
    receiver.go.clear()
    sender = EventSender(f"http://{receiver.url}/", most=5, most_bytes=1000)
    assert sender.offer(Event({}, b"first"))
    until(lambda: not sender._waiting)  # the first is with the receiver
    assert [sender.offer(Event({}, b"%d" % number)) for number in range(7)] == [True] * 5 + [
        False
    ] * 2
    receiver.go.set()
    receiver.until(6)
    assert not sender.offer(Event({}, b"x" * 1001))
    assert sender.lost == 3
    sender.close(30)
    assert not sender.offer(Event({}, b"late"))
    assert [body for _, body in receiver.took] == [b"first", b"0", b"1", b"2", b"3", b"4"]


def test_events_of_a_receiver_that_comes_back_are_delivered(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    host, _, port = receiver.url.partition(":")
    held = EventSender(f"http://{host}:{int(port)}/")
    assert held.offer(Event({}, b"one"))
    receiver.until(1)
    held._connection.close()  # as when the receiver closes a connection that was idle
    receiver.status = 503
    assert held.offer(Event({}, b"two"))
    receiver.until(2)
    held.close(30)
    assert held.lost == 1  # refused, which trying again does not change
    assert "1 events lost so far" in caplog.text and "it answered 503" in caplog.text


def test_a_receiver_that_is_not_there_does_not_hold_up_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    sender = EventSender("http://127.0.0.1:9/", patience_seconds=0.2)
    assert sender.offer(Event({}, b"one"))
    until(lambda: sender.lost and "it does not answer" in caplog.text)
    sender.close(5)
    patient = EventSender("http://127.0.0.1:9/", patience_seconds=600)
    assert patient.offer(Event({}, b"one"))
    patient.close(0.1)
    patient._thread.join(30)
    assert not patient._thread.is_alive() and patient.lost == 1


def test_the_environment_states_where_to_and_what() -> None:
    assert sender_of({}) is None and mode_of({}) == "all"
    assert mode_of({MODE_VARIABLE: "response"}) == "response"
    with pytest.raises(ConfigurationError, match="GEARSHIFT_PAYLOAD_LOG_MODE is 'some'; give all"):
        mode_of({MODE_VARIABLE: "some"})
    for url in ("ftp://a:secret@x", "http://", "/v1/events", "http://a:secret@h:port/"):
        with pytest.raises(ConfigurationError, match="give one such as") as refusal:
            sender_of({URL_VARIABLE: url})
        assert "secret" not in str(refusal.value)
