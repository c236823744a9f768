"""Pictures of strangers at the gateway: none costs anybody else anything."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from gateway_samples import ROWS, SIZE, Rungs, gateway_settings, jpeg, served
from hostile_pictures import crashing_png, jpeg_of_scans
from hostile_service import memory_of, withstands
from processes import until
from service_process import start
from tiny_models import MakeDetector

from feature_transformer.decoding import worker

MANIFESTS = Path(__file__).parents[3] / "manifests"


@pytest.fixture
def gateway(make_detector: MakeDetector) -> Iterator[tuple[int, httpx.Client]]:
    weights = make_detector(ROWS, size=SIZE, name="nano.onnx")
    process = start(
        "inference_graph.gateway",
        *("--rung", f"nano={weights}", "--always", "nano", "--open-access", "true", "--port", 0),
        *("--deadline-ms", 10_000, "--shadow-share", 0),
    )
    assert process.stdout is not None
    url = json.loads(process.stdout.readline())["url"]
    with httpx.Client(base_url=url, timeout=60) as client:
        yield process.pid, client
    process.terminate()
    assert process.wait(60) in (0, -signal.SIGTERM)


def test_hostile_pictures_cost_no_one_anything(gateway: tuple[int, httpx.Client]) -> None:
    pid, client = gateway
    kind = {"content-type": "application/octet-stream"}
    withstands(
        lambda data: client.post("/v1/detect", content=data, headers=kind),
        lambda: client.get("/healthz").status_code,
        pid,
        jpeg(),
    )
    # The container's limit; one above it is killed.
    assert memory_of(psutil.Process(pid)) < memory_limit()


def memory_limit() -> int:
    """Bytes that the manifests give the gateway."""
    documents = yaml.safe_load_all((MANIFESTS / "base" / "gateway.yaml").read_text())
    (stateful,) = [one for one in documents if one["kind"] == "StatefulSet"]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    limit = container["resources"]["limits"]["memory"]
    assert limit.endswith("Gi")
    return int(limit.removesuffix("Gi")) * 1024**3


def test_a_decoder_that_is_ended_or_stopped_costs_a_frame_at_most(
    gateway: tuple[int, httpx.Client],
) -> None:
    pid, client = gateway

    def ask(**options: Any) -> int:
        return client.post("/v1/detect", content=jpeg(), params=options).status_code

    client.headers["content-type"] = "image/jpeg"
    assert ask() == 200
    (forker,) = [one for one in psutil.Process(pid).children() if worker.__name__ in one.cmdline()]
    (decoder,) = forker.children()
    decoder.suspend()
    assert ask(deadline_ms=200) == 504
    assert ask() == 200
    until(lambda: not decoder.is_running() or decoder.status() == psutil.STATUS_ZOMBIE)
    for other in forker.children():
        other.kill()
        assert ask() == 200
    forker.kill()
    assert ask() == 200


def test_no_frame_is_decoded_in_the_gateway_itself(
    rungs: Rungs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def decoded(*_: object) -> None:
        raise AssertionError("decoded in the gateway")

    monkeypatch.setattr("cv2.imdecode", decoded)
    with served(gateway_settings(), rungs) as running:
        for data in (jpeg(), jpeg_of_scans(1500, 1500, 3), crashing_png(64)):
            answer = running.http.post(
                "/v1/detect", content=data, headers={"content-type": "application/octet-stream"}
            )
            assert answer.status_code == 200, answer.text
