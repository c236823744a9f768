"""What is kept from clients, and what a client that goes away leaves in the log."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest
from gateway_samples import Rungs, asked, gateway_settings, jpeg, served, talk
from processes import closed_port, until

from inference_graph.gateway import runtime as runtime_module


def test_addresses_of_rungs_are_not_disclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by /readyz, which needs no token, nor by an answer or a stream's error."""
    monkeypatch.setattr(runtime_module, "_FIRST_LOOK", 0.5)
    ports = {name: closed_port() for name in ("nano", "small", "large")}
    rungs = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    with served(gateway_settings(rungs=rungs, deadline_ms=2000.0)) as gateway:
        kind = {"content-type": "image/jpeg"}
        reported = [
            gateway.http.get("/readyz").text,
            gateway.http.post("/v1/detect", content=jpeg(), headers=kind).text,
            json.dumps(talk(gateway.stream, lambda stream: asked(stream, jpeg()))),
        ]
    for text in reported:
        assert not any(str(port) in text for port in ports.values()), text
        assert "127.0.0.1" not in text
    assert "nano does not answer" in "".join(reported[1:]) or "large does not answer" in reported[1]
    # While a probe is on its way, a rung is recovering.
    assert "nano unhealthy" in reported[0] or "nano recovering" in reported[0]


def test_a_client_that_goes_away_leaves_no_traceback(
    rungs: Rungs, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of a body of every route that takes one, and of a handshake."""
    routes = (
        ("POST", "/v1/detect", "image/jpeg"),
        ("POST", "/v1/feedback", "application/json"),
        ("POST", "/v1/policy", "application/octet-stream"),
        ("POST", "/v1/events", "application/json"),
    )
    with served(gateway_settings(), rungs) as gateway:
        for method, path, kind in routes:
            with socket.create_connection(gateway.address, timeout=30) as peer:
                peer.sendall(
                    f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\n"
                    "content-length: 5000\r\n\r\nx".encode()
                )
                time.sleep(0.05)
        for _ in range(5):
            with socket.create_connection(gateway.address, timeout=30) as peer:
                peer.sendall(
                    b"GET /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n"
                    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
                    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
        until(lambda: not gateway.runtime.streams._open)
        until(lambda: not gateway.runtime.requests._taken)
        text = gateway.http.get("/metrics").text
    assert [_shown(record) for record in caplog.records if record.levelname == "ERROR"] == []
    assert 'status="499"' in text or 'code="499"' in text


def _shown(record: Any) -> str:
    return f"{record.name}: {record.getMessage()} {record.exc_info}"
