"""A file server with Range and ETag that breaks off, fails or sends on as configured."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

DEFAULT = "/data.zip"


class FileServer(ThreadingHTTPServer):
    """Serves ``files`` by path; other paths are 404."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {DEFAULT: np.random.default_rng(0).bytes(300_000)}
        self.sends_on: dict[str, str] = {}  # by path: where to
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.failures: list[int] = []  # status codes of the next answers
        self.validators = True
        self.asked: list[str | None] = []  # Range of every request
        self.answered: list[int] = []
        self.paths: list[str] = []

    @property
    def content(self) -> bytes:
        return self.files[DEFAULT]

    @content.setter
    def content(self, content: bytes) -> None:
        self.files[DEFAULT] = content

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def url(self) -> str:
        return self.address + DEFAULT


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        content = server.files.get(self.path, b"")
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        asked = self.headers.get("Range")
        server.asked.append(asked)
        server.paths.append(self.path)
        start, status = 0, 200
        if server.failures:
            status = server.failures.pop(0)
        elif self.path in server.sends_on:
            status = 302
        elif self.path not in server.files:
            status = 404
        elif server.validators and self.headers.get("If-None-Match") == etag:
            status = 304
        elif asked and self.headers.get("If-Range") == etag:
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            start, status = int(found.group(1)) if found else 0, 206
        server.answered.append(status)
        if status not in (200, 206):
            self.send_response(status)
            if status == 302:
                self.send_header("Location", server.sends_on[self.path])
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if server.validators:
            self.send_header("ETag", etag)
        if status == 206:
            last = len(content)
            self.send_header("Content-Range", f"bytes {start}-{last - 1}/{last}")
        self.end_headers()
        if server.breaks:
            body = body[: server.breaks.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@contextmanager
def serving() -> Iterator[FileServer]:
    """Run a server in a thread while the block works."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
