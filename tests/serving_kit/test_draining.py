"""Servers that are told to stop end each connection with an answer, so that none is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gateway_samples import gateway_settings, served
from service_process import Service, brightness_policy

from inference_graph.gateway import runtime


def asked_until_it_is_closed(url: str, stop: Callable[[], None]) -> None:
    """Ask over one connection while a server is stopped, and once more over a new one."""
    begun = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            answer = client.get(url)
            while "connection" not in answer.headers:
                assert answer.status_code == 200
                begun.set()
                answer = client.get(url)
            for last in (answer, client.get(url)):
                assert (last.status_code, last.headers["connection"]) == (200, "close")

    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        assert begun.wait(60)
        stop()
        asking.result(60)


def test_a_model_server(tmp_path: Path) -> None:
    policy = brightness_policy(tmp_path / "policy.onnx")
    service = Service("inference_graph.router", "--policy", policy, "--drain_seconds", 2).wait()
    ended: list[int] = []
    asked_until_it_is_closed(
        f"http://{service.http}/v2/health/live", lambda: ended.append(service.stop())
    )
    assert ended == [0]


def test_a_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_FIRST_LOOK", 0.0)  # no rung is there to wait for
    gateway = served(gateway_settings(drain_seconds=2.0), {})
    url = gateway.__enter__().url
    asked_until_it_is_closed(f"{url}/healthz", lambda: gateway.__exit__(None, None, None))
