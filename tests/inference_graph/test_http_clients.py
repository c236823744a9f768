"""The HTTP clients people have, with what they do by default, against every service.

The same requests go out by each client: an image to the gateway, the graph, a rung, observations
to the router. No body may be lost on the way, and nothing may be left unanswered.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from gateway_samples import Served, gateway_settings, jpeg, served
from graph_services import graph
from processes import environment
from service_process import Service, brightness_policy

from feature_transformer.observation import OBSERVATION_SIZE

HERE = Path(__file__).parent / "http_clients"


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
    folder: Path
    requests: list[Asked]

    @property
    def script(self) -> Path:
        """The requests as lines of id, method, url, content type, file of the body."""
        lines = []
        for one in self.requests:
            path = self.folder / f"{one.name}.body"
            path.write_bytes(one.body)
            lines.append("\t".join((one.name, one.method, one.url, one.kind,
                                    str(path) if one.body else "")))  # fmt: skip
        script = self.folder / "requests.tsv"
        script.write_text("\n".join(lines) + "\n")
        return script


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory,
    sample_ladder: Path,
) -> Iterator[Services]:  # fmt: skip
    folder = tmp_path_factory.mktemp("clients")
    rung = Service("inference_graph.detector", "--rung", "nano", "--threads", 1,
                   "--weights", sample_ladder / "nano.onnx")  # fmt: skip
    router = Service(
        "inference_graph.router", "--policy", brightness_policy(folder / "policy.onnx")
    )
    rung.wait(), router.wait()
    document = graph(
        {"root": {"Sequence": [{"serviceUrl": f"http://{rung.http}/v1/models/nano:predict"}]}}
    )
    (folder / "graph.yaml").write_text(yaml.safe_dump(document))
    process = subprocess.Popen(
        [sys.executable, "-m", "inference_graph.graph", folder / "graph.yaml", "--port", "0"],
        env=environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    graph_url = json.loads(process.stdout.readline())["url"]
    with served(gateway_settings(rungs={"nano": str(sample_ladder / "nano.onnx")})) as gateway:
        asked = requests(gateway.url, graph_url, rung.http, router.http)
        yield Services(gateway, graph_url, rung, router, folder, asked)
    process.terminate()
    assert process.wait(60) == 0
    assert (rung.stop(), router.stop()) == (0, 0)


def requests(gateway: str, graph: str, rung: str, router: str) -> list[Asked]:
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
    ]  # fmt: skip


def told(services: Services, *command: object, **more: str) -> list[list[str]]:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=280,
        env=os.environ | more,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [line.split("\t") for line in done.stdout.splitlines()]


def check(services: Services, lines: list[list[str]], ways: int) -> None:
    expected = {one.name: one.status for one in services.requests}
    wrong = [line for line in lines if line[2] != expected[line[0]]]
    assert wrong == []
    assert {line[0] for line in lines} == set(expected)
    assert len({line[1] for line in lines}) == ways


def runtime(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"needs {name}")
    return found


def test_java(services: Services) -> None:
    lines = told(services, runtime("java"), "-Xshare:auto", "-XX:TieredStopAtLevel=1",
                 HERE / "Client.java", services.script)  # fmt: skip
    check(services, lines, 2)


def test_go(services: Services) -> None:
    lines = told(services, runtime("go"), "run", HERE / "client.go", services.script)
    check(services, lines, 2)


def test_node(services: Services) -> None:
    check(services, told(services, runtime("node"), HERE / "client.mjs", services.script), 2)


WAYS: dict[str, list[str]] = {
    "default": [],
    "http1.0": ["--http1.0"],
    "http2 offered": ["--http2"],
    "compressed": ["--compressed"],
    "chunked": ["-H", "Transfer-Encoding: chunked"],
    "expect": ["-H", "Expect: 100-continue"],
}


def test_curl(services: Services, tmp_path: Path) -> None:
    """Each way asks all in one run, so that connections are used again."""
    lines = []
    script = [line.split("\t") for line in services.script.read_text().splitlines()]
    for way, options in WAYS.items():
        command: list[str] = [runtime("curl"), "-s"]
        for index, (name, method, url, kind, body) in enumerate(script):
            command += ["--next"] if index else []
            command += ["-s", "-o", "/dev/null", "-w", f"{name}\t{way}\t%{{http_code}}\n"]
            of_a_body = way in ("chunked", "expect")
            command += options if body or not of_a_body else []
            command += ["-I"] if method == "HEAD" else []
            command += ["-H", f"Content-Type: {kind}"] if kind else []
            command += ["--data-binary", f"@{body}"] if body else []
            command.append(url)
        lines += told(services, *command)
    check(services, lines, len(WAYS))


def test_curl_uploads_forms_and_http_2_alone(services: Services, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg())
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(image.read_bytes()))
    curl = [runtime("curl"), "-s", "-o", "/dev/null", "-w", "x\tx\t%{http_code}"]
    url = f"{services.gateway.url}/v1/detect"

    def status(*options: object) -> str:
        return told(services, *curl, *options)[0][2]

    assert status("-F", f"image=@{image}", url) == "200"
    assert (
        status("-F", f"image=@{image}", f"http://{services.rung.http}/v1/models/nano:predict")
        == "415"
    )
    assert status("-T", image, "-X", "POST", "-H", "content-type: image/jpeg", url) == "200"
    assert status("-T", image, url) == "405"
    for coding, expected in (("gzip", "200"), ("br", "415")):
        assert status("-H", f"content-encoding: {coding}", "-H", "content-type: image/jpeg",
                      "--data-binary", f"@{packed}", url) == expected  # fmt: skip
    # HTTP/2 without asking first is not spoken; curl says so, and nothing hangs.
    done = subprocess.run([*curl, "--http2-prior-knowledge", "-m", "20", url], capture_output=True)
    assert done.returncode not in (0, 28)


def test_tritonclient_with_compression(services: Services, tmp_path: Path) -> None:
    python = os.environ.get("GEARSHIFT_TRITON_PYTHON", sys.executable)
    have = subprocess.run([python, "-c", "import tritonclient.http"], capture_output=True)
    if have.returncode:
        pytest.skip("needs tritonclient[http], in the Python of $GEARSHIFT_TRITON_PYTHON")
    lines = told(services, python, HERE / "triton.py", services.rung.http, PYTHONPATH="")
    assert lines[0][2] == "True"
    assert [line[2] for line in lines[1:]] == ["4"] * 18
