"""Places for streams and requests: one token has its share, and idle streams give way."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, Served, asked, gateway_settings, jpeg, served
from processes import until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from foundation.errors import TooManyRequests, Unavailable
from inference_graph.gateway.access import add_token
from inference_graph.gateway.places import Places, StreamPlaces


def test_places_by_hand() -> None:
    places = Places(4, 0.5, "requests")
    with places.taken("a"), places.taken("a"):
        with pytest.raises(TooManyRequests, match="a has 2 requests open, as many as one client"):
            places.take("a")
        with places.taken("b"), places.taken("c"):
            for name in "abcd":
                with pytest.raises(Unavailable, match="4 requests are open"):
                    places.take(name)
        places.take("d")
        places.leave("d")
    assert not places._taken
    assert Places(1, 0.01, "requests").of_client == 1


def test_an_idle_stream_gives_its_place_to_the_next_one() -> None:
    async def run() -> None:
        streams = StreamPlaces(4, 0.75)
        many = [streams.begin(None, "a") for _ in range(3)]
        few = streams.begin("s", "b")
        few.busy = True
        with pytest.raises(Unavailable):
            many_busy = [setattr(one, "busy", True) for one in many]
            assert len(many_busy) == 3
            streams.begin(None, "c")
        many[1].busy = many[2].busy = False
        many[2].used()  # a moment ago, so it is not idle
        got = streams.begin("s", "c")
        assert [one.needed.is_set() for one in (*many, few)] == [False, True, False, False]
        assert got.session.startswith("s-")
        for one in (*many, few, got):
            streams.end(one)
        assert not streams._places._taken and not streams._open

    asyncio.run(run())


def test_idle_streams_do_not_shut_out_the_next_one(rungs: Rungs) -> None:
    async def run(url: str) -> list[Any]:
        idle = [await connect(url, compression=None) for _ in range(64)]
        answers, good = [], []
        for _ in range(3):
            good.append(await connect(url, compression=None))
            answers += await asked(good[-1], jpeg())
        codes = []
        for one in idle[:3]:
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(one.recv(), 10)
            codes.append((closed.value.rcvd.code, closed.value.rcvd.reason))
        assert set(codes) == {(1013, "no frame came, and another stream needs the place")}
        for one in (*idle, *good):
            await one.close()
        return answers

    with served(gateway_settings(), rungs) as gateway:
        answers = asyncio.run(run(gateway.stream))
        assert [answer["type"] for answer in answers] == ["detections"] * 3
        until(lambda: not gateway.runtime.streams._open)
        assert not gateway.runtime.streams._places._taken


@pytest.fixture
def shared(rungs: Rungs, tmp_path: Path) -> Iterator[tuple[Served, dict[str, dict[str, str]]]]:
    tokens = tmp_path / "tokens.jsonl"
    headers = {
        name: {"authorization": f"Bearer {add_token(tokens, name, ['stream'])}"} for name in "ab"
    }
    settings = gateway_settings(tokens=tokens, max_streams=8, max_requests=8, body_seconds=20.0)
    with served(settings, rungs) as gateway:
        yield gateway, headers


def test_one_token_cannot_take_all_streams(
    shared: tuple[Served, dict[str, dict[str, str]]],
) -> None:
    gateway, headers = shared

    async def run() -> None:
        streams = []
        for _ in range(4):
            streams.append(await connect(gateway.stream, additional_headers=headers["a"]))
            await asked(streams[-1], jpeg())  # one that sends nothing would give way
        with pytest.raises(InvalidStatus) as refused:
            await connect(gateway.stream, additional_headers=headers["a"])
        response = refused.value.response
        assert (response.status_code, response.headers["retry-after"]) == (429, "1")
        assert b"a has 4 streams open" in response.body
        async with connect(gateway.stream, additional_headers=headers["b"]) as good:
            assert (await asked(good, jpeg()))[0]["type"] == "detections"
        for one in streams:
            await one.close()

    asyncio.run(run())


def test_slow_uploads_of_one_token_leave_places_for_others(
    shared: tuple[Served, dict[str, dict[str, str]]],
) -> None:
    gateway, headers = shared
    head = (
        f"POST /v1/detect HTTP/1.1\r\nhost: a\r\ncontent-type: image/jpeg\r\n"
        f"authorization: {headers['a']['authorization']}\r\ncontent-length: 5000\r\n\r\nx"
    ).encode()
    slow = [socket.create_connection(gateway.address, timeout=30) for _ in range(12)]
    try:
        for peer in slow:
            peer.sendall(head)
        until(lambda: gateway.runtime.requests.of("a") == 4)

        def detect(name: str) -> tuple[int, str]:
            more = headers[name] | {"content-type": "image/jpeg"}
            answer = gateway.http.post("/v1/detect", content=jpeg(), headers=more)
            return answer.status_code, answer.headers.get("retry-after", "")

        assert detect("a") == (429, "1")
        assert detect("b") == (200, "")
        refused = [peer for peer in slow if select.select([peer], [], [], 0.5)[0]]
        assert len(refused) == 8
        for peer in refused:
            assert peer.recv(4096).startswith(b"HTTP/1.1 429 ")
    finally:
        for peer in slow:
            peer.close()
    until(lambda: gateway.runtime.requests.of("a") == 0)
    assert json.loads(gateway.http.get("/healthz").text) == {"status": "ok"}
