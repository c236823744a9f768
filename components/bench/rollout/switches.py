"""Are requests lost when traffic moves? Counted with the real processes of `gearshift up`."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import onnx

from feature_transformer.image import decode
from foundation.errors import Unavailable
from inference_graph.clients.gateway import StreamClient, StreamOptions
from inference_graph.contract import LADDER
from inference_graph.control.embedded.config import UpConfig
from inference_graph.control.embedded.platform import Platform
from inference_graph.control.rollout.controller import Controller, start
from inference_graph.control.rollout.plan import RolloutPlan
from inference_graph.control.rollout.state import RolloutState, give_order
from inference_graph.prediction_log.reader import read_log

_MARK = "gearshift.bench"
_TIMEOUT = 60.0
_WHO = "bench"
Say = Callable[[str], None]


@dataclass
class RequestCounts:
    """Requests of one kind.

    Attributes:
        sent: so many.
        answered: so many of them, with detections.
        failures: what came instead, at most some.
    """

    sent: int = 0
    answered: int = 0
    failures: list[str] = field(default_factory=list)

    def failed(self, why: str) -> None:
        """Note a request without an answer."""
        if len(self.failures) < 5:
            self.failures.append(why[:200])


@dataclass(frozen=True)
class Switched:
    """Requests during the switches of traffic.

    Attributes:
        requests: sent while traffic moved, by way: detect, stream, graph.
        lost: of them without an answer.
        failures: what came instead, at most some.
        switches: how often the traffic moved.
        revisions: by revision that answered, how many rows of the log.
    """

    requests: dict[str, int]
    lost: dict[str, int]
    failures: list[str]
    switches: int
    revisions: dict[str, int]


def switched(
    policy: Path, ladder: dict[str, Path], state: Path, seconds: float, say: Say
) -> Switched:
    """Start the platform, keep it busy, roll one revision out and another one back.

    Args:
        policy: the policy's ONNX file.
        ladder: by rung, its weights.
        state: folder for the platform.
        seconds: how long traffic flows between two switches.
        say: called with what is being done.
    """
    config = UpConfig(
        policy=policy,
        ladder=ladder[LADDER[0]].parent,
        state=state,
        port=0,
        graph_port=0,
        open_access=True,
        deadline_ms=10_000.0,
        shadow_share=0.0,
        image_share=0.0,
    )
    with Platform(config) as platform:
        say("starting the services")
        platform.start()
        encoded = _picture()
        model = _asked(platform, encoded)
        folder = state / "rollout"
        controller = Controller(folder, platform.log_url, platform.rollouts, say)
        plan = RolloutPlan(every_seconds=1.0, settle_seconds=0.0)
        begun = [start(folder, model, str(_marked(ladder[model], state, 1)), plan, _WHO)]
        switches = 0
        with _busy(platform, encoded) as counts:
            for order in (None, "promote", "promote", "promote"):  # 5, 25, 50, then in its place
                _moved(folder, controller, order)
                switches += 1
                time.sleep(seconds)
            begun.append(start(folder, model, str(_marked(ladder[model], state, 2)), plan, _WHO))
            for order in (None, "promote", "abort"):
                _moved(folder, controller, order)
                switches += 1
                time.sleep(seconds)
        time.sleep(2.5)  # the journal is flushed every second
        answered = read_log(platform.log_url, columns=["revision"]).column("revision").to_pylist()
    return Switched(
        requests={way: one.sent for way, one in counts.items()},
        lost={way: one.sent - one.answered for way, one in counts.items()},
        failures=[why for one in counts.values() for why in one.failures],
        switches=switches,
        revisions={revision: answered.count(revision) for revision in dict.fromkeys(answered)},
    )


def _moved(folder: Path, controller: Controller, order: Any) -> RolloutState:
    if order is not None:
        give_order(folder, order, _WHO, "the bench moves on")
    state = controller.tick()
    if state is None or (state.phase == "rolled back" and order != "abort"):
        raise Unavailable(f"the rollout did not go on: {state.sentence if state else 'it ended'}")
    return state


def _marked(weights: Path, state: Path, number: int) -> Path:
    """The same network with another digest, so that it is another revision."""
    model = onnx.load(str(weights))
    entry = model.metadata_props.add()
    entry.key, entry.value = _MARK, str(number)
    path = state / f"revision-{number}.onnx"
    onnx.save(model, str(path))
    return path


def _picture() -> bytes:
    rng = np.random.default_rng(0)
    frame = cv2.resize(rng.integers(0, 255, (24, 32, 3), np.uint8), (320, 240))
    return bytes(cv2.imencode(".jpg", frame)[1])


def _asked(platform: Platform, encoded: bytes) -> str:
    """The rung that the policy chooses for the picture."""
    answer = httpx.post(
        f"{platform.gateway}/v1/detect",
        content=encoded,
        timeout=_TIMEOUT,
        trust_env=False,
        headers={"content-type": "image/jpeg"},
    )
    return str(answer.raise_for_status().json()["rung"])


@contextlib.contextmanager
def _busy(platform: Platform, encoded: bytes) -> Iterator[dict[str, RequestCounts]]:
    """Requests on all three ways, one after the other on each, while the block runs."""
    ending = threading.Event()
    counts = {way: RequestCounts() for way in ("detect", "graph", "stream")}
    body = {"instances": [{"image": {"b64": base64.b64encode(encoded).decode()}}]}

    def posting(way: str, url: str, **request: Any) -> None:
        own = counts[way]
        with httpx.Client(timeout=_TIMEOUT, trust_env=False) as client:
            while not ending.is_set():
                own.sent += 1
                try:
                    answer = client.post(url, **request)
                except httpx.HTTPError as error:
                    own.failed(f"{way}: {type(error).__name__} {error}")
                    continue
                if answer.status_code == 200:
                    own.answered += 1
                else:
                    own.failed(f"{way}: {answer.status_code} {answer.text}")

    def streaming() -> None:
        own = counts["stream"]
        frame = decode(encoded)

        def frames() -> Iterator[Any]:
            while not ending.is_set():
                own.sent += 1
                yield frame

        async def run() -> None:
            async with StreamClient(platform.gateway, None, StreamOptions()) as client:
                async for message in client.stream(frames()):
                    if message["type"] == "detections":
                        own.answered += 1
                    else:
                        own.failed(f"stream: {message}")

        try:
            asyncio.run(run())
        except Exception as error:  # what ends the stream is a finding
            own.failed(f"stream: {type(error).__name__} {error}")

    image = {"content": encoded, "headers": {"content-type": "image/jpeg"}}
    threads = [
        threading.Thread(
            target=posting, args=("detect", f"{platform.gateway}/v1/detect"), kwargs=image
        ),
        threading.Thread(target=posting, args=("graph", platform.graph), kwargs={"json": body}),
        threading.Thread(target=streaming),
    ]
    for one in threads:
        one.start()
    try:
        yield counts
    finally:
        ending.set()
        for one in threads:
            one.join(_TIMEOUT)
