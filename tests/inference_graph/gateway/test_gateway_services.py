"""The gateway as a process over three real detector services, of which one is killed."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_samples import ROWS, SIZE, climbing_weights, jpeg
from processes import until
from service_process import Service, start
from tiny_models import MakeDetector, MakePolicy

from inference_graph.clients.gateway import StreamOptions, stream_video
from inference_graph.contract import LADDER
from inference_graph.gateway.__main__ import main

PATIENCE = 120.0


def detector(rung: str, weights: Path, *more: object) -> Service:
    options = ("--rung", rung, "--weights", weights, "--threads", 1)
    return Service("inference_graph.detector", *options, *more)


def gateway_url(stack: ExitStack, *arguments: object) -> str:
    """A gateway as a process, until the stack ends; where it listens."""
    process = stack.enter_context(start("inference_graph.gateway", *arguments))
    stack.callback(process.terminate)
    assert process.stdout is not None
    reported: dict[str, str] = json.loads(process.stdout.readline())
    return reported["url"]


@pytest.mark.timeout(600)  # five processes start; the platform's test has as long
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
        services = {rung: detector(rung, weights[rung]) for rung in LADDER}
        for service in services.values():
            stack.callback(service.stop)
        targets = {rung: service.wait().grpc for rung, service in services.items()}
        url = gateway_url(
            stack,
            *(part for rung in LADDER for part in ("--rung", f"{rung}={targets[rung]}")),
            *("--policy", policy, "--open-access", "true", "--port", 0),
            *("--deadline-ms", 10000, "--shadow-share", 0, "--log-url", tmp_path / "log"),
        )

        def circuits() -> dict[str, str]:
            found: dict[str, str] = httpx.get(f"{url}/readyz", timeout=30).json()["rungs"]
            return found

        until(lambda: set(circuits().values()) == {"healthy"}, PATIENCE)
        assert set(circuits()) == set(LADDER)

        received: list[Any] = []

        def on_answer(message: Any) -> None:
            received.append(message)
            if len(received) == 30:
                services["small"].kill()

        summary = stream_video(source, url, on_answer=on_answer, live=False)
        assert (summary.answered, summary.dropped, summary.errors) == (100, 0, 0)
        assert [message["frame"] for message in received] == list(range(100))
        assert {message["fallback"] for message in received[:30]} == {""}
        after = [message for message in received[40:] if message["rung"] == "small"]
        assert after
        assert {message["answered_by"] for message in after} <= {"nano", "large"}
        assert {message["fallback"] for message in after} <= {"failed", "open"}
        assert circuits()["small"] != "healthy"

        port = targets["small"].rpartition(":")[2]
        again = detector("small", weights["small"], "--grpc-port", port).wait()
        stack.callback(again.stop)
        until(lambda: circuits()["small"] == "healthy", PATIENCE)
        back = stream_video(source, url, options=StreamOptions(max_frames=9), live=False)
        assert back.shares == pytest.approx({"nano": 1 / 3, "small": 1 / 3, "large": 1 / 3})


def test_a_gateway_that_cannot_start_states_why_in_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rung = ["--rung", "nano=127.0.0.1:1", "--always", "nano"]
    open_access = ["--open-access", "true"]
    (tmp_path / "weights.onnx").write_bytes(b"no network")
    for arguments, output in (
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
        assert output in lines[0]
        assert "Traceback" not in error
