"""A webhook that answers as configured, and keeps what it was sent."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass
class WebhookServer:
    """What the server is to answer next, and what it got."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    """Answers, one each; 200 when there are none left."""
    slow: threading.Event = field(default_factory=threading.Event)
    """While set, requests are not answered."""
    received: list[Received] = field(default_factory=list)

    def wait(self, count: int, seconds: float = 60) -> list[Received]:
        """The requests, once there are so many."""
        end = time.monotonic() + seconds
        while len(self.received) < count and time.monotonic() < end:
            time.sleep(0.02)
        assert len(self.received) >= count, self.received
        return list(self.received)


@contextmanager
def webhook_server() -> Iterator[WebhookServer]:
    """A server on a free port."""
    state = WebhookServer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # noqa: N802 # http.server's own name
            data = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): text for name, text in self.headers.items()}
            state.received.append(Received(self.path, headers, json.loads(data)))
            while state.slow.is_set():
                time.sleep(0.02)
            status = state.statuses.pop(0) if state.statuses else 200
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield state
    finally:
        state.slow.clear()
        server.shutdown()
        thread.join()
        server.server_close()
