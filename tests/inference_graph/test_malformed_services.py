"""Requests that are wrong in every way, byte by byte, to every service: none breaks or hangs it."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import time
from collections import Counter
from pathlib import Path

import pytest
from all_services import Asked, Services
from campaign import runs

_STATED = (503, 504, 505)
_CODINGS = ("gzip", "deflate", "br", "gzip, gzip", "x" * 99)
_METHODS = ("DELETE", "TRACE", "PATCH", "OPTIONS", "PROPFIND", "x")
_TAILS = ("/x", "%", "%00", "?a=%ff", "/..", "#", "//")
_KINDS = (
    "",
    "x" * 5000,
    "a/b; c",
    "multipart/form-data",
    "application/json;",
    "*/*",
    "image/jpeg",
    "application/cloudevents+json",
)
_LINES = (
    "host: b",
    "host: [",
    "origin: null",
    "origin: http://evil.example",
    "expect: 200-ok",
    "upgrade: websocket\r\nconnection: upgrade",
    "upgrade: h2c\r\nconnection: upgrade",
)


def wire(asked: Asked, rng: random.Random) -> tuple[bytes, bool]:
    """A good request as it goes over the wire, broken in one way; and whether its end is missing.

    A request whose end is missing is answered when the time for it is over.
    """
    path = re.sub("^http://[^/]+", "", asked.url)
    head = [f"{asked.method} {path} HTTP/1.1", "host: 127.0.0.1", "connection: close"]
    head += [f"content-type: {asked.kind}"] if asked.kind else []
    body, lacking = asked.body, False
    if body[:1] == b"{" and rng.random() < 0.4:
        body = broken(body, rng)
    length: object = len(body)
    way = rng.randrange(16)
    if way == 0:
        body = body[: rng.randrange(len(body) + 1)] + rng.randbytes(rng.randrange(20))
        length = len(body)
    elif way == 1:
        length, lacking = len(body) + rng.randrange(1, 1000), True
    elif way == 2:
        length = rng.choice(("-1", "x", "1e3", "9" * 30, "", "0x10", "+5", "1,2", str(2**63)))
    elif way == 3:
        head += ["transfer-encoding: chunked"]
        sizes = rng.choice((b"5", b"fffffffffffffffff", b"-1", b"zz", b"", b"5;" + b"x" * 9000))
        return _joined(head, sizes + b"\r\n" + body + b"\r\n0\r\n\r\n"), True
    elif way == 4:
        head += [
            f"content-encoding: {rng.choice(('gzip', 'deflate', 'br', 'gzip, gzip', 'x' * 99))}"
        ]
        if rng.random() < 0.5:
            body = gzip.compress(body)[: rng.randrange(1, 400)]
            length = len(body)
    elif way == 5:
        head += [f"x-{number}: {'y' * rng.randrange(500)}" for number in range(rng.randrange(300))]
    elif way == 6:
        line = f"{asked.method} {path}"
        lines = (
            "GET",
            line,
            f"{line} HTTP/9.9",
            "\x00\x01",
            "é / x",
            f"{line} HTTP/2.0",
            f"{asked.method}  {path}  HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
            f"{asked.method} http://[ HTTP/1.1",
            "PRI * HTTP/2.0",
        )
        head[0] = rng.choice(lines)
    elif way == 7:
        head[0] = f"{rng.choice(_METHODS)} {path} HTTP/1.1"
    elif way == 8:
        head += [rng.choice(_LINES)]
    elif way == 9:
        head[0] = f"{asked.method} {path}{rng.choice(_TAILS)} HTTP/1.1"
    elif way == 10:
        head = [line for line in head if not line.startswith("content-type")]
        head += [f"content-type: {rng.choice(_KINDS)}"]
    elif way == 11:
        head += [f"inference-header-content-length: {rng.choice(('-1', 'x', '10', '9' * 20))}"]
    elif way == 12:
        data = bytearray(_joined([*head, f"content-length: {len(body)}"], body))
        for _ in range(rng.randrange(1, 8)):
            data[rng.randrange(min(len(data), 300))] = rng.randrange(256)
        return bytes(data), True
    elif way == 13:
        return rng.randbytes(rng.randrange(1, 3000)), True
    elif way == 14:
        head += ["ce-specversion: 1.0", f"ce-id: {rng.choice(('', 'a', 'é'))}", "ce-type: x"]
    return _joined([*head, f"content-length: {length}"], body), lacking or way == 2


def broken(body: bytes, rng: random.Random) -> bytes:
    document = json.loads(body)
    key = rng.choice(list(document))
    junk = (None, [], {}, "x", 1e308, [[]], [None], {"b64": 5}, "9" * 1000, [{}], [[float("nan")]])
    document[rng.choice((key, "x", "parameters"))] = rng.choice(junk)
    return json.dumps(document).encode()


def _joined(head: list[str], body: bytes) -> bytes:
    return "\r\n".join(head).encode("utf-8", "replace") + b"\r\n\r\n" + body


def status_of(address: tuple[str, int], data: bytes, lacking: bool) -> int:
    """The status of the answer; 0 when the connection was closed without one."""
    with socket.create_connection(address, timeout=30) as peer:
        try:
            peer.sendall(data)
            if lacking:
                peer.shutdown(socket.SHUT_WR)
            answer = b""
            while part := peer.recv(65_536):
                answer += part
        except ConnectionError:
            return 0
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n"))
    return int(found[1]) if found else 0


def resident(process: int) -> int:
    """Bytes of memory that a process has."""
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found
    return int(found[1]) * 1024


@pytest.mark.campaign
@pytest.mark.timeout(1200)
def test_no_service_breaks_hangs_or_grows(services: Services) -> None:
    count = runs(300, 2000)
    rng = random.Random(7)
    processes = {
        "rung": services.rung._process.pid,
        "router": services.router._process.pid,
        "graph": services.process_of_graph.pid,
    }
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    longest = 0.0
    before: dict[str, int] = {}
    for number in range(count):
        if number == count // 2:
            before = {name: resident(process) for name, process in processes.items()}
        asked = rng.choice(services.requests)
        data, lacking = wire(asked, rng)
        host, _, port = re.sub("^http://([^/]+).*", r"\1", asked.url).rpartition(":")
        start = time.monotonic()
        status = status_of((host, int(port)), data, lacking)
        longest = max(longest, time.monotonic() - start)
        statuses[status] += 1
        if status >= 500 and status not in _STATED:
            wrong.append(f"{status} from {asked.name}: {data[:300]!r}")
    after = {name: resident(process) for name, process in processes.items()}
    print(
        f"{count} malformed requests:", dict(sorted(statuses.items())), f"longest {longest:.1f} s"
    )
    print({name: round(after[name] / before[name], 3) for name in before})
    assert wrong[:5] == []
    assert {name for name in before if after[name] > before[name] * 1.05} == set()
    for asked in services.requests:  # and each still answers
        data = _joined(
            [
                f"{asked.method} {re.sub('^http://[^/]+', '', asked.url)} HTTP/1.1",
                "host: 127.0.0.1",
                "connection: close",
                f"content-type: {asked.kind or 'application/json'}",
                f"content-length: {len(asked.body)}",
            ],
            asked.body,
        )
        host, _, port = re.sub("^http://([^/]+).*", r"\1", asked.url).rpartition(":")
        assert status_of((host, int(port)), data, False) == int(asked.status), asked.name
