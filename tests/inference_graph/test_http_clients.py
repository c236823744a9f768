"""The HTTP clients people have, with what they do by default, against every service.

The same requests go out by each client: an image to the gateway, the graph, a rung and the
transformer, observations to the router. No body may be lost on the way, and nothing may be left
unanswered.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from all_services import Services
from gateway_samples import jpeg

HERE = Path(__file__).parent / "http_clients"


def output_of(services: Services, *command: object, **more: str) -> list[list[str]]:
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        timeout=280,
        env=os.environ | more,
    )
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
    lines = output_of(
        services,
        runtime("java"),
        "-Xshare:auto",
        "-XX:TieredStopAtLevel=1",
        HERE / "Client.java",
        services.script,
    )
    check(services, lines, 2)


def test_go(services: Services) -> None:
    lines = output_of(services, runtime("go"), "run", HERE / "client.go", services.script)
    check(services, lines, 2)


@pytest.mark.mono
def test_dotnet(services: Services, tmp_path: Path) -> None:
    """By Mono, Debian's .NET."""
    program = tmp_path / "client.exe"
    output_of(services, "mcs", f"-out:{program}", "-r:System.Net.Http", HERE / "Client.cs")
    check(services, output_of(services, "mono", program, services.script), 3)


def test_node(services: Services) -> None:
    check(services, output_of(services, runtime("node"), HERE / "client.mjs", services.script), 2)


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
        lines += output_of(services, *command)
    check(services, lines, len(WAYS))


def test_curl_uploads_forms_and_http_2_alone(services: Services, tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg())
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(image.read_bytes()))
    curl = [runtime("curl"), "-s", "-o", "/dev/null", "-w", "x\tx\t%{http_code}"]
    url = f"{services.gateway.url}/v1/detect"

    def status(*options: object) -> str:
        return output_of(services, *curl, *options)[0][2]

    assert status("-F", f"image=@{image}", url) == "200"
    assert (
        status("-F", f"image=@{image}", f"http://{services.rung.http}/v1/models/nano:predict")
        == "415"
    )
    assert status("-T", image, "-X", "POST", "-H", "content-type: image/jpeg", url) == "200"
    assert status("-T", image, url) == "405"
    for coding, expected in (("gzip", "200"), ("br", "415")):
        assert (
            status(
                "-H",
                f"content-encoding: {coding}",
                "-H",
                "content-type: image/jpeg",
                "--data-binary",
                f"@{packed}",
                url,
            )
            == expected
        )
    # HTTP/2 without asking first is not supported; curl reports it, and nothing hangs.
    done = subprocess.run([*curl, "--http2-prior-knowledge", "-m", "20", url], capture_output=True)
    assert done.returncode not in (0, 28)


def test_tritonclient_with_compression(services: Services, tmp_path: Path) -> None:
    python = os.environ.get("GEARSHIFT_TRITON_PYTHON", sys.executable)
    have = subprocess.run(
        [python, "-c", "import tritonclient.http, tritonclient.grpc"], capture_output=True
    )
    if have.returncode:
        pytest.skip("needs tritonclient[http,grpc], in the Python of $GEARSHIFT_TRITON_PYTHON")
    addresses = (services.rung.http, services.rung.grpc)
    lines = output_of(services, python, HERE / "triton.py", *addresses, PYTHONPATH="")
    answers = [line[2] for line in lines if line[0] == "infer"]
    assert [line[2] for line in lines if line[0] == "ready"] == ["True", "True"]
    assert answers == ["4"] * (18 + 3)


API_PAGE = Path(__file__).parents[2] / "docs" / "api.md"
EXAMPLES = re.findall(r"^```(\w+)[^\n]*\n(.*?)^```", API_PAGE.read_text(), re.MULTILINE | re.DOTALL)
PROGRAMS = {
    "bash": ("bash", "-euc"),
    "python": (sys.executable, "-c"),
    "javascript": ("node", "--input-type=module", "-e"),
}
PRINTED = [
    ("bash", '"detections":'),
    ("python", ""),  # a line for each object, and there may be none
    ("javascript", "["),
    ("python", "2 nano"),
    ("bash", '"detections":'),
    ("python", "["),
    ("bash", "this gateway keeps no log, so feedback cannot be stored"),
]


@pytest.mark.parametrize("number", range(len(PRINTED)))
def test_every_example_of_the_api_page_runs(
    services: Services, tmp_path: Path, number: int
) -> None:
    language, text = EXAMPLES[number]
    expected_language, printed = PRINTED[number]
    assert language == expected_language and len(EXAMPLES) == len(PRINTED)
    runtime(PROGRAMS[language][0])
    if "tritonclient" in text and importlib.util.find_spec("tritonclient") is None:
        pytest.skip("needs tritonclient[grpc]")
    image = jpeg(size=(480, 640))
    (tmp_path / "frame.jpg").write_bytes(image)
    kind = {"content-type": "image/jpeg"}
    answer = services.gateway.http.post("/v1/detect", content=image, headers=kind)
    for written, real in (
        ("http://127.0.0.1:8600", services.gateway.url),
        ("http://127.0.0.1:8601", services.graph),
        ("127.0.0.1:9000", services.rung.grpc),
        ("EVENT_ID", answer.json()["event_id"]),
    ):
        text = text.replace(written, real)
    command = [*PROGRAMS[language], text]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert printed in done.stdout, done.stdout
