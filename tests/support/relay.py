"""Between a device and whoever it talks to: a relay of TCP that fails as a test configures it."""

from __future__ import annotations

import re
import socket
import threading
from abc import ABC, abstractmethod


class Relay(ABC):
    """Accepts on a port of its own; each connection has a thread.

    Attributes:
        server: host and port behind it.
        address: where it listens, host:port.
        faults: what shall happen to the next requests; how, the relay's kind defines.
        held: set when a request is held until the device is gone.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.faults: list[str] = []
        self.held = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections."""
        self._listener.close()

    @abstractmethod
    def pass_on(self, device: socket.socket) -> None:
        """Serve a connection until it ends."""

    def _serve(self) -> None:
        while True:
            try:
                device, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self.pass_on, args=(device,), daemon=True).start()


def http_message(stream: socket.socket) -> bytes:
    """A whole HTTP message, with a length or in chunks; nothing at the end of the stream."""
    data = b""
    try:
        while b"\r\n\r\n" not in data:
            part = stream.recv(65_536)
            if not part:
                return b""
            data += part
        head = data[: data.index(b"\r\n\r\n")].lower()
        if b"expect: 100-continue" in head:
            stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        found = re.search(rb"content-length: *(\d+)", head)
        chunked = b"transfer-encoding: chunked" in head
        length = len(head) + 4 + int(found[1] if found else 0)
        while len(data) < length or (chunked and not _ended(data[len(head) + 4 :])):
            part = stream.recv(65_536)
            if not part:
                return b""
            data += part
    except OSError:
        return b""
    return data


def _ended(body: bytes) -> bool:
    """Whether the chunk without bytes has come, and the end after it."""
    at = 0
    while (line := body.find(b"\r\n", at)) >= 0:
        size = int(body[at:line].split(b";")[0], 16)
        if not size:
            return body.endswith(b"\r\n\r\n")
        at = line + 2 + size + 2
    return False
