"""The ways a frame can take, in turn: the stream, its parts in one process, large alone, the graph.

Every frame goes through all of them before the next one comes, so that a change of the machine's
speed meets all alike.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from components.dataset import Dataset
from components.parallel import Progress
from components.serving_bench.clips import EncodedClip, map_of_answers, told_detections
from components.serving_bench.turns import Turn, turns
from feature_transformer.errors import ModelError
from feature_transformer.image import decode
from inference_graph.contract import LADDER, Detections
from inference_graph.detector import Detector
from inference_graph.router import FrameRouter, Policy


@dataclass(frozen=True)
class Addresses:
    """Where the ways begin.

    Attributes:
        gateway: routes by the policy.
        fixed: a gateway over the same rungs that sends every frame to large.
        graph: the InferenceGraph.
    """

    gateway: str
    fixed: str
    graph: str


@dataclass
class _Times:
    """Milliseconds of every frame, by way."""

    stream: list[float] = field(default_factory=list)
    gateway: list[float] = field(default_factory=list)
    parts: list[float] = field(default_factory=list)
    fixed: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    agrees: list[bool] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)
    part_stages: list[Mapping[str, float]] = field(default_factory=list)
    rungs: list[str] = field(default_factory=list)


async def time_paths(
    dataset: Dataset,
    clips: Sequence[EncodedClip],
    addresses: Addresses,
    policy: Policy,
    detectors: Mapping[str, Detector],
    progress: Progress,
) -> dict[str, Any]:
    """Send every frame of the clips all ways.

    Args:
        dataset: objects of the frames.
        clips: what is sent.
        addresses: where the ways begin.
        policy: the one the gateway routes by.
        detectors: the rungs, opened as they serve.
        progress: called with frames done and in all.

    Returns:
        The figures of `BenchServing` that come from it, and ``detail``.

    Raises:
        Unavailable: a service does not answer.
        ModelError: the graph's answer is none.
    """
    times = _Times()
    routed: dict[int, Detections] = {}
    by_large: dict[int, Detections] = {}
    total = sum(len(clip.frames) for clip in clips)
    done = 0
    async with httpx.AsyncClient(timeout=30.0) as http:
        await _warm(clips[0], addresses, http, detectors)
        for clip in clips:
            router = FrameRouter(policy)
            look: Mapping[str, Any] | None = None
            async with turns(addresses.gateway) as stream, turns(addresses.fixed) as fixed:
                for index, data in zip(clip.indexes, clip.frames, strict=True):
                    answered = await stream.ask(data)
                    _note(times, answered)
                    spent = _in_process(data, router, detectors, answered.message)
                    times.parts.append(sum(spent.values()))
                    times.part_stages.append(spent)
                    large = await fixed.ask(data)
                    times.fixed.append(large.milliseconds)
                    graph_ms, rung = await _through_graph(http, addresses.graph, data, look)
                    times.graph.append(graph_ms)
                    times.agrees.append(rung == answered.message["answered_by"])
                    look = _look(answered.message)
                    routed[index] = told_detections(answered.message["detections"])
                    by_large[index] = told_detections(large.message["detections"])
                    done += 1
                    progress(done, total)
    ids = detectors[LADDER[0]].category_ids
    routed_map = map_of_answers(dataset, routed, ids)
    large_map = map_of_answers(dataset, by_large, ids)
    return _figures(times, routed_map, large_map)


def _figures(times: _Times, routed_map: float, large_map: float) -> dict[str, Any]:
    stream, parts = np.mean(times.stream), np.mean(times.parts)
    agrees = np.array(times.agrees)
    graph = np.median(np.array(times.graph)[agrees]) if agrees.any() else np.nan
    beside = np.median(np.array(times.stream)[agrees]) if agrees.any() else np.nan
    return {
        "stream_over_parts": float(stream / parts),
        "gateway_over_parts": float(np.mean(times.gateway) / parts),
        "graph_minus_stream_ms": float(graph - beside),
        "stream_over_large": float(stream / np.mean(times.fixed)),
        "retained": routed_map / large_map,
        "detail": {
            "frames": len(times.stream),
            "stream_ms": float(stream),
            "parts_ms": float(parts),
            "large_ms": float(np.mean(times.fixed)),
            "graph_median_ms": float(graph),
            "stream_median_ms": float(beside),
            "same_rung_in_graph": float(agrees.mean()),
            "map": routed_map,
            "large_map": large_map,
            "shares": {rung: times.rungs.count(rung) / len(times.rungs) for rung in LADDER},
            "stream_stages_ms": _mean_stages(times.stages),
            "parts_stages_ms": _mean_stages(times.part_stages),
        },
    }


def _mean_stages(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row.get(name, 0.0) for row in rows])) for name in rows[0]}


def _note(times: _Times, turn: Turn) -> None:
    stages = turn.message["milliseconds"]
    times.stream.append(turn.milliseconds)
    times.gateway.append(stages["total"])
    times.stages.append(stages)
    times.rungs.append(turn.message["answered_by"])


def _in_process(
    data: bytes, router: FrameRouter, detectors: Mapping[str, Detector], message: Mapping[str, Any]
) -> dict[str, float]:
    """Milliseconds of the same work done here, one part after the other, by the same rung."""
    marks = [time.perf_counter()]
    frame = decode(data)
    marks.append(time.perf_counter())
    router.route(frame)
    marks.append(time.perf_counter())
    answer = detectors[message["answered_by"]].detect(frame)
    marks.append(time.perf_counter())
    router.remember(answer.rung, answer.detections, frame.shape)
    decoded, routed, detected = np.diff(marks) * 1e3
    return {"decode": float(decoded), "route": float(routed), "detect": float(detected)}


async def _through_graph(
    http: httpx.AsyncClient, url: str, data: bytes, look: Mapping[str, Any] | None
) -> tuple[float, str]:
    """Milliseconds of a request to the graph, and the rung that answered it.

    The context it sends is what the stream remembers by itself, so both decide alike.
    """
    start = time.perf_counter()
    body: dict[str, Any] = {"instances": [{"image": {"b64": base64.b64encode(data).decode()}}]}
    if look is not None:
        body["context"] = {"look": look}
    answer = await http.post(url, json=body)
    spent = (time.perf_counter() - start) * 1e3
    try:
        return spent, str(answer.json()["primary"]["predictions"][0]["variant"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"the graph at {url} answers {answer.status_code} without a prediction: "
            f"{answer.text[:200]}"
        ) from error


def _look(message: Mapping[str, Any]) -> dict[str, Any]:
    rows = message["detections"]
    return {
        "rung": message["answered_by"],
        "boxes": [row["box"] for row in rows],
        "scores": [row["score"] for row in rows],
        "labels": [row["label"] for row in rows],
    }


async def _warm(
    clip: EncodedClip,
    addresses: Addresses,
    http: httpx.AsyncClient,
    detectors: Mapping[str, Detector],
) -> None:
    """Let everybody meet a few frames that nobody counts."""
    frames = clip.frames[:10]
    for url in (addresses.gateway, addresses.fixed):
        async with turns(url) as stream:
            for data in frames:
                await stream.ask(data)
    for data in frames:
        await _through_graph(http, addresses.graph, data, None)
        for detector in detectors.values():
            detector.detect(decode(data))
