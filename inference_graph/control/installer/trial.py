"""``python -m inference_graph.control.installer.trial``: a frame through an installation.

It runs in a pod of the namespace, where the graph answers. Its last line is JSON: for the gateway
and for the graph which rung answered, how many objects it found, and after how long.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import dataclasses
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_transformer.sound import SAMPLE_RATE, wav_of
from foundation.command_line import add_options, read_options, run_command
from foundation.errors import DeadlineExceeded, Unavailable
from foundation.event_loop import run
from foundation.http_client import CallFailed, HttpAnswer, HttpClient
from inference_graph.clients.stream import encode
from inference_graph.detector import wire

TOKEN_VARIABLE = "GEARSHIFT_TOKEN"
_PAUSE = 1.0
_IDLE_SECONDS = 5.0
_LARGEST = 1 << 20


@dataclass(frozen=True)
class TrialOptions:
    """Whom to send a frame. The gateway's token stands in $GEARSHIFT_TOKEN.

    Attributes:
        gateway: URL of the gateway.
        graph: URL of the InferenceGraph; not asked without it.
        sound: whether a recording is sent in place of a picture.
        seconds: how long each may take to answer, its start included.
    """

    gateway: str = "http://gateway"
    graph: str = ""
    sound: bool = False
    seconds: float = 60.0


@dataclass(frozen=True)
class Answered:
    """What one of them answered.

    Attributes:
        rung: which one looked.
        detections: how many objects it found.
        milliseconds: from the request to its answer.
    """

    rung: str
    detections: int
    milliseconds: float


async def send_frame(options: TrialOptions, token: str) -> dict[str, Answered]:
    """Send one frame to the gateway, and to the graph.

    Args:
        options: where they are.
        token: of the gateway; the graph asks for none.

    Returns:
        What ``gateway`` and ``graph`` answered.

    Raises:
        Unavailable: one answers something else than detections.
        DeadlineExceeded: one does not answer in time.
    """
    frame = wav_of(_sound()) if options.sound else encode(_frame())
    credentials = {"authorization": f"Bearer {token}"} if token else {}
    asked: dict[str, tuple[str, bytes, Mapping[str, str]]] = {
        "gateway": (
            f"{options.gateway.rstrip('/')}/v1/detect",
            frame,
            {"content-type": "audio/wav" if options.sound else "image/jpeg", **credentials},
        )
    }
    if options.graph:
        image = {"image": {"b64": base64.b64encode(frame).decode()}}
        body = json.dumps({"instances": [image]}).encode()
        asked["graph"] = (options.graph, body, {"content-type": "application/json"})
    async with HttpClient(_IDLE_SECONDS) as client:
        return {
            name: await _ask(client, name, request, options.seconds)
            for name, request in asked.items()
        }


async def _ask(
    client: HttpClient,
    name: str,
    request: tuple[str, bytes, Mapping[str, str]],
    seconds: float,
) -> Answered:
    """Ask until it answers: what has just become ready may be unknown to some node's proxy."""
    url, body, headers = request
    end = time.monotonic() + seconds
    while True:
        begun = time.monotonic()
        try:
            async with asyncio.timeout(max(0.1, end - begun)):
                answer = await client.call("POST", url, body, headers, _LARGEST)
            if answer.status < 500:
                return _answered(name, url, answer, 1000 * (time.monotonic() - begun))
            detail = f"{answer.status} {_text(answer)}"
        except CallFailed as error:
            detail = str(error)
        except TimeoutError:
            detail = "no answer"
        if time.monotonic() + _PAUSE > end:
            raise DeadlineExceeded(
                f"the {name} at {url} does not answer a frame within {seconds:g} s: {detail}"
            )
        await asyncio.sleep(_PAUSE)


def _answered(name: str, url: str, answer: HttpAnswer, milliseconds: float) -> Answered:
    if answer.status != 200:
        raise Unavailable(f"the {name} at {url} answers {answer.status}: {_text(answer)}")
    try:
        content: Any = json.loads(answer.body)
        if name == "graph":
            (content,) = content["primary"]["predictions"]
            rung, found = content[wire.VARIANT], content[wire.BOXES]
        else:
            rung, found = content["answered_by"], content["detections"]
        return Answered(str(rung), len(found), round(milliseconds, 1))
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable(f"the {name} at {url} answers no detections: {_text(answer)}") from error


def _text(answer: HttpAnswer) -> str:
    return " ".join(answer.body[:300].decode("utf-8", "replace").split())


def _frame() -> Any:
    """Something to look at: a grey street, and a dark box on it. uint8 [360, 640, 3]."""
    frame = np.full((360, 640, 3), 150, np.uint8)
    frame[:160] = (220, 200, 180)
    frame[170:260, 240:400] = (40, 40, 160)
    return frame


def _sound() -> Any:
    """Something to listen to: a second of noise. int16 [16000]."""
    return np.random.default_rng(0).integers(-2000, 2000, SAMPLE_RATE).astype(np.int16)


def main(arguments: Sequence[str] | None = None) -> int:
    """Send the frame; the exit code is 0 if it was answered."""
    parser = argparse.ArgumentParser(
        prog="inference_graph.control.installer.trial", description=__doc__
    )
    add_options(parser, TrialOptions, "whom to ask")
    parsed = parser.parse_args(arguments)

    def command() -> None:
        options = read_options(parsed, TrialOptions)
        answers = run(send_frame(options, os.environ.get(TOKEN_VARIABLE, "")))
        print(json.dumps({name: dataclasses.asdict(one) for name, one in answers.items()}))

    return run_command(command)


if __name__ == "__main__":
    sys.exit(main())
