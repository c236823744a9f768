"""The gateway as a process over three real detector services, of which one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_samples import ROWS, SIZE, climbing_weights, jpeg
from tiny_models import MakeDetector, MakePolicy

from inference_graph.client import StreamOptions, stream_video
from inference_graph.contract import LADDER
from inference_graph.gateway.__main__ import main

ROOT = Path(__file__).parents[2]
PATIENCE = 300.0


class Process:
    """A module run as a command."""

    def __init__(self, *arguments: str) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'transformers'}{os.pathsep}{ROOT}"}
        command = [sys.executable, "-m", *arguments]
        self.running = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    @cached_property
    def told(self) -> dict[str, Any]:
        """The line of JSON that says where it listens, once it does."""
        assert self.running.stdout is not None
        return json.loads(self.running.stdout.readline())

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.running.terminate()
        try:
            self.running.wait(30)
        except subprocess.TimeoutExpired:
            self.running.kill()
        assert self.running.stdout is not None
        self.running.stdout.close()


def detector(rung: str, weights: Path, port: str = "0") -> Process:
    options = ("--rung", rung, "--weights", str(weights), "--threads", "1")
    return Process("inference_graph.detector", *options, "--http_port", "0", "--grpc_port", port)


@pytest.mark.timeout(1200)  # five processes start; on a busy machine each takes a minute
def test_a_detector_killed_in_a_stream_costs_no_frame_and_comes_back(
    make_detector: MakeDetector, make_policy: MakePolicy, tmp_path: Path
) -> None:
    weights = {
        rung: make_detector(ROWS[: index + 1], size=SIZE, name=f"{rung}.onnx")
        for index, rung in enumerate(LADDER)
    }
    policy = make_policy(climbing_weights(), (0.1, 0, 0))
    film = tmp_path / "film"
    film.mkdir()
    for index in range(100):
        (film / f"{index:03}.jpg").write_bytes(jpeg(index))
    source = f"file://{film / '%03d.jpg'}"  # OpenCV reads numbered images as a video

    with ExitStack() as stack:
        services = {rung: stack.enter_context(detector(rung, weights[rung])) for rung in LADDER}
        targets = {rung: service.told["grpc"] for rung, service in services.items()}
        gateway = stack.enter_context(
            Process(
                "inference_graph.gateway",
                *(part for rung in LADDER for part in ("--rung", f"{rung}={targets[rung]}")),
                *("--policy", str(policy), "--open-access", "true", "--port", "0"),
                *("--deadline-ms", "10000", "--shadow-share", "0"),
                *("--log-url", str(tmp_path / "log")),
            )
        )
        url = gateway.told["url"]
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            rungs = httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]
            if set(rungs.values()) == {"closed"}:
                break
            time.sleep(0.1)
        assert rungs == dict.fromkeys(LADDER, "closed")

        heard: list[Any] = []

        def on_answer(message: Any) -> None:
            heard.append(message)
            if len(heard) == 30:
                services["small"].running.kill()

        summary = stream_video(source, url, on_answer=on_answer, live=False)
        assert (summary.answered, summary.dropped, summary.errors) == (100, 0, 0)
        assert [message["frame"] for message in heard] == list(range(100))
        assert {message["fallback"] for message in heard[:30]} == {""}
        after = [message for message in heard[40:] if message["rung"] == "small"]
        assert after
        assert {message["answered_by"] for message in after} <= {"nano", "large"}
        assert {message["fallback"] for message in after} <= {"failed", "open"}
        assert httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]["small"] != "closed"

        port = targets["small"].rpartition(":")[2]
        stack.enter_context(detector("small", weights["small"], port))
        back = time.monotonic()
        while httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]["small"] != "closed":
            assert time.monotonic() < back + PATIENCE
            time.sleep(0.1)
        again = stream_video(source, url, options=StreamOptions(max_frames=9), live=False)
        assert again.shares == pytest.approx({"nano": 1 / 3, "small": 1 / 3, "large": 1 / 3})


def test_a_gateway_that_cannot_start_says_why_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rung = ["--rung", "nano=127.0.0.1:1", "--always", "nano"]
    open_access = ["--open-access", "true"]
    (tmp_path / "weights.onnx").write_bytes(b"no network")
    for arguments, said in (
        (rung, "tokens file or open_access"),
        ([*rung, *open_access, "--host", "0.0.0.0"], "open_access on 0.0.0.0"),
        ([*rung, "--tokens", str(tmp_path / "none")], "cannot read the tokens file"),
        (["--rung", "nano", *open_access], "NAME=TARGET"),
        (["--rung", "nano=x", "--always", "nano", *open_access, "--port", "0"], "target of nano"),
        ([*rung, *open_access, "--log-url", "ftp://nowhere"], "ftp"),
        (
            ["--rung", f"nano={tmp_path / 'weights.onnx'}", "--always", "nano", *open_access],
            "is no ONNX file",
        ),
    ):
        assert main([*arguments, *(() if "--port" in arguments else ("--port", "0"))]) == 1
        error = capfd.readouterr().err
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, error
        assert said in lines[0]
        assert "Traceback" not in error
