"""The frame that shows whether an installation answers, as the pod of an installation sends it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import pytest
from json_server import JsonHandler, json_server
from processes import closed_port

from feature_transformer.image import decode
from feature_transformer.sound import sound_of_frame
from inference_graph.control.installer.trial import main

GATEWAY = {"answered_by": "nano", "detections": [{"name": "car"}, {"name": "bus"}]}
GRAPH = {"primary": {"predictions": [{"variant": "small", "boxes": [[0, 0, 1, 1]]}]}}


@contextmanager
def serving(answers: list[tuple[int, Any]]) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives its answers in turn, the last one for ever; yields what it was sent."""
    seen: list[Any] = []

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            seen.append((self.path, headers, body))
            status, content = answers[min(len(seen), len(answers)) - 1]
            self.answer(content, status)

    with json_server(Handler) as url:
        yield url, seen


def test_it_sends_a_recording_to_what_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with serving([(200, GATEWAY)]) as (gateway, asked), serving([(200, GRAPH)]) as (graph, posed):
        assert main([f"--gateway={gateway}", f"--graph={graph}", "--sound=true"]) == 0
    ((_, headers, body),) = asked
    assert headers["content-type"] == "audio/wav" and len(sound_of_frame(decode(body))) == 16_000
    ((_, _, sent),) = posed
    assert base64.b64decode(json.loads(sent)["instances"][0]["image"]["b64"]) == body
    assert json.loads(capsys.readouterr().out)["graph"]["rung"] == "small"


def test_it_sends_one_frame_to_each_and_states_who_answered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEARSHIFT_TOKEN", "gs_x")
    monkeypatch.setattr("inference_graph.control.installer.trial._PAUSE", 0.01)
    with (
        serving([(503, {}), (200, GATEWAY)]) as (gateway, asked),
        serving([(200, GRAPH)]) as (graph, posed),
    ):
        assert main([f"--gateway={gateway}", f"--graph={graph}"]) == 0
    reported = json.loads(capsys.readouterr().out)
    assert {name: (one["rung"], one["detections"]) for name, one in reported.items()} == {
        "gateway": ("nano", 2),
        "graph": ("small", 1),
    }
    path, headers, body = asked[-1]
    assert (path, headers["authorization"]) == ("/v1/detect", "Bearer gs_x")
    frame = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_COLOR)
    assert frame.shape == (360, 640, 3)
    ((_, headers, body),) = posed
    assert "authorization" not in headers
    (instance,) = json.loads(body)["instances"]
    assert base64.b64decode(instance["image"]["b64"])[:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, {"detail": "the token is not known"}), "answers 401: .*the token is not known"),
        ((200, {"primary": 7}), "answers no detections"),
    ],
)
def test_what_is_no_answer_is_one_line(
    answer: tuple[int, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving([answer]) as (url, _):
        assert main([f"--gateway={url}"]) == 1
    out = capsys.readouterr()
    (line,) = out.err.splitlines()
    assert out.out == ""
    assert re.match(f"error: the gateway at {url}/v1/detect {message}", line)


def test_no_one_answers_within_the_time(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert main([f"--gateway={url}", "--seconds=0.5"]) == 1
    assert "does not answer a frame within 0.5 s" in capsys.readouterr().err
