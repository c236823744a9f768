"""Two thousand requests that are wrong: each gets a 4xx and a sentence, and nothing stays behind.

$GEARSHIFT_MALFORMED sets the number; a run with many more belongs before a release.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from gateway_samples import Rungs, Served, gateway_settings, jpeg, served, talk
from hostile_service import GROWTH, memory_of
from malformed import FAMILIES, LIMIT, PIXELS, Malformed, drawn_requests, malformed_image
from processes import until

from inference_graph.gateway.access import add_token

COUNT = int(os.environ.get("GEARSHIFT_MALFORMED", "2000"))
pytestmark = pytest.mark.timeout(600 + COUNT // 5)


@pytest.fixture
def gateway(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    options: dict[str, Any] = {"log_url": str(tmp_path / "log"), "feedback_per_minute": 1e6}
    options |= {"max_fps": 1e6, "max_body": LIMIT, "max_pixels": PIXELS, "body_seconds": 60.0}
    with served(gateway_settings(**options), rungs) as running:
        yield running


def ask(gateway: Served, request: Malformed) -> tuple[int, str]:
    """The status and the sentence of the answer."""
    data = request.content
    parts = (data[place : place + 50_000] for place in range(0, len(data), 50_000))
    body: Any = parts if request.chunked else data
    headers = {"content-type": request.kind} | request.headers
    answer = gateway.http.request(request.method, request.path, content=body, headers=headers)
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = None
    return answer.status_code, detail if isinstance(detail, str) else ""


def is_sentence(text: str) -> bool:
    return 10 < len(text) < 1000 and "\n" not in text


def tasks_of(gateway: Served) -> int:
    return len(asyncio.all_tasks(gateway.loop))


@pytest.mark.filterwarnings("ignore:overflow")  # a score of 1e300 is none in float32
def test_wrong_requests_get_a_4xx_with_a_sentence(gateway: Served, rungs: Rungs) -> None:
    for request in drawn_requests(2 * len(FAMILIES), seed=1):  # what is made once, is made
        ask(gateway, request)
    before = len(os.listdir("/proc/self/fd")), threading.active_count(), tasks_of(gateway)
    memory = memory_of(psutil.Process())
    wrong = []
    statuses: Counter[int] = Counter()
    for request in drawn_requests(COUNT, seed=2):
        status, detail = ask(gateway, request)
        statuses[status] += 1
        if status not in request.statuses or not is_sentence(detail):
            wrong.append((str(request)[:300], status, detail))
    print(f"{COUNT} malformed requests:", dict(sorted(statuses.items())))
    assert wrong[:5] == []
    assert sum(statuses.values()) == COUNT
    assert rungs["nano"].asked == rungs["small"].asked == rungs["large"].asked == 0
    right = gateway.http.post("/v1/detect", content=jpeg(), headers={"content-type": "image/jpeg"})
    assert right.status_code == 200

    def nothing_stays() -> bool:
        after = len(os.listdir("/proc/self/fd")), threading.active_count(), tasks_of(gateway)
        return all(now <= then + 2 for now, then in zip(after, before, strict=True))

    until(nothing_stays)
    assert memory_of(psutil.Process()) < memory + GROWTH


def test_a_stream_of_wrong_frames_gets_an_error_for_each(gateway: Served, rungs: Rungs) -> None:
    rng = random.Random(3)
    frames = [malformed_image(rng) for _ in range(100)]

    async def session(stream: Any) -> None:
        for number, frame in enumerate(frames):
            await stream.send(frame)
            message = json.loads(await stream.recv())
            assert (message["type"], message["frame"]) == ("error", number), message
            assert message["status"] in (400, 413, 415) and is_sentence(message["detail"]), message
        await stream.send(jpeg())
        assert json.loads(await stream.recv())["type"] == "detections"

    talk(gateway.stream, session)
    assert rungs["nano"].asked == 1


def raw(gateway: Served, data: bytes) -> socket.socket:
    peer = socket.create_connection(gateway.address, timeout=120)
    peer.sendall(data)
    return peer


def test_half_open_sockets_and_strangers(rungs: Rungs, tmp_path: Path) -> None:
    """All at once: requests that stop in the middle, and whole ones of those who may not ask."""
    tokens = tmp_path / "tokens.jsonl"
    roles = {role: add_token(tokens, f"a-{role}", [role]) for role in ("stream", "operate")}
    # One client holds all these requests open at once.
    places: dict[str, Any] = {"max_requests": 128, "client_share": 1.0}
    options: dict[str, Any] = {"tokens": tokens, "max_fps": 1e6, "body_seconds": 1.0} | places
    with served(gateway_settings(max_body=LIMIT, **options), rungs) as gateway:
        whole = (
            b"POST /v1/detect HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\n"
            b"authorization: Bearer %s\r\ncontent-length: 5000\r\n\r\n" % roles["stream"].encode()
        )
        rng = random.Random(4)
        cuts = [rng.randrange(1, len(whole)) for _ in range(30)]
        peers = [raw(gateway, whole[:cut]) for cut in cuts]
        peers += [raw(gateway, whole + bytes(rng.randrange(4999))) for _ in range(30)]
        for peer in [raw(gateway, whole + b"x") for _ in range(20)]:
            peer.close()  # gone in the middle
        try:
            for peer in peers:
                answer = b""
                while not re.match(rb"HTTP/1\.1 \d+", answer) and (part := peer.recv(65_536)):
                    answer += part
                assert re.match(rb"HTTP/1\.1 408 ", answer), answer
                while peer.recv(65_536):
                    pass  # and the connection is closed behind it
        finally:
            for peer in peers:
                peer.close()

        strangers: Counter[int] = Counter()
        asked = (
            ("POST", "/v1/detect", "operate"),
            ("POST", "/v1/feedback", "stream"),
            ("POST", "/v1/events", "stream"),
            ("GET", "/metrics", "stream"),
        )
        for method, path, role in asked:
            known = f"Bearer {roles[role]}"
            for header in ("", "Bearer", "Bearer x", "Basic eDp5", known[:-1], known * 2, known):
                answer = gateway.http.request(
                    method,
                    path,
                    content=jpeg(),
                    headers={"content-type": "image/jpeg", "authorization": header},
                )
                strangers[answer.status_code] += 1
                assert answer.status_code == (403 if header == known else 401), (path, header)
                assert is_sentence(answer.json()["detail"])
        assert strangers == {401: 24, 403: 4}
        right = gateway.http.post(
            "/v1/detect",
            content=jpeg(),
            headers={"content-type": "image/jpeg", "authorization": f"Bearer {roles['stream']}"},
        )
        assert right.status_code == 200
    assert rungs["nano"].asked == 1


ENDLESS = b"POST %s HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: %s\r\n%s\r\n\r\n"


@pytest.mark.parametrize(
    ("path", "kind", "status"),
    [
        (b"/v1/detect", b"image/jpeg", 413),
        (b"/v1/detect", b"text/plain", 415),
        (b"/v1/detect?deadline_ms=x", b"image/jpeg", 422),
        (b"/v1/nothing", b"image/jpeg", 404),
    ],
)
def test_what_comes_behind_a_refusal_is_not_read_for_ever(
    gateway: Served, path: bytes, kind: bytes, status: int
) -> None:
    """A client that would send a body without end is answered, and cut off."""
    with raw(gateway, ENDLESS % (path, kind, b"transfer-encoding: chunked")) as peer:
        answer = b""
        end = time.monotonic() + 60
        with pytest.raises(ConnectionError):
            while time.monotonic() < end:
                peer.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")
                if select.select([peer], [], [], 0.002)[0]:
                    answer += peer.recv(65_536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 %d " % status)


def test_a_refused_client_that_is_not_done_yet_gets_its_answer(gateway: Served) -> None:
    """And one that came to its end may go on with the same connection."""
    length = LIMIT + 50_000
    head = ENDLESS % (b"/v1/detect", b"image/jpeg", b"content-length: %d" % length)

    def goes_on() -> bool:
        with raw(gateway, head + bytes(length)) as peer:
            answer = peer.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 413 ")
            if b"connection: close" in answer:
                return False  # the machine was too busy for the end to come in time
            peer.sendall(b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            return peer.recv(65_536).startswith(b"HTTP/1.1 200 ")

    until(goes_on)
    waiting = head.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")
    for silent in (head, waiting):  # one sends nothing more, the other waits to be asked to
        with raw(gateway, silent) as peer:
            answer = peer.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 413 ") and b"connection: close" in answer
