"""What every service does with a request before its application sees it."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
import zlib
from collections.abc import Mapping
from typing import Any

import pytest

from foundation.errors import InvalidInput, UnsupportedMedia
from serving_kit.content_coding import decoded
from serving_kit.foreign_pages import hosts_of, is_loopback, why_foreign
from serving_kit.http_front import HttpFront

TEXT = b"a frame of the stream " * 500


def asked(
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    method: str = "POST",
    path: str = "/v1/detect",
    piece: int = 1000,
    limit: int = 10**7,
    **options: Any,
) -> tuple[int, Any]:
    """The status, and what the application got: method, path, headers and body."""
    got: dict[str, Any] = {}
    sent: list[Any] = []
    parts = [body[place : place + piece] for place in range(0, len(body), piece)] or [b""]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        length, more, read = 0, True, []
        while more and length <= limit:
            message = await receive()
            read.append(message["body"])
            length += len(message["body"])
            more = message["more_body"]
        got.update(scope, body=b"".join(read), headers=dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        part = parts.pop(0) if parts else b""
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": "127.0.0.1:80", "content-length": str(len(body))} | dict(headers or {})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    front = HttpFront(app, str.encode, **options)
    asyncio.run(front(scope, receive, send))
    return sent[0]["status"], got or sent[1]["body"].decode()


def packed(data: bytes, wbits: int) -> bytes:
    packer = zlib.compressobj(wbits=wbits)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT, mtime=0)),
        ("GZIP", gzip.compress(TEXT, mtime=0)),
        ("x-gzip", gzip.compress(TEXT[:700], mtime=0) + gzip.compress(TEXT[700:])),
        ("deflate", packed(TEXT, 15)),
        ("identity", TEXT),
        ("gzip", b""),
    ],
)
@pytest.mark.parametrize("piece", [1, 7, 10**6])
def test_compressed_bodies_arrive_as_they_were(coding: str, body: bytes, piece: int) -> None:
    status, got = asked(body, {"content-encoding": coding}, piece=piece)
    assert (status, got["body"]) == (200, TEXT if body else b"")
    if coding != "identity":
        assert b"content-encoding" not in got["headers"] and b"content-length" not in got["headers"]


def test_behind_the_body_the_next_thing_is_that_the_client_goes() -> None:
    messages = [
        {"type": "http.request", "body": gzip.compress(TEXT, mtime=0), "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return messages.pop(0)

    async def read() -> list[str]:
        from_server = decoded("gzip", receive)
        return [(await from_server())["type"] for _ in range(2)]

    assert asyncio.run(read()) == ["http.request", "http.disconnect"]


@pytest.mark.parametrize(
    ("coding", "body", "error", "output"),
    [
        ("br", b"x", UnsupportedMedia, "'br' is not read here; send gzip, x-gzip, deflate or none"),
        ("gzip, gzip", b"x", UnsupportedMedia, "gzip, gzip"),
        ("gzip", TEXT, InvalidInput, "not match its content-encoding"),
        ("gzip", gzip.compress(TEXT, mtime=0)[:-9], InvalidInput, "ends early"),
        ("deflate", packed(TEXT, 15)[:40], InvalidInput, "ends early"),
    ],
)
def test_what_cannot_be_decoded(coding: str, body: bytes, error: Any, output: str) -> None:
    with pytest.raises(error, match=output):
        asked(body, {"content-encoding": coding})


def test_a_bomb_ends_where_the_reader_has_enough() -> None:
    bomb = gzip.compress(bytes(300_000_000), 9)
    tracemalloc.start()
    try:
        status, got = asked(bomb, {"content-encoding": "gzip"}, limit=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 200
    assert 1_000_000 < len(got["body"]) < 1_100_000
    assert peak < 10_000_000


def test_head_is_a_get_and_a_slash_makes_no_difference() -> None:
    assert asked(method="HEAD", path="/readyz/")[1]["method"] == "GET"
    assert asked(path="/v1/detect//")[1]["path"] == "/v1/detect"
    assert asked(path="/")[1]["path"] == "/"
    assert asked(path="/v1/detect/", exact_paths=True)[1]["path"] == "/v1/detect/"


LOCAL = {"host": "localhost:8601"}


@pytest.mark.parametrize(
    ("headers", "hosts", "refused"),
    [
        ({}, (), False),
        (LOCAL, (), False),
        ({"host": "127.0.0.1"}, (), False),
        ({"host": "[::1]:80"}, (), False),
        ({"host": "evil.example"}, (), True),
        ({"host": "evil.example"}, None, False),
        ({"host": "vision.example:80"}, ("vision.example",), False),
        ({"host": "127.0.0.1.evil.example"}, (), True),
        ({"host": "localhost."}, (), True),
        ({"host": "["}, (), True),
        (LOCAL | {"origin": "http://localhost:3000"}, (), False),
        (LOCAL | {"origin": "http://evil.example"}, (), True),
        (LOCAL | {"origin": "null"}, (), True),
        ({"host": "graph.ns", "origin": "http://evil.example"}, None, True),
        ({"host": "graph.ns", "origin": "http://graph.ns"}, None, False),
        ({"host": "graph.ns", "origin": "null"}, None, True),
        (LOCAL | {"sec-fetch-site": "cross-site"}, (), True),
        (LOCAL | {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, (), False),
        (LOCAL | {"sec-fetch-site": "same-origin"}, (), False),
        (LOCAL | {"sec-fetch-site": "none"}, (), False),
    ],
)
def test_pages_of_others(headers: dict[str, str], hosts: Any, refused: bool) -> None:
    assert (why_foreign(headers, hosts) is not None) == refused
    status, got = asked(headers=headers, hosts=hosts)
    assert status == (403 if refused and headers else 200), got


def test_a_forms_types_are_refused_where_no_token_is_asked_for() -> None:
    for kind in (
        "text/plain",
        "Text/Plain; charset=utf-8",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ):
        status, output = asked(b"{}", {"content-type": kind})
        assert (status, "send application/json" in output) == (415, True)
        assert asked(b"{}", {"content-type": kind}, own_requests=False)[0] == 200
    for kind in ("application/json; charset=utf-8", "image/jpeg", "application/octet-stream", ""):
        assert asked(b"{}", {"content-type": kind})[0] == 200


def test_names_by_address() -> None:
    assert hosts_of("127.0.0.1", "") == frozenset()
    assert hosts_of("0.0.0.0", "") is None
    assert hosts_of("127.0.0.1", "*") is None
    assert hosts_of("0.0.0.0", "A.example, b") == {"a.example", "b"}
    assert is_loopback("[::1]") and not is_loopback("0.0.0.0")
