from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from gateway_samples import (
    Message,
    Rungs,
    Served,
    asked,
    gateway_settings,
    jpeg,
    received,
    served,
    talk,
)
from processes import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def fates(messages: list[Message]) -> list[int]:
    """Frame numbers in the order they were reported."""
    reported: list[int] = []
    for message in messages:
        reported += message["frames"] if message["type"] == "dropped" else [message["frame"]]
    return reported


def test_each_frame_is_answered_by_the_rung_the_policy_chose(gateway: Served) -> None:
    answers = talk(gateway.stream, lambda stream: asked(stream, *map(jpeg, range(6))))
    assert [answer["frame"] for answer in answers] == list(range(6))
    # The context of a frame is what the rung before saw, so this proves the memory as well.
    assert [answer["rung"] for answer in answers] == ["nano", "small", "large"] * 2
    assert [answer["answered_by"] for answer in answers] == ["nano", "small", "large"] * 2
    assert [len(answer["detections"]) for answer in answers] == [1, 2, 3] * 2
    assert answers[0]["detections"] == [
        {"box": [10.0, 10.0, 30.0, 50.0], "score": 0.8, "label": 1, "category_id": 3, "name": "car"}
    ]
    for answer in answers:
        assert answer["type"] == "detections"
        assert (answer["fallback"], answer["shadow"]) == ("", False)
        assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-3)
        spent = answer["milliseconds"]
        parts = ("decode", "observe", "decide", "queue", "detect")
        assert set(spent) == {*parts, "total"}
        assert sum(spent[part] for part in parts) <= spent["total"] + 0.01
    assert len({answer["event_id"] for answer in answers}) == 6


def test_a_fast_client_loses_old_frames_and_is_informed(gateway: Served, rungs: Rungs) -> None:
    for rung in rungs.values():
        rung.delay = 0.25
    count = 40

    async def session(stream: Any) -> list[Message]:
        frames = [jpeg(index) for index in range(count)]
        for frame in frames:
            await stream.send(frame)
            await asyncio.sleep(0.03)
        messages: list[Message] = []
        while len(fates(messages)) < count:
            messages.append(await received(stream))
        return messages

    messages = talk(gateway.stream, session)
    assert fates(messages) == list(range(count))  # each once, in order
    answered = [message["frame"] for message in messages if message["type"] == "detections"]
    dropped = [message for message in messages if message["type"] == "dropped"]
    assert answered[0] == 0
    assert answered[-1] == count - 1  # the newest is never the one that is lost
    assert 3 <= len(answered) < count
    assert {message["reason"] for message in dropped} == {"newer"}


def test_a_stream_over_its_rate_is_slowed(rungs: Rungs) -> None:
    async def session(stream: Any) -> tuple[list[Message], float]:
        start = time.monotonic()
        messages = await asked(stream, jpeg())
        for index in range(1, 5):
            await stream.send(jpeg(index))
        messages += [await received(stream), await received(stream)]
        return messages, time.monotonic() - start

    with served(gateway_settings(max_fps=0.5), rungs) as gateway:
        messages, seconds = talk(gateway.stream, session)
    assert fates(messages) == list(range(5))
    assert [message["type"] for message in messages] == ["detections", "dropped", "detections"]
    assert (messages[1]["frames"], messages[1]["reason"]) == ([1, 2, 3], "rate")
    assert seconds >= 2  # one frame every two seconds


def test_what_is_no_image_is_an_error_of_that_frame_only(gateway: Served) -> None:
    sent = (jpeg(), b"not an image", jpeg()[:900], b"", b"GIF89a" + bytes(50), jpeg(1))
    messages = talk(gateway.stream, lambda stream: asked(stream, *sent))
    assert [message["type"] for message in messages] == [
        *("detections", "error", "error", "error", "error", "detections")
    ]
    assert [message["frame"] for message in messages] == list(range(6))
    assert [message.get("status") for message in messages[1:5]] == [400] * 4
    assert "no image of a known format" in messages[1]["detail"]
    assert "cut short" in messages[2]["detail"]


def test_an_image_beyond_the_limits_is_refused_by_its_header(rungs: Rungs) -> None:
    settings = gateway_settings(max_pixels=10_000, formats=("png", "jpeg"))
    webp = b"RIFF\x1a\0\0\0WEBPVP8L\r\0\0\0\x2f\0\0\0\x10\x07\x10\x11\x11\x88\x88"
    with served(settings, rungs) as gateway:
        pixels, form = talk(gateway.stream, lambda stream: asked(stream, jpeg(), webp))
    assert (pixels["status"], form["status"]) == (413, 415)
    assert "128x96" in pixels["detail"]
    assert "webp" in form["detail"]
    assert rungs["nano"].asked == 0


def test_words_that_are_no_frames(gateway: Served) -> None:
    async def session(stream: Any) -> list[Message]:
        await stream.send(json.dumps({"type": "hello", "tags": {"condition": "rain"}}))
        wrong = ("{", "[1]", '{"type": "bye"}', '{"type": "hello"}', "x" * 10_000)
        return await asked(stream, *wrong, jpeg())

    *refused, answer = talk(gateway.stream, session)
    assert {(message["type"], message["frame"], message["status"]) for message in refused} == {
        ("error", None, 400)
    }
    assert answer["type"] == "detections"


def test_too_many_words_end_the_stream(gateway: Served) -> None:
    with pytest.raises(ConnectionClosed) as closed:
        talk(gateway.stream, lambda stream: asked(stream, *"?" * 40))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_a_message_over_the_limit_ends_the_stream(rungs: Rungs) -> None:
    with (
        served(gateway_settings(max_body=5000), rungs) as gateway,
        pytest.raises(ConnectionClosed) as closed,
    ):
        talk(gateway.stream, lambda stream: asked(stream, bytes(6000)))
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("query", "output"),
    [
        ("latency_weight=-1", "latency_weight"),
        ("latency_weight=nan", "finite"),
        ("latency_weight=much", "valid number"),
        ("deadline_ms=0", "deadline_ms"),
        ("deadline_ms=1e9", "deadline_ms"),
        ("deadline_ms=inf", "finite"),
        ("session=../../etc/passwd", "session"),
        (f"session={'x' * 200}", "session"),
    ],
)
def test_a_stream_that_asks_for_the_impossible_is_refused(
    gateway: Served, query: str, output: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        talk(f"{gateway.stream}?{query}", received)
    assert refused.value.response.status_code == 400
    assert output in json.loads(refused.value.response.body)["detail"]


def test_a_silent_client_is_let_go_of(rungs: Rungs) -> None:
    with served(gateway_settings(idle_seconds=0.3), rungs) as gateway:

        async def session(stream: Any) -> None:
            await asked(stream, jpeg())
            await received(stream)

        with pytest.raises(ConnectionClosed) as closed:
            talk(gateway.stream, session)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, "no frame" in closed.value.rcvd.reason) == (1001, True)


def test_a_half_open_socket_is_noticed_by_its_missing_pong(rungs: Rungs) -> None:
    settings = gateway_settings(ping_seconds=0.3, idle_seconds=600.0)
    request = (
        b"GET /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with served(settings, rungs) as gateway:
        with socket.create_connection(gateway.address, timeout=20) as peer:
            peer.sendall(request)
            output = b""
            while part := peer.recv(4096):  # pings are read, never answered
                output += part
        assert output.startswith(b"HTTP/1.1 101")
        until(lambda: not gateway.runtime.streams._open, 10)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: x\r\n"])
def test_a_request_that_never_ends_is_let_go_of(rungs: Rungs, sent: bytes) -> None:
    with (
        served(gateway_settings(body_seconds=0.4), rungs) as gateway,
        socket.create_connection(gateway.address, timeout=20) as peer,
    ):
        peer.sendall(sent)
        output = b""
        while part := peer.recv(4096):
            output += part
    assert output.startswith(b"HTTP/1.1 408 ")


def test_as_many_streams_as_allowed(rungs: Rungs) -> None:
    with served(gateway_settings(max_streams=1), rungs) as gateway:

        async def session(stream: Any) -> Any:
            await asked(stream, jpeg())
            with pytest.raises(InvalidStatus) as refused:
                await connect(gateway.stream)
            return refused.value.response

        response = talk(gateway.stream, session)
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        # The place of a stream is free a moment after its socket closed.
        until(lambda: not gateway.runtime.streams._open)
        (answer,) = talk(gateway.stream, lambda stream: asked(stream, jpeg()))
        assert answer["type"] == "detections"
