"""A good stream beside hostile clients, against the same stream alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import orjson
from pydantic import Field
from websockets.asyncio.client import ClientConnection, connect

from components.bench.floods.hostile import ATTACKS
from components.parallel import Progress
from components.profiling.machine import machine_facts
from foundation.configuration import configuration
from foundation.event_loop import run
from inference_graph.control.embedded.platform import free_ports
from inference_graph.control.embedded.processes import gateway_service
from inference_graph.control.embedded.supervisor import Supervisor
from inference_graph.gateway.access import add_token

ALONE = "alone"
_READY_SECONDS = 60.0
_LAST_ANSWER_SECONDS = 20.0
_SETTLE_SECONDS = 1.0
"""Of a part, before its frames count."""
_TOKENS = ("same token", "other token")
"""Of the good streams; hostile clients have the first one."""
_LOWEST_PRIORITY = 19


@configuration
class BenchFloodsConfig:
    """How long and on what is measured.

    Attributes:
        seconds: time beside each flood, and of the streams alone before and behind each.
        fps: frames per second of each good stream.
        side: height of the frames, which are 4:3.
    """

    seconds: Annotated[float, Field(ge=1, le=600)] = 20.0
    fps: Annotated[float, Field(ge=1, le=30)] = 5.0
    side: Annotated[int, Field(ge=64, le=2160)] = 240


@dataclass
class GoodStream:
    """Outcomes of the frames of a well-behaved stream.

    Attributes:
        milliseconds: from the time at which a frame was due to its answer.
        fates: messages by their type, and frames that got none.
    """

    milliseconds: list[float] = field(default_factory=list)
    fates: Counter[str] = field(default_factory=Counter)

    def figures(self, alone: GoodStream) -> dict[str, float]:
        """Percentiles, what was not answered, and p99 over that of the stream alone."""
        p50, p99 = np.percentile(self.milliseconds or [np.nan], (50, 99))
        p99_alone = np.percentile(alone.milliseconds or [np.nan], 99)
        return {
            "frames": self.fates.total(),
            "unanswered": self.fates.total() - self.fates["detections"],
            "p50_ms": float(p50),
            "p99_ms": float(p99),
            "ratio": float(p99 / p99_alone),
        }


@dataclass(frozen=True)
class BenchFloods:
    """What was measured.

    Attributes:
        worst_ratio: p99 of a good stream beside a flood over its p99 alone, the highest of all.
        unanswered: frames of good streams without detections, over all parts.
        floods: by flood and good stream frames, milliseconds and ratio; ``refused_or_cut``, how
            often the hostile clients were.
        alone: the same of the streams alone.
        machine: where it was measured.
    """

    worst_ratio: float
    unanswered: int
    floods: Mapping[str, Mapping[str, Any]]
    alone: Mapping[str, Mapping[str, float]]
    machine: Mapping[str, Any]


def bench_floods(
    ladder: Mapping[str, Path], config: BenchFloodsConfig, progress: Progress
) -> BenchFloods:
    """Stream for two tokens beside each flood of :data:`ATTACKS`; hostile clients have the first.

    The gateway runs nano in process, for every frame. Hostile clients have a process of the lowest
    priority: otherwise they would measure what this machine has left for them and the gateway.

    Args:
        ladder: the ONNX file of each rung.
        config: how long and on what is measured.
        progress: called with parts done and in all.

    Raises:
        Unavailable: the gateway does not start.
    """
    image = _frame(config.side)
    parts = (ALONE, *(part for attack in ATTACKS for part in (attack, ALONE)))
    measured: list[dict[str, GoodStream]] = []
    refused: dict[str, int] = {}
    with (
        tempfile.TemporaryDirectory(prefix="gearshift-bench-") as folder,
        _gateway(ladder, Path(folder)) as (url, tokens),
    ):
        for number, part in enumerate(parts):
            with _flood(part, url, tokens[_TOKENS[0]]) as ends:
                streams = run(_streams(url, tokens, image, config))
            measured.append(streams)
            if ends:
                refused[part] = ends[0]
            progress(number + 1, len(parts))
    # The machine's speed moves: each flood is compared with what is before and behind it.
    figures = {
        part: {
            name: measured[place][name].figures(
                _together(measured[place - 1][name], measured[place + 1][name])
            )
            for name in _TOKENS
        }
        for place, part in enumerate(parts)
        if part != ALONE
    }
    alone = {name: _together(*(one[name] for one in measured[::2])) for name in _TOKENS}
    rows = [row for part in figures.values() for row in part.values()]
    return BenchFloods(
        worst_ratio=max(row["ratio"] for row in rows),
        unanswered=sum(int(row["unanswered"]) for row in rows),
        floods={part: {**of, "refused_or_cut": refused[part]} for part, of in figures.items()},
        alone={name: stream.figures(stream) for name, stream in alone.items()},
        machine=machine_facts(),
    )


def _together(*parts: GoodStream) -> GoodStream:
    return GoodStream(
        [one for part in parts for one in part.milliseconds],
        sum((part.fates for part in parts), Counter()),
    )


@contextlib.contextmanager
def _gateway(ladder: Mapping[str, Path], place: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the gateway's URL and a token for each good stream."""
    file = place / "tokens.jsonl"
    tokens = {name: add_token(file, name.replace(" ", "-"), ["stream"]) for name in _TOKENS}
    with contextlib.closing(free_ports()) as ports:
        url = f"http://127.0.0.1:{next(ports)}"
    options = {"always": "nano", "tokens": file, "shadow_share": 0}
    weights = {rung: str(path) for rung, path in ladder.items()}
    service = gateway_service("gateway", url, weights, options)
    with Supervisor([service], place / "logs") as supervisor:
        supervisor.start()
        supervisor.wait_ready(_READY_SECONDS)
        yield url, tokens


@contextlib.contextmanager
def _flood(part: str, url: str, token: str) -> Iterator[list[int]]:
    """Hostile clients; the list gets how often they were refused or cut off."""
    ends: list[int] = []
    if part == ALONE:
        yield ends
        return
    address = urlsplit(url)
    command = [sys.executable, "-m", "components.bench.floods.hostile"]
    command += [str(address.hostname), str(address.port), part, token]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        os.setpriority(os.PRIO_PROCESS, process.pid, _LOWEST_PRIORITY)
        try:
            yield ends
            ends.append(int(process.communicate(timeout=_LAST_ANSWER_SECONDS)[0]))
        finally:
            process.kill()


async def _streams(
    url: str, tokens: Mapping[str, str], image: bytes, config: BenchFloodsConfig
) -> dict[str, GoodStream]:
    found = await asyncio.gather(
        *(
            _stream(url, token, image, config, number / len(tokens))
            for number, token in enumerate(tokens.values())
        )
    )
    return dict(zip(tokens, found, strict=True))


async def _stream(
    url: str, token: str, image: bytes, config: BenchFloodsConfig, phase: float
) -> GoodStream:
    """Frames at their times, whether or not those before were answered."""
    stream = GoodStream()
    due: dict[int, float] = {}
    skipped = round(_SETTLE_SECONDS * config.fps)
    count = skipped + round(config.seconds * config.fps)
    headers = {"authorization": f"Bearer {token}"}
    address = f"{url.replace('http', 'ws', 1)}/v1/stream"
    async with connect(address, additional_headers=headers, compression=None) as socket:

        async def send() -> None:
            begin = time.perf_counter() + phase / config.fps
            for number in range(count):
                due[number] = begin + number / config.fps
                await asyncio.sleep(due[number] - time.perf_counter())
                await socket.send(image)

        sending = asyncio.create_task(send())
        answered = 0
        with contextlib.suppress(TimeoutError):
            while answered < count:
                message = orjson.loads(await _next(socket))
                now = time.perf_counter()
                numbers = message.get("frames") or [message["frame"]]
                answered += len(numbers)
                counted = [number for number in numbers if number >= skipped]
                stream.fates[message["type"]] += len(counted)
                stream.milliseconds += [(now - due[number]) * 1e3 for number in counted]
        await sending
    stream.fates["none"] += count - answered
    return stream


async def _next(socket: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(socket.recv(), _LAST_ANSWER_SECONDS)


def _frame(side: int) -> bytes:
    noise = np.random.default_rng(0).integers(0, 255, (side // 8, side // 6, 3), np.uint8)
    grown = cv2.resize(noise, (side * 4 // 3, side), interpolation=cv2.INTER_CUBIC)
    return bytes(cv2.imencode(".jpg", grown)[1])
