"""Streams whose client is hostile: each is closed, and a good stream beside it misses nothing."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gateway_samples import Rungs, Served, gateway_settings, jpeg, served
from processes import until
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from components.bench.floods.hostile import (
    BINARY,
    CLOSE,
    CONTINUED,
    PING,
    PONG,
    HostileConnection,
    frame,
)


@pytest.fixture
def gateway(rungs: Rungs) -> Iterator[Served]:
    options: dict[str, Any] = {"body_seconds": 1.0, "max_body": 1_000_000}
    with served(gateway_settings(**options), rungs) as running:
        yield running


class Peer(HostileConnection):
    """A client that knows no rules."""

    def __init__(self, gateway: Served) -> None:
        super().__init__(gateway.address)
        self.open_stream()

    def flood(self, data: bytes, seconds: float = 20) -> None:
        """Send the same again and again until the other side has had enough."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                self.socket.sendall(data)
            except ConnectionError:
                return
        raise AssertionError("the gateway goes on reading")

    def closing(self) -> tuple[int, str]:
        """Code and reason that the gateway closed with."""
        while True:
            opcode, payload = self.next()
            if opcode == CLOSE:
                return struct.unpack(">H", payload[:2])[0], payload[2:].decode()

    def next(self) -> tuple[int, bytes]:
        opcode, length = self.take(2)
        if length == 126:
            length = struct.unpack(">H", self.take(2))[0]
        return opcode & 15, self.take(length)


ATTACKS: dict[str, tuple[Callable[[Peer], object], int, str]] = {
    "pings": (lambda peer: peer.flood(frame(PING, b"x") * 2000), 1008, "too many pings"),
    "pongs": (lambda peer: peer.flood(frame(PONG) * 2000), 1008, "too many pings"),
    "empty fragments": (
        lambda peer: peer.flood(frame(BINARY, last=False) + frame(CONTINUED, last=False) * 5000),
        1008,
        "too many fragments",
    ),
    "fragments of a byte": (
        lambda peer: peer.flood(frame(BINARY, last=False) + frame(CONTINUED, b"x", False) * 5000),
        1008,
        "too many fragments",
    ),
    "empty messages": (lambda peer: peer.flood(frame(BINARY) * 5000), 1008, "more messages"),
    "a message without end": (
        lambda peer: (
            peer.socket.sendall(frame(BINARY, last=False)),
            peer.flood(frame(CONTINUED, bytes(60_000), last=False)),
        ),
        1009,
        "",
    ),
    "a message that stops": (
        lambda peer: peer.socket.sendall(frame(BINARY, bytes(50_000), length=90_000)),
        1008,
        "within 1 s",
    ),
    "a fragment that stops": (
        lambda peer: peer.socket.sendall(frame(BINARY, bytes(50), last=False)),
        1008,
        "within 1 s",
    ),
    "no websocket": (lambda peer: peer.flood(bytes(100_000)), 1002, ""),
    "texts": (
        lambda peer: peer.flood(frame(1, b"x") * 200),
        1008,
        "too many messages that are no frames",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_stream_is_closed_and_a_good_one_misses_nothing(
    gateway: Served, name: str
) -> None:
    attack, code, reason = ATTACKS[name]
    answered: list[str] = []
    ended = threading.Event()

    def good() -> None:
        with connect(gateway.stream, compression=None) as stream:
            while not ended.is_set() or len(answered) < 20:
                stream.send(jpeg())
                answered.append(json.loads(stream.recv(30))["type"])

    thread = threading.Thread(target=good)
    thread.start()
    try:
        peer = Peer(gateway)
        reader: list[tuple[int, str]] = []
        reading = threading.Thread(target=lambda: reader.append(peer.closing()))
        reading.start()
        attack(peer)
        reading.join(30)
        assert reader[0][0] == code
        assert reason in reader[0][1]
    finally:
        ended.set()
        thread.join(60)
    assert set(answered) == {"detections"}
    until(lambda: gateway.runtime.metrics.streams._value.get() == 0)


def test_a_client_that_is_asked_to_close_and_goes_on_is_cut_off(gateway: Served) -> None:
    peer = Peer(gateway)
    for _ in range(20):
        peer.socket.sendall(frame(1, b"no hello"))
    assert peer.closing()[0] == 1008
    start = time.monotonic()
    with pytest.raises(ConnectionError):
        while True:
            peer.socket.sendall(frame(PING) * 100)
            time.sleep(0.01)
    assert time.monotonic() - start < 20  # it has two seconds


def test_what_a_client_sends_before_it_is_let_in_is_not_lost(gateway: Served) -> None:
    peer = Peer(gateway)
    peer.socket.sendall(frame(BINARY, jpeg()))
    assert json.loads(_text(peer))["type"] == "detections"
    # The frame of an image in fragments, with pings between them, is answered as any other.
    image = jpeg()
    parts = [image[place : place + 600] for place in range(0, len(image), 600)]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        peer.socket.sendall(frame(CONTINUED if index else BINARY, part, last) + frame(PING, b"p"))
    assert json.loads(_text(peer))["type"] == "detections"


def _text(peer: Peer) -> bytes:
    while True:
        opcode, payload = peer.next()
        if opcode == 1:
            return payload
        assert (opcode, payload) == (PONG, b"p")


def test_a_header_that_cannot_be_read_is_refused(gateway: Served) -> None:
    with pytest.raises(InvalidStatus) as caught:
        connect(gateway.stream, additional_headers={"authorization": "Bearer " + "x" * 9000})
    assert caught.value.response.status_code == 431
