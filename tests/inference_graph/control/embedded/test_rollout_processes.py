"""A rollout over real processes: a detector, its canary, and the graph; the gateway in process."""

from __future__ import annotations

import base64
import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from gateway_samples import ROWS, SIZE, Served, gateway_settings, jpeg, served
from processes import closed_port, until
from tiny_models import MakeDetector

from foundation.errors import InvalidInput, Unavailable
from foundation.storage import sha256_file
from inference_graph.control.embedded.canary import (
    EmbeddedTraffic,
    PlatformParts,
    _named,
    _with_option,
    released_file,
)
from inference_graph.control.embedded.monitoring import Scraped, scrape
from inference_graph.control.embedded.processes import container_service, graph_service
from inference_graph.control.embedded.supervisor import Service, Supervisor
from inference_graph.control.manifests.services import ServiceContainer
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import RolloutState

pytestmark = pytest.mark.timeout(600)

NANO = ServiceContainer(
    "nano",
    "predictor",
    (
        "python",
        "-m",
        "inference_graph.detector",
        "--model_name=nano",
        "--rung=nano",
        "--weights=/mnt/models/nano.onnx",
        "--threads=1",
    ),
    {},
    None,
)
NANO_STEP = {"name": "primary", "serviceName": "nano"}
GRAPH = {
    "apiVersion": "serving.kserve.io/v1alpha1",
    "kind": "InferenceGraph",
    "metadata": {"name": "g"},
    "spec": {
        "nodes": {
            "root": {
                "routerType": "Ensemble",
                "steps": [{"name": "primary", "serviceName": "nano"}],
            }
        }
    },
}


def address() -> str:
    return f"127.0.0.1:{closed_port()}"


class Running:
    """What the test looks at."""

    def __init__(self, supervisor: Supervisor, graph: str, gateway: Served, state: Path) -> None:
        self.supervisor, self.graph, self.gateway, self.state = supervisor, graph, gateway, state
        self.traffic: EmbeddedTraffic

    def objects(self) -> tuple[int, int]:
        """How many objects gateway and graph see in the picture."""
        image = jpeg()
        reported = self.gateway.http.post(
            "/v1/detect", content=image, headers={"content-type": "image/jpeg"}
        )
        body = {"instances": [{"image": {"b64": base64.b64encode(image).decode()}}]}
        (seen,) = httpx.post(self.graph, json=body, timeout=60, trust_env=False).json()["primary"][
            "predictions"
        ]
        return len(reported.json()["detections"]), len(seen["scores"])

    def processes(self) -> dict[str, int]:
        return {one.name: one.pid or 0 for one in self.supervisor.poll(restart=False)}


def scraped(state: Path) -> list[tuple[str, str, str]]:
    """Address, service and track of whatever a Prometheus of this platform looks at."""
    groups = json.loads((state / "prometheus" / "services.json").read_text())
    return [(one["targets"][0], one["labels"]["service"], one["labels"]["track"]) for one in groups]


def _where(running: Running, name: str) -> str:
    service = running.supervisor.service(name)
    assert service is not None
    return urlsplit(service.ready_url).netloc


@pytest.fixture
def running(make_detector: MakeDetector, tmp_path: Path) -> Iterator[Running]:
    models = tmp_path / "models"
    models.mkdir()
    make_detector(ROWS[:1], size=SIZE, name="models/nano.onnx")
    state, manifest = tmp_path / "state", tmp_path / "graph.yaml"
    manifest.write_text(yaml.safe_dump(GRAPH))
    graph, http, grpc = f"http://{address()}", address(), address()

    def make(
        one: ServiceContainer, where: Mapping[tuple[str, str], tuple[str, str]], folder: Path
    ) -> Service:
        return container_service(one, where, {"nano": folder}, [NANO], {})

    services = [
        make(NANO, {("nano", "predictor"): (http, grpc)}, models),
        graph_service(graph, manifest, {"nano": http}),
    ]
    with Supervisor(services, tmp_path / "logs") as supervisor:
        supervisor.start()
        supervisor.wait_ready(120)
        settings = gateway_settings(rungs={"nano": grpc}, always="nano")
        scrape(state, [Scraped("nano", "predictor", http)])
        with served(settings) as gateway:
            until(lambda: gateway.runtime.backends["nano"].breaker.usable)
            found = Running(supervisor, graph, gateway, state)
            found.traffic = EmbeddedTraffic(
                PlatformParts(
                    supervisor,
                    [NANO],
                    make,
                    lambda count: [address() for _ in range(count)],
                    GRAPH,
                    manifest,
                    graph,
                    gateway.url,
                    None,
                    state,
                    {"nano": models / "nano.onnx"},
                )
            )
            yield found


def rollout(path: Path, name: str, **fields: Any) -> RolloutState:
    plain = RolloutState(
        name,
        "nano",
        str(path),
        sha256_file(path),
        "anna",
        RolloutPlan(ready_seconds=120),
        datetime.now(UTC),
    )
    return replace(plain, **fields)


def test_a_canarys_transformer_asks_its_own_predictor() -> None:
    transformer = ServiceContainer("router", "transformer", ("t", "--model_name=router"), {}, None)
    named = _named(transformer, "router-1", "d")
    assert named.command == ("t", "--model_name=router-1", "--predictor_name=router-1")
    detector = _named(NANO, "nano-1", "d").command
    assert "--model_name=nano-1" in detector and detector[-1] == "--sha256=d"


def test_a_new_revision_comes_and_goes(
    running: Running, make_detector: MakeDetector, tmp_path: Path
) -> None:
    """One start for all of it, for each takes seconds."""
    (tmp_path / "new").mkdir()
    weights = make_detector(ROWS, size=SIZE, name="new/nano.onnx")
    begun = rollout(weights, "r1")
    before = running.processes()["nano"]
    ready = running.traffic.prepare(begun)
    assert ready.canary == sha256_file(weights)[:12] and ready.stable != ready.canary
    assert ready.service == f"nano-{begun.sha256[:8]}"
    assert running.objects() == (1, 1)
    begun = replace(begun, canary=ready.canary, phase="step", step=3)
    running.traffic.shift(begun, 100)
    assert running.objects() == (3, 3)
    assert running.traffic.flows(begun) and not running.traffic.flows(replace(begun, step=0))
    running.traffic.shift(begun, 0)
    assert running.objects() == (1, 1)

    # Requests without end while the new one takes over and the old process ends.
    failures: list[str] = []
    ending = threading.Event()

    def ask() -> None:
        while not ending.is_set():
            try:
                running.objects()
            except Exception as error:  # any failure at all is a lost request
                failures.append(repr(error))

    # A Prometheus looks at both, each under the rung's name, and then at the new one.
    old, new = (_where(running, name) for name in ("nano", f"{ready.service}-predictor"))
    assert scraped(running.state) == [(old, "nano", "stable"), (new, "nano", "canary")]
    thread = threading.Thread(target=ask)
    thread.start()
    running.traffic.promote(begun)
    ending.set()
    thread.join(60)
    assert failures == []
    assert scraped(running.state) == [(new, "nano", "stable")]
    assert running.objects() == (3, 3)
    assert set(running.processes()) == {"graph", f"{ready.service}-predictor"}
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)

    # The next start takes the new file, unless somebody names another one than was replaced.
    given = tmp_path / "models" / "nano.onnx"
    assert released_file(running.state, "nano", given) == weights
    assert released_file(running.state, "nano", weights) == weights
    other = make_detector(ROWS[:2], size=SIZE, name="other.onnx")
    assert released_file(running.state, "nano", other) == other
    (running.state / "released.json").write_text("[]")
    with pytest.raises(InvalidInput, match=r"released.json is broken"):
        released_file(running.state, "nano", given)
    (running.state / "released.json").unlink()

    # Somebody else's start of a gateway, after the promotion.
    started = Service("gateway", ("x", "--rung=nano=a:1", "--rung=small=b:2", "--port=1"), "")
    changed = _with_option(started, "--rung=nano=c:3/nano-1")
    assert changed.command == ("x", "--rung=nano=c:3/nano-1", "--rung=small=b:2", "--port=1")

    # What cannot start leaves nothing behind.
    broken = tmp_path / "broken" / "nano.onnx"
    broken.parent.mkdir()
    broken.write_bytes(b"no network")
    with pytest.raises(Unavailable, match="ended while starting"):
        running.traffic.prepare(rollout(broken, "r2"))
    running.traffic.withdraw(rollout(broken, "r2"))
    assert set(running.processes()) == {"graph", f"{ready.service}-predictor"}
    assert running.objects() == (3, 3)
