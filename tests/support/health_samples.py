"""Services that the health page looks at: a real gateway, a real Prometheus, and others."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
from dash.development.base_component import Component
from gateway_samples import gateway_settings, jpeg, served
from processes import closed_port

__all__ = ["closed_port", "gateway_settings", "jpeg", "served"]

PATIENCE = 120.0
RULES = """
groups:
  - name: test
    interval: 1s
    rules:
      - alert: AlwaysThere
        expr: vector(1)
        labels: {severity: critical, rung: nano}
        annotations:
          summary: It fires at once
          runbook_url: https://example.invalid/AlwaysThere.md
      - alert: ComesLater
        expr: vector(1)
        for: 1h
        labels: {severity: warning}
        annotations: {summary: It waits, runbook_url: "javascript:alert(1)"}
      - alert: NeverThere
        expr: vector(1) > 2
      - alert: CannotBe
        expr: vector(1) / on () (label_replace(vector(1), "a", "2", "", "") or vector(1))
"""


def settings_of(ladder: Path, **options: Any) -> Any:
    """Nano in the gateway's own process, and small with a service that is not running."""
    rungs: Mapping[str, str] = {
        "nano": str(ladder / "nano.onnx"),
        "small": f"127.0.0.1:{closed_port()}",
    }
    return gateway_settings(**({"rungs": rungs, "always": "nano"} | options))


@contextmanager
def http_server(answers: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    """A server of fixed answers, by path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers.get(self.path.partition("?")[0], (404, "nothing here"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(PATIENCE)
        server.server_close()


@contextmanager
def prometheus(folder: Path, rules: str = RULES) -> Iterator[str]:
    """A real Prometheus that scrapes nothing and evaluates rules every second."""
    (folder / "rules.yaml").write_text(rules)
    (folder / "prometheus.yaml").write_text(
        "global: {evaluation_interval: 1s}\nrule_files: [rules.yaml]\n"
    )
    log = folder / "prometheus.log"
    for _ in range(5):  # another process may take the port between its choice and its use
        address = f"127.0.0.1:{closed_port()}"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [
                    shutil.which("prometheus") or "prometheus",
                    f"--config.file={folder / 'prometheus.yaml'}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    f"--web.listen-address={address}",
                ],
                stdout=sink,
                stderr=sink,
            )
        try:
            if _ready(f"http://{address}", process):
                yield f"http://{address}"
                return
        finally:
            process.terminate()
            process.wait(PATIENCE)
    raise RuntimeError(log.read_text()[-2000:])


def _ready(url: str, process: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < end:
        try:
            if httpx.get(f"{url}/-/ready", timeout=10, trust_env=False).status_code == 200:
                return True
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    return False


def text_of(component: Any) -> str:
    """All words of a component, as they would be read."""
    if isinstance(component, Component):
        return text_of(getattr(component, "children", None))
    if isinstance(component, list | tuple):
        return " ".join(map(text_of, component))
    return "" if component is None else str(component)
