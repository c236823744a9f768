"""Clients that break a gateway's rules, in a process of their own: they begin again when cut off.

``python -m components.bench.floods.hostile HOST PORT FLOOD [TOKEN]`` goes on until its standard
input ends, and then prints how often it was refused or cut off.
"""

from __future__ import annotations

import base64
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

BINARY, CONTINUED, TEXT, PING, PONG, CLOSE = 2, 0, 1, 9, 10, 8
_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
"""Before one that was cut off connects again."""


def frame(opcode: int, payload: bytes = b"", last: bool = True, length: int | None = None) -> bytes:
    """A frame of a client; its mask is zero, so that the payload goes as it is."""
    length = len(payload) if length is None else length
    if length < 126:
        head = struct.pack(">BB", opcode | 128 * last, 128 | length)
    elif length < 65_536:
        head = struct.pack(">BBH", opcode | 128 * last, 128 | 126, length)
    else:
        head = struct.pack(">BBQ", opcode | 128 * last, 128 | 127, length)
    return head + bytes(4) + payload


class HostileConnection:
    """One connection to a gateway.

    Args:
        address: host and port.
        token: of the client; None sends none.
    """

    def __init__(self, address: tuple[str, int], token: str | None = None) -> None:
        self.socket = socket.create_connection(address, timeout=_SECONDS)
        self._authorization = f"authorization: Bearer {token}\r\n" if token else ""

    def head(self, first_line: str, *lines: str) -> bytes:
        """The beginning of a request, up to its body."""
        text = f"{first_line} HTTP/1.1\r\nhost: 127.0.0.1\r\n{self._authorization}"
        return (text + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()

    def open_stream(self, behind: bytes = b"") -> None:
        """Upgrade the connection to a WebSocket stream.

        Args:
            behind: sent with the handshake, before it is answered.

        Raises:
            ConnectionError: it was refused.
        """
        key = base64.b64encode(os.urandom(16)).decode()
        head = self.head(
            "GET /v1/stream",
            "upgrade: websocket",
            "connection: Upgrade",
            f"sec-websocket-key: {key}",
            "sec-websocket-version: 13",
        )
        self.socket.sendall(head + behind)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.take(1)
        if not answer.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(answer.partition(b"\r\n")[0].decode())

    def take(self, length: int) -> bytes:
        """Read so many bytes.

        Raises:
            ConnectionError: the other side closed the connection.
        """
        data = b""
        while len(data) < length:
            part = self.socket.recv(length - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data


Flood = Callable[[HostileConnection], None]
"""Goes on until the connection is cut off, which raises OSError."""


def _repeated(data: bytes, first: bytes = b"") -> Flood:
    def flood(connection: HostileConnection) -> None:
        connection.open_stream(first)
        while True:
            connection.socket.sendall(data)

    return flood


def _after_close(connection: HostileConnection) -> None:
    connection.open_stream(frame(CLOSE, struct.pack(">H", 1000)))
    while True:
        connection.socket.sendall(frame(PING) * 1000)


def _idle(connection: HostileConnection) -> None:
    connection.open_stream()
    connection.socket.settimeout(None)
    while True:
        connection.take(1)


def _headers(connection: HostileConnection) -> None:
    lines = "".join(f"x-{number}: {number}\r\n" for number in range(100_000))
    connection.socket.sendall(connection.head("GET /healthz")[:-2] + lines.encode() + b"\r\n")
    while True:
        connection.take(1)


def _slow_upload(connection: HostileConnection) -> None:
    kind = ("content-type: image/jpeg", "content-length: 100000")
    connection.socket.sendall(connection.head("POST /v1/detect", *kind))
    while True:
        connection.socket.sendall(b"\xff")
        time.sleep(0.2)


@dataclass(frozen=True)
class Attack:
    """What hostile clients do.

    Attributes:
        flood: of each connection.
        connections: at the same time.
    """

    flood: Flood
    connections: int = 1


ATTACKS = {
    "pings": Attack(_repeated(frame(PING, b"x") * 2000)),
    "empty fragments": Attack(
        _repeated(frame(CONTINUED, last=False) * 5000, frame(BINARY, last=False))
    ),
    "a message without end": Attack(
        _repeated(frame(CONTINUED, bytes(60_000), last=False), frame(BINARY, last=False))
    ),
    "talk after close": Attack(_after_close),
    "idle streams": Attack(_idle, connections=64),
    "headers": Attack(_headers, connections=2),
    "slow uploads": Attack(_slow_upload, connections=40),
}


def repeat(attack: Attack, address: tuple[str, int], token: str | None) -> list[str]:
    """Begin an attack on all of its connections; the list grows by each refusal or cut."""
    ends: list[str] = []

    def again_and_again() -> None:
        while True:
            connection = None
            try:
                connection = HostileConnection(address, token)
                attack.flood(connection)
            except OSError as error:
                ends.append(str(error))
            finally:
                if connection is not None:
                    connection.socket.close()
            time.sleep(_PAUSE_SECONDS)

    for _ in range(attack.connections):
        threading.Thread(target=again_and_again, daemon=True).start()
    return ends


def main(host: str, port: str, name: str, token: str | None = None) -> None:
    """Attack until the standard input ends."""
    ends = repeat(ATTACKS[name], (host, int(port)), token)
    sys.stdin.read()
    sys.stdout.write(f"{len(ends)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
