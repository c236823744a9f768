"""What the gateway's tests share: real rungs that can be given trouble, and a server to ask."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import httpx
import numpy as np
from fastapi import FastAPI
from tiny_models import MakeDetector, drawn
from websockets.asyncio.client import connect

from feature_transformer.image import Frame
from foundation.errors import Unavailable
from inference_graph.contract import LADDER, Answer
from inference_graph.control.triggers.http import triggers_routes
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.detector.wire import DetectorFacts
from inference_graph.gateway.app import build_app
from inference_graph.gateway.rungs import LocalRung
from inference_graph.gateway.server import Background, make_server
from inference_graph.gateway.settings import GatewaySettings
from serving_kit.listening import listen, url_of

_Result = TypeVar("_Result")
Message = dict[str, Any]

SIZE = (96, 128)
FRAME = drawn(*SIZE)
ROWS = ([20, 30, 20, 40, 0.1, 0.8], [70, 30, 20, 40, 0.6, 0.1], [100, 70, 20, 10, 0.3, 0.1])
"""Nano sees the first, a car; small the first two, large all three."""


def jpeg(seed: int = 0, size: tuple[int, int] = SIZE) -> bytes:
    return cv2.imencode(".jpg", drawn(*size, seed=seed))[1].tobytes()


class TroubledRung:
    """A rung in process that fails, hangs or dawdles when configured to."""

    def __init__(self, detector: Detector) -> None:
        self.rung = LocalRung(detector)
        self.delay = 0.0
        self.failing = False
        self.hanging = False
        self.asked = 0

    async def facts(self) -> DetectorFacts:
        return await self.rung.facts()

    async def detect(self, frame: Frame, timeout: float, frame_id: str = "") -> Answer:
        self.asked += frame_id != "probe"
        await self._trouble()
        await asyncio.sleep(self.delay)
        return await self.rung.detect(frame, timeout, frame_id)

    async def ready(self) -> bool:
        await self._stuck()
        return not self.failing

    async def close(self) -> None:
        await self.rung.close()

    async def _trouble(self) -> None:
        if self.failing:
            raise Unavailable("the plug is pulled; put it back")
        await self._stuck()

    async def _stuck(self) -> None:
        while self.hanging:
            await asyncio.sleep(0.01)


Rungs = dict[str, TroubledRung]


def troubled_rungs(make_detector: MakeDetector) -> Rungs:
    return {
        rung: TroubledRung(
            Detector(
                DetectorConfig(
                    make_detector(ROWS[: index + 1], size=SIZE, name=f"{rung}.onnx"),
                    rung,
                    threads=1,
                )
            )
        )
        for index, rung in enumerate(LADDER)
    }


def again(rungs: Rungs) -> Rungs:
    """The same detectors for a second gateway; each gateway closes its own."""
    return {name: TroubledRung(rung.rung._detector) for name, rung in rungs.items()}


@dataclass
class Served:
    url: str
    app: FastAPI
    http: httpx.Client
    loop: asyncio.AbstractEventLoop

    @property
    def runtime(self) -> Any:
        return self.app.state.runtime

    @property
    def stream(self) -> str:
        return self.url.replace("http", "ws") + "/v1/stream"

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port)


def gateway_settings(**options: Any) -> GatewaySettings:
    given: dict[str, Any] = {
        "rungs": dict.fromkeys(LADDER, "127.0.0.1:1"),
        "open_access": "tokens" not in options,
        "shadow_share": 0.0,
        "track": False,  # most tests here compare answers with what one rung sees
        "probe_seconds": 0.1,
        "port": 0,
        "deadline_ms": 10_000.0,  # a busy machine must not change what a test sees
        "max_deadline_ms": 60_000.0,
    }
    if "policy" not in options:
        given["always"] = "nano"
    return GatewaySettings(**(given | options))


@contextmanager
def served(
    settings: GatewaySettings,
    rungs: Mapping[str, Any] | None = None,
    background: Background | None = None,
) -> Iterator[Served]:
    """A gateway on a real socket, run by uvicorn on a thread; stopped as by SIGTERM."""
    app = build_app(settings, None if rungs is None else lambda: rungs, (triggers_routes,))
    listening = listen(settings.host, settings.port)
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def report(url: str) -> None:
        loops.append(asyncio.get_running_loop())
        ready.set()

    server = make_server(settings, app, listening, report, background)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    url = url_of(listening)
    thread.start()
    try:
        while not ready.wait(0.1):
            if not thread.is_alive():
                raise RuntimeError("the gateway did not start")
        # No certificate is read: loading them takes longer than a request.
        with httpx.Client(base_url=url, timeout=60, verify=False) as http:
            yield Served(url, app, http, loops[0])
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


def talk(url: str, conversation: Callable[[Any], Awaitable[_Result]]) -> _Result:
    """What a conversation over a WebSocket comes to, within a minute."""

    async def run() -> _Result:
        async with connect(url, compression=None) as stream:
            return await asyncio.wait_for(conversation(stream), 60)

    return asyncio.run(run())


async def received(stream: Any) -> Message:
    return json.loads(await stream.recv())


async def asked(stream: Any, *messages: bytes | str) -> list[Message]:
    """The answers to messages, each sent when the one before was answered."""
    answers = []
    for message in messages:
        await stream.send(message)
        answers.append(await received(stream))
    return answers


def climbing_weights() -> np.ndarray:
    """Nano first, then the rung above the one that looked before, and nano again after large."""
    from feature_transformer.observation import FRAME_FEATURES, LOOK_NAMES, OBSERVATION_SIZE

    weights = np.zeros((OBSERVATION_SIZE, 3), np.float32)
    for index, rung in enumerate(LADDER):
        weights[FRAME_FEATURES + LOOK_NAMES.index(f"previous_is_{rung}"), (index + 1) % 3] = 5
    return weights
