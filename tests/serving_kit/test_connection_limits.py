"""Connections to a real server, each beyond one limit; a good one is served beside all of them."""

from __future__ import annotations

import asyncio
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from processes import until

from serving_kit.connection_limits import ConnectionLimits, Connections, limited_http

GET = b"GET / HTTP/1.1\r\nhost: a\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\n"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    length, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length += len(message["body"])
        more = message["more_body"]
    body = b"%d" % length if scope["path"] != "/long" else bytes(64 * 1024 * 1024)
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


opened: list[Connections] = []


@contextmanager
def served(**limits: Any) -> Iterator[tuple[str, int]]:
    connections = Connections(ConnectionLimits(**limits))
    opened.append(connections)
    http = limited_http(connections, lambda text: b'{"error":"%s"}' % text.encode())
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(echo, http=http, ws="none", lifespan="off", log_config=None)
    )
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    try:
        until(lambda: server.started)
        yield listener.getsockname()
        assert ask(listener.getsockname(), GET + b"\r\n").startswith(b"HTTP/1.1 200 ")
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
    assert connections._open == set()
    assert (connections._arriving, connections._addresses) == (0, {})


def connected(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    peer = socket.create_connection(address, timeout=30)
    peer.sendall(data)
    return peer


def answer(peer: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    parts = []
    try:
        while part := peer.recv(65_536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


def ask(address: tuple[str, int], request: bytes) -> bytes:
    with connected(address, request.replace(b"host: a", b"host: a\r\nconnection: close", 1)) as one:
        return answer(one)


def test_headers_that_are_too_many_or_too_long() -> None:
    with served(headers=20, header_bytes=8192) as address:
        assert ask(address, GET + b"x: y\r\n" * 15 + b"\r\n").startswith(b"HTTP/1.1 200 ")
        for head, output in (
            (b"x: y\r\n" * 21, b"more than 20 headers"),
            (b"x: " + b"y" * 9000 + b"\r\n", b"8192 bytes"),
            (b"x: " + b"y" * 9000, b"8192 bytes"),  # a header without an end
            (b"y" * 9000, b"8192 bytes"),  # a name without an end
        ):
            with connected(address, GET + head + b"\r\n") as peer:
                refused = answer(peer)
            assert refused.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
            assert output in refused and b"connection: close" in refused
        with connected(address, b"GET /" + b"a" * 10_000) as peer:
            assert answer(peer).startswith(b"HTTP/1.1 431 ")
        trailers = POST + b"transfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 30 + b"\r\n"
        with connected(address, trailers) as peer:
            assert answer(peer).startswith(b"HTTP/1.1 431 ")


def test_headers_have_their_time_on_a_fresh_and_on_a_used_connection() -> None:
    with served(header_seconds=0.3) as address:
        for begun in (b"", GET):
            with connected(address, begun) as silent, connected(address, GET + b"\r\n") as used:
                assert used.recv(65_536).startswith(b"HTTP/1.1 200 ")
                used.sendall(b"GET")
                assert answer(silent).startswith(b"HTTP/1.1 408 ")
                assert b"HTTP/1.1 408 " in answer(used)
        with connected(address, GET + b"\r\n") as kept:
            kept.recv(65_536)
            time.sleep(0.4)  # between requests another limit holds
            kept.sendall(GET + b"connection: close\r\n\r\n")
            assert b"HTTP/1.1 200 " in answer(kept)


def test_a_body_in_too_many_pieces() -> None:
    head = POST + b"transfer-encoding: chunked\r\n\r\n"
    with served() as address:
        assert b"\r\n\r\n1000" in ask(address, head + b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n")
        pieces = b"20\r\n" + bytes(32) + b"\r\n"
        assert b"\r\n\r\n160000" in ask(address, head + pieces * 5000 + b"0\r\n\r\n")
        with connected(address, head + b"1\r\nx\r\n" * 5000) as peer:
            assert b"too many pieces" in answer(peer)


def test_too_many_requests_at_once_on_one_connection() -> None:
    with served() as address:
        with connected(address, (GET + b"\r\n") * 30) as peer:
            answers = b""
            while answers.count(b"HTTP/1.1 200 ") < 30:
                answers += peer.recv(65_536)
        with connected(address, (GET + b"\r\n") * 300) as peer:
            assert answer(peer).count(b"HTTP/1.1 200 ") <= 100


def test_an_answer_that_is_not_taken_ends() -> None:
    with served(write_seconds=0.2) as address, connected(address) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.sendall(b"GET /long HTTP/1.1\r\nhost: a\r\n\r\n")
        until(lambda: opened[-1]._open != set())
        until(lambda: opened[-1]._open == set())


def test_a_draining_server_ends_each_connection_with_its_next_answer() -> None:
    with served() as address, connected(address) as peer:
        peer.sendall(GET + b"\r\n")
        assert b"connection: close" not in peer.recv(65_536)
        opened[-1].draining = True
        peer.sendall(GET + b"\r\n")
        last = answer(peer)
        assert b"HTTP/1.1 200 " in last and b"connection: close" in last


def test_idle_connections_give_way_to_the_next_one() -> None:
    with served(connections=8, address_share=1.0) as address:
        idle = [connected(address, GET if index % 2 else b"") for index in range(30)]
        assert ask(address, GET + b"\r\n").startswith(b"HTTP/1.1 200 ")
        with connected(address, POST + b"content-length: 9\r\n\r\nx") as busy:
            more = [connected(address) for _ in range(30)]
            busy.sendall(b"x" * 8)
            assert busy.recv(65_536).startswith(b"HTTP/1.1 200 ")  # it was at work
        for peer in idle + more:
            peer.close()


def test_work_does_not_give_way_and_the_next_one_is_refused() -> None:
    half = POST + b"content-length: 9\r\n\r\nx"
    with served(connections=4, address_share=1.0) as address:
        with_work = [connected(address, half) for _ in range(4)]
        until(lambda: sum(one.idle_since is None for one in opened[-1]._open) == 4)
        with connected(address) as peer:
            refused = answer(peer)
        assert refused.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in refused
        for peer in with_work:
            peer.sendall(b"x" * 8)
            assert peer.recv(65_536).startswith(b"HTTP/1.1 200 ")
            peer.close()


@pytest.mark.parametrize(
    ("descriptors", "most"), [(resource.RLIM_INFINITY, 1000), (1024, 512), (10**6, 1000), (1, 1)]
)
def test_connections_leave_half_of_the_descriptors(
    descriptors: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert Connections(ConnectionLimits())._most == most


@pytest.mark.parametrize(
    ("proxies", "status"), [("", b"429"), ("10.0.0.0/8", b"429"), ("127.0.0.0/8", b"200")]
)
def test_one_address_has_its_share(proxies: str, status: bytes) -> None:
    with served(connections=8, proxies=proxies) as address:
        half = POST + b"content-length: 9\r\n\r\nx"
        busy = [connected(address, half) for _ in range(4)]
        until(lambda: sum(one.idle_since is None for one in opened[-1]._open) == 4)
        with connected(address, GET + b"\r\n") as peer:
            assert peer.recv(65_536).startswith(b"HTTP/1.1 %b " % status)
        for one in busy:
            one.close()
        until(lambda: ask(address, GET + b"\r\n").startswith(b"HTTP/1.1 200 "))


def test_the_largest_unfinished_request_goes_when_they_are_too_large_together() -> None:
    with served(arriving_bytes=100_000) as address:
        small = connected(address, POST + b"content-length: 1001\r\n\r\n" + b"x" * 1000)
        large = connected(address, POST + b"content-length: 90001\r\n\r\n" + b"x" * 90_000)
        until(lambda: opened[-1]._arriving == 91_000)
        next_one = connected(address, POST + b"content-length: 30000\r\n\r\n" + b"x" * 30_000)
        assert next_one.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert answer(large).startswith(b"HTTP/1.1 503 ")
        small.sendall(b"x")
        assert small.recv(65_536).startswith(b"HTTP/1.1 200 ")
        for peer in (small, large, next_one):
            peer.close()


def test_offers_of_http_2_are_not_taken_up_and_lose_nothing() -> None:
    offer = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAA\r\n"
    with served() as address:
        request = POST + offer + b"content-length: 5\r\n\r\nabcde"
        with connected(address, request + request + GET + offer + b"\r\n" + GET + b"\r\n") as peer:
            answers = b""
            while answers.count(b"HTTP/1.1 200 ") < 4:
                part = peer.recv(65_536)
                assert part, answers
                answers += part
        assert answers.count(b"\r\n\r\n5") == 2
        with connected(address, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") as peer:
            assert answer(peer).startswith(b"HTTP/1.1 505 ")


def test_nothing_more_is_read_of_a_peer_that_was_refused() -> None:
    with (
        served(headers=5) as address,
        connected(address, GET + b"x: y\r\n" * 50) as peer,
        pytest.raises(ConnectionError),
    ):
        for _ in range(2000):
            peer.sendall(bytes(65_536))
