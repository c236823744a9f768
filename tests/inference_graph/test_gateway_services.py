"""The gateway as a process over three real detector services, of which one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
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
PATIENCE = 120.0


@contextmanager
def process(arguments: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """A module run as a command, once it told in a line of JSON where it listens."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'transformers'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            yield running, json.loads(running.stdout.readline())
        finally:
            running.terminate()
            try:
                running.wait(30)
            except subprocess.TimeoutExpired:
                running.kill()


def detector(rung: str, weights: Path, port: str = "0") -> Sequence[str]:
    options = ("--rung", rung, "--weights", str(weights), "--threads", "1")
    return ("inference_graph.detector", *options, "--http_port", "0", "--grpc_port", port)


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
    source = str(film / "%03d.jpg")

    with ExitStack() as stack:
        services = {
            rung: stack.enter_context(process(detector(rung, weights[rung]))) for rung in LADDER
        }
        targets = {rung: told["grpc"] for rung, (_, told) in services.items()}
        _, told = stack.enter_context(
            process(
                (
                    "inference_graph.gateway",
                    *(part for rung in LADDER for part in ("--rung", f"{rung}={targets[rung]}")),
                    *("--policy", str(policy), "--open-access", "true", "--port", "0"),
                    *("--deadline-ms", "10000", "--shadow-share", "0"),
                    *("--log-url", str(tmp_path / "log")),
                )
            )
        )
        url = told["url"]
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
                services["small"][0].send_signal(signal.SIGKILL)

        summary = stream_video(f"file://{source}", url, None, on_answer, StreamOptions(window=1),
                               live=False)  # fmt: skip
        assert (summary.answered, summary.dropped, summary.errors) == (100, 0, 0)
        assert [message["frame"] for message in heard] == list(range(100))
        assert {message["fallback"] for message in heard[:30]} == {""}
        after = [message for message in heard[40:] if message["rung"] == "small"]
        assert after
        assert {message["answered_by"] for message in after} <= {"nano", "large"}
        assert {message["fallback"] for message in after} <= {"failed", "open"}
        assert httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]["small"] != "closed"

        port = targets["small"].rpartition(":")[2]
        stack.enter_context(process(detector("small", weights["small"], port)))
        back = time.monotonic()
        while httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]["small"] != "closed":
            assert time.monotonic() < back + PATIENCE
            time.sleep(0.1)
        again = stream_video(f"file://{source}", url, options=StreamOptions(max_frames=9),
                             live=False)  # fmt: skip
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
