"""All services of a platform, started once, and requests that each of them answers."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from gateway_samples import Served, gateway_settings, jpeg, served
from graph_services import graph
from processes import environment
from service_process import Service, brightness_policy

from feature_transformer.observation import OBSERVATION_SIZE


@dataclass(frozen=True)
class Asked:
    """A request every client sends, and what it is answered."""

    name: str
    method: str
    url: str
    kind: str
    body: bytes
    status: str


@dataclass
class Services:
    gateway: Served
    graph: str
    rung: Service
    router: Service
    transformer: Service
    process_of_graph: subprocess.Popen[str]
    folder: Path
    requests: list[Asked]

    @property
    def script(self) -> Path:
        """The requests as lines of id, method, url, content type, file of the body."""
        lines = []
        for one in self.requests:
            path = self.folder / f"{one.name}.body"
            path.write_bytes(one.body)
            lines.append(
                "\t".join((one.name, one.method, one.url, one.kind, str(path) if one.body else ""))
            )
        script = self.folder / "requests.tsv"
        script.write_text("\n".join(lines) + "\n")
        return script


@contextmanager
def all_services(folder: Path, ladder: Path) -> Iterator[Services]:
    """Start them; bodies that do not arrive are given up after two seconds."""
    rung = Service(
        "inference_graph.detector",
        "--rung",
        "nano",
        "--threads",
        1,
        "--weights",
        ladder / "nano.onnx",
        "--body-seconds",
        2,
    )
    policy = brightness_policy(folder / "policy.onnx")
    router = Service("inference_graph.router", "--policy", policy, "--body-seconds", 2)
    rung.wait(), router.wait()
    transformer = Service(
        "feature_transformer",
        "--model-name",
        "router",
        "--predictor-host",
        router.http,
        "--body-seconds",
        2,
    )
    transformer.wait()
    document = graph(
        {"root": {"Sequence": [{"serviceUrl": f"http://{rung.http}/v1/models/nano:predict"}]}},
        routerTimeouts={"serverRead": 2},
    )
    (folder / "graph.yaml").write_text(yaml.safe_dump(document))
    process = subprocess.Popen(
        [sys.executable, "-m", "inference_graph.graph", folder / "graph.yaml", "--port", "0"],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    graph_url = json.loads(process.stdout.readline())["url"]
    settings = gateway_settings(rungs={"nano": str(ladder / "nano.onnx")}, body_seconds=2.0)
    with served(settings) as gateway:
        asked = requests(gateway.url, graph_url, rung.http, router.http, transformer.http)
        yield Services(gateway, graph_url, rung, router, transformer, process, folder, asked)
    process.terminate()
    assert process.wait(60) == 0
    assert (transformer.stop(), rung.stop(), router.stop()) == (0, 0, 0)


def requests(gateway: str, graph: str, rung: str, router: str, transformer: str) -> list[Asked]:
    image = jpeg(size=(480, 640))
    lines = base64.encodebytes(image).decode()
    to_gateway = json.dumps({"image": {"b64": lines}}).encode()
    v1 = json.dumps({"instances": [{"image": {"b64": lines}}]}).encode()
    seen = np.zeros((1, OBSERVATION_SIZE)).tolist()
    nano = f"http://{rung}/v1/models/nano:predict"
    json_kind = "application/json; charset=utf-8"
    return [
        Asked("image", "POST", f"{gateway}/v1/detect", "image/jpeg", image, "200"),
        Asked("slash", "POST", f"{gateway}/v1/detect/", "image/jpeg", image, "200"),
        Asked("lines", "POST", f"{gateway}/v1/detect", json_kind, to_gateway, "200"),
        Asked("type", "POST", f"{gateway}/v1/detect", "text/plain", image, "415"),
        Asked("head", "HEAD", f"{gateway}/readyz", "", b"", "200"),
        Asked("get", "GET", f"{gateway}/healthz", "", b"", "200"),
        Asked("graph", "POST", f"{graph}/", json_kind, v1, "200"),
        Asked("graph-type", "POST", f"{graph}/", "text/plain", v1, "415"),
        Asked("graph-get", "GET", f"{graph}/", "", b"", "400"),  # the rung misses its images
        Asked("graph-head", "HEAD", f"{graph}/readyz", "", b"", "200"),
        Asked("rung", "POST", nano, json_kind, v1, "200"),
        Asked("rung-image", "POST", nano, "image/jpeg", image, "200"),
        Asked("rung-head", "HEAD", f"http://{rung}/v2/health/ready", "", b"", "200"),
        Asked("router", "POST", f"http://{router}/v1/models/router:predict", json_kind,
              json.dumps({"instances": seen}).encode(), "200"),
        Asked("transformer", "POST", f"http://{transformer}/v1/models/router:predict", json_kind,
              v1, "200"),
        Asked("transformer-type", "POST", f"http://{transformer}/v1/models/router:predict",
              "text/plain", v1, "415"),
        Asked("transformer-head", "HEAD", f"http://{transformer}/v2/health/ready", "", b"", "200"),
    ]  # fmt: skip
