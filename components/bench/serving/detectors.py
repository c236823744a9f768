"""One detector behind gRPC, against its bare network and against Ultralytics' own way to run it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.parallel import Progress
from components.ultralytics_log import quiet_ultralytics
from feature_transformer.image import Frame
from inference_graph.contract import DETECTOR_INPUT, DETECTOR_OUTPUT, LADDER
from inference_graph.detector import DetectorConfig
from inference_graph.detector.client import RungClient
from inference_graph.detector.letterbox import Letterbox
from inference_graph.sessions import open_model, run

PLAIN = "cpu"
"""The provider every machine has: ONNX Runtime in fp32."""
_AGAINST = ("ort", "ultralytics")
_ROUNDS = 5
_TIMEOUT = 30.0

Ask = Callable[[float], Awaitable[tuple[int, float]]]
"""Seconds to work, to the answers given and the seconds that took."""


async def time_detectors(
    targets: Mapping[str, Mapping[str, str]],
    ladder: Mapping[str, Path],
    frames: Sequence[Frame],
    seconds: float,
    callers: int,
    progress: Progress,
) -> dict[str, Any]:
    """Compare the throughput of every rung, in five rounds in which each way has its turn.

    Args:
        targets: host:port of each rung's gRPC server, by execution provider.
        ladder: the ONNX file of each rung.
        frames: uint8 [height, width, 3], BGR; asked one after the other, again and again.
        seconds: how long each way is measured in all.
        callers: who ask at the same time over gRPC, each waiting for its answer.
        progress: called with rounds done and in all.

    Returns:
        ``detector_over_ort`` and ``detector_over_ultralytics``, the lowest of the rungs, of the
        ``provider`` that is fastest by the second; and ``detail`` with every rung's answers per
        second, and both figures of every provider.
    """
    detail: dict[str, dict[str, float]] = {}
    for place, rung in enumerate(LADDER):
        clients = {name: RungClient(rung, rungs[rung]) for name, rungs in targets.items()}
        size = (await clients[PLAIN].facts()).input_size
        ways: dict[str, Ask] = {
            **{name: _over_grpc(one, frames, callers) for name, one in clients.items()},
            "ort": _bare(ladder[rung], size, frames),
            "ultralytics": _ultralytics(ladder[rung], size, frames),
        }
        counts = dict.fromkeys(ways, 0)
        spent = dict.fromkeys(ways, 0.0)
        with quiet_ultralytics():
            for ask in ways.values():
                await ask(min(0.5, seconds))  # the first is not counted
            for turn in range(_ROUNDS):
                for name, ask in ways.items():
                    count, took = await ask(seconds / _ROUNDS)
                    counts[name] += count
                    spent[name] += took
                progress(place * _ROUNDS + turn + 1, len(LADDER) * _ROUNDS)
        for client in clients.values():
            await client.close()
        detail[rung] = {f"{name}_per_second": counts[name] / spent[name] for name in ways}
    providers = {
        name: {f"detector_over_{against}": _lowest(detail, name, against) for against in _AGAINST}
        for name in targets
    }
    best = max(providers, key=lambda name: providers[name]["detector_over_ultralytics"])
    return {
        "provider": best,
        **providers[best],
        "detail": {"rungs": detail, "providers": providers},
    }


def _lowest(detail: Mapping[str, Mapping[str, float]], name: str, against: str) -> float:
    return min(row[f"{name}_per_second"] / row[f"{against}_per_second"] for row in detail.values())


def _over_grpc(client: RungClient, frames: Sequence[Frame], callers: int) -> Ask:
    async def ask(seconds: float) -> tuple[int, float]:
        start = time.perf_counter()

        async def caller(first: int) -> int:
            asked = 0
            while time.perf_counter() - start < seconds:
                await client.detect(frames[(first + asked) % len(frames)], _TIMEOUT)
                asked += 1
            return asked

        counts = await asyncio.gather(*(caller(which * 7) for which in range(callers)))
        return sum(counts), time.perf_counter() - start

    return ask


def _bare(weights: Path, size: tuple[int, int], frames: Sequence[Frame]) -> Ask:
    """The network alone on frames that are prepared beforehand, as ONNX Runtime runs it here."""
    model = open_model(weights, DetectorConfig.threads)
    tensors = []
    for frame in frames:
        placed = Letterbox.fit((frame.shape[0], frame.shape[1]), size)
        tensors.append(placed.tensor(frame))
    return _loop(
        lambda index: run(model, (DETECTOR_OUTPUT,), {DETECTOR_INPUT: tensors[index]}), len(frames)
    )


def _ultralytics(weights: Path, size: tuple[int, int], frames: Sequence[Frame]) -> Ask:
    """Ultralytics' ``predict``, at the same size and the same thresholds."""
    from ultralytics import YOLO

    model = YOLO(weights, task="detect")
    settings = {
        "imgsz": list(size),
        "conf": DetectorConfig.confidence,
        "iou": DetectorConfig.iou,
        "max_det": DetectorConfig.max_detections,
        "device": "cpu",
        "verbose": False,
    }
    return _loop(lambda index: model.predict(frames[index], **settings), len(frames))


def _loop(work: Callable[[int], object], length: int) -> Ask:
    async def ask(seconds: float) -> tuple[int, float]:
        start = time.perf_counter()
        asked = 0
        while (spent := time.perf_counter() - start) < seconds:
            work(asked % length)
            asked += 1
        return asked, spent

    return ask
