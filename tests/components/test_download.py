from __future__ import annotations

import hashlib
import re
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_samples import sample_payload, write_folder

from components.download import DownloadConfig, download
from components.ingest import IngestConfig, ingest
from feature_transformer.errors import InvalidInput

QUICK = DownloadConfig(attempts=3, timeout_s=5, pause_s=0.01)


class Server(ThreadingHTTPServer):
    """Serves one file with Range and ETag, and breaks off as often as it is told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = np.random.default_rng(0).bytes(300_000)
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.failures: list[int] = []  # status codes of the next answers
        self.validators = True
        self.asked: list[str | None] = []  # Range of every request
        self.answered: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        etag = f'"{hashlib.sha256(server.content).hexdigest()[:16]}"'
        asked = self.headers.get("Range")
        server.asked.append(asked)
        start, status = 0, 200
        if server.failures:
            status = server.failures.pop(0)
        elif server.validators and self.headers.get("If-None-Match") == etag:
            status = 304
        elif asked and self.headers.get("If-Range") == etag:
            found = re.fullmatch(r"bytes=(\d+)-", asked)
            start, status = int(found.group(1)) if found else 0, 206
        server.answered.append(status)
        if status not in (200, 206):
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if server.validators:
            self.send_header("ETag", etag)
        if status == 206:
            last = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{last - 1}/{last}")
        self.end_headers()
        if server.breaks:
            body = body[: server.breaks.pop(0)]
            self.close_connection = True
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_broken_download_goes_on(server: Server, tmp_path: Path) -> None:
    server.breaks = [120_000]
    seen: list[tuple[int, int]] = []
    file = download(server.url, tmp_path, QUICK, lambda done, total: seen.append((done, total)))
    assert file.read_bytes() == server.content
    assert server.asked == [None, "bytes=120000-"]
    assert server.answered == [200, 206]
    assert seen[-1] == (300_000, 300_000)
    assert (120_000, 300_000) in seen


def test_a_second_call_asks_whether_it_changed(server: Server, tmp_path: Path) -> None:
    first = download(server.url, tmp_path, QUICK)
    assert download(server.url, tmp_path, QUICK) == first
    assert server.answered == [200, 304]
    server.content = b"other" * 1000
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.answered == [200, 304, 200]


def test_a_copy_serves_when_nobody_answers(server: Server, tmp_path: Path) -> None:
    first = download(server.url, tmp_path, QUICK)
    server.failures = [503]
    assert download(server.url, tmp_path, QUICK) == first


def test_the_next_call_goes_on_after_giving_up(server: Server, tmp_path: Path) -> None:
    server.breaks = [50_000, 0, 0, 0]
    with pytest.raises(InvalidInput, match="broke off at 50000 bytes .* run it again"):
        download(server.url, tmp_path, QUICK)
    server.breaks = []
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.asked[-1] == "bytes=50000-"


def test_a_changed_file_starts_over(server: Server, tmp_path: Path) -> None:
    server.breaks = [50_000, 0, 0, 0]
    with pytest.raises(InvalidInput):
        download(server.url, tmp_path, QUICK)
    server.content, server.breaks = server.content[::-1], []
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.answered[-1] == 200


def test_without_validators_nothing_is_pieced_together(server: Server, tmp_path: Path) -> None:
    server.validators = False
    server.breaks = [50_000]
    assert download(server.url, tmp_path, QUICK).read_bytes() == server.content
    assert server.asked == [None, None]


def test_refusals(server: Server, tmp_path: Path) -> None:
    server.failures = [404]
    with pytest.raises(InvalidInput, match="answers 404 .* check the address"):
        download(server.url, tmp_path, QUICK)
    server.failures = [500, 503, 500]
    with pytest.raises(InvalidInput, match="HTTP 500.* after 3 tries"):
        download(server.url, tmp_path, QUICK)
    with pytest.raises(InvalidInput, match="more than the 1000 bytes allowed"):
        download(server.url, tmp_path, DownloadConfig(max_bytes=1000))
    for url in ("file:///etc/passwd", "ftp://somewhere/data.zip", "http://"):
        with pytest.raises(InvalidInput, match="not an http"):
            download(url, tmp_path, QUICK)
    with pytest.raises(InvalidInput, match="no usable address"):
        download("http://[::1/data.zip", tmp_path, QUICK)


def test_a_data_set_from_the_web(server: Server, tmp_path: Path) -> None:
    source = write_folder(tmp_path / "source", sample_payload(3))
    packed = shutil.make_archive(str(tmp_path / "data"), "zip", source)
    server.content = Path(packed).read_bytes()
    server.breaks = [len(server.content) // 2]
    config = IngestConfig(cache=str(tmp_path / "cache"), workers=1)
    summary = ingest(server.url, tmp_path / "out", config)
    assert (summary.images, summary.annotations) == (3, 6)
    assert server.answered == [200, 206]
    local = ingest(str(source), tmp_path / "local", config)
    assert (local.source_sha256, local.decoded) == (summary.source_sha256, 0)
