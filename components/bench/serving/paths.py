"""The ways a frame can take, in turn: the stream, its parts in one process, large alone, the graph.

Every frame goes through all of them before the next one comes, so that a change of the machine's
speed meets all alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson
import pybase64

from components.bench.serving.clips import EncodedClip, answered_detections, map_of_answers
from components.bench.serving.turns import turns
from components.data.classes import Classes
from components.data.dataset import Dataset
from components.parallel import Progress
from feature_transformer.image import decode
from foundation.errors import ModelError
from foundation.http_client import HttpClient
from inference_graph.clients.gateway import StreamOptions
from inference_graph.contract import LADDER, Detections
from inference_graph.router import FrameRouter, Policy
from inference_graph.tasks.rung import Rung

_TIMEOUT = 30.0
_IDLE_SECONDS = 30.0
_PATIENT = StreamOptions(deadline_ms=10_000, confidence=0, track="off")
"""No rung is late enough to be replaced: here ways are compared, and not their deadlines."""
_JSON = {"content-type": "application/json"}


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
class PathTimes:
    """What every frame took, each way; lists in the order of the frames, milliseconds.

    Attributes:
        stream: from sending to answer, by the client's clock.
        stages: of the same, by the gateway's clock, with their ``total``.
        parts: stages of the same work in this process.
        fixed: as ``stream``, every frame on large.
        graph: a request to the InferenceGraph.
        rungs: who answered the stream.
        graph_rungs: who answered the graph.
    """

    stream: list[float] = field(default_factory=list)
    stages: list[Mapping[str, float]] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)
    fixed: list[float] = field(default_factory=list)
    graph: list[float] = field(default_factory=list)
    rungs: list[str] = field(default_factory=list)
    graph_rungs: list[str] = field(default_factory=list)

    def figures(self, routed_map: float, large_map: float) -> dict[str, Any]:
        """The figures of `BenchServing` that come from these times, and their ``detail``.

        Args:
            routed_map: mAP50-95 of the stream's answers.
            large_map: mAP50-95 of large's.
        """
        stream, fixed = float(np.mean(self.stream)), float(np.mean(self.fixed))
        parts = float(np.mean([sum(row.values()) for row in self.parts]))
        agrees = np.array(self.rungs) == np.array(self.graph_rungs)
        # Medians of nothing are NaN: then no frame went to the same rung both ways.
        graph, beside = (
            float(np.median(np.array(way)[agrees])) if agrees.any() else float("nan")
            for way in (self.graph, self.stream)
        )
        return {
            "stream_over_parts": stream / parts,
            "gateway_over_parts": float(np.mean([row["total"] for row in self.stages])) / parts,
            "graph_minus_stream_ms": graph - beside,
            "stream_over_large": stream / fixed,
            "retained": routed_map / large_map,
            "detail": {
                "frames": len(self.stream),
                "stream_ms": stream,
                "parts_ms": parts,
                "large_ms": fixed,
                "graph_median_ms": graph,
                "stream_median_ms": beside,
                "same_rung_in_graph": float(agrees.mean()),
                "map": routed_map,
                "large_map": large_map,
                "shares": {rung: self.rungs.count(rung) / len(self.rungs) for rung in LADDER},
                "stream_stages_ms": _means(self.stages),
                "parts_stages_ms": _means(self.parts),
            },
        }


async def time_paths(
    dataset: Dataset,
    clips: Sequence[EncodedClip],
    addresses: Addresses,
    policy: Policy,
    detectors: Mapping[str, Rung],
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
    times = PathTimes()
    routed: dict[int, Detections] = {}
    by_large: dict[int, Detections] = {}
    total = sum(len(clip.frames) for clip in clips)
    done = 0
    async with HttpClient(_IDLE_SECONDS) as http:
        await _warm(clips[0], addresses, http, detectors)
        for clip in clips:
            router = FrameRouter(policy)
            look: Mapping[str, Any] | None = None
            async with (
                turns(addresses.gateway, _PATIENT) as stream,
                turns(addresses.fixed, _PATIENT) as fixed,
            ):
                for index, data in zip(clip.indexes, clip.frames, strict=True):
                    answered = await stream.answer(data)
                    rung = str(answered.message["answered_by"])
                    times.stream.append(answered.milliseconds)
                    times.stages.append(answered.message["milliseconds"])
                    times.rungs.append(rung)
                    times.parts.append(_in_process(data, router, detectors[rung]))
                    large = await fixed.answer(data)
                    times.fixed.append(large.milliseconds)
                    graph_ms, graph_rung = await _through_graph(http, addresses.graph, data, look)
                    times.graph.append(graph_ms)
                    times.graph_rungs.append(graph_rung)
                    look = _look(answered.message)
                    routed[index] = answered_detections(answered.message["detections"])
                    by_large[index] = answered_detections(large.message["detections"])
                    done += 1
                    progress(done, total)
    classes = Classes.of(detectors[LADDER[0]])
    return times.figures(
        map_of_answers(dataset, routed, classes), map_of_answers(dataset, by_large, classes)
    )


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row.get(name, 0.0) for row in rows])) for name in rows[0]}


def _in_process(data: bytes, router: FrameRouter, detector: Rung) -> dict[str, float]:
    """Milliseconds of the same work done here, one part after the other, by the same rung."""
    marks = [time.perf_counter()]
    frame = decode(data)
    marks.append(time.perf_counter())
    router.route(frame)
    marks.append(time.perf_counter())
    answer = detector.detect(frame)
    marks.append(time.perf_counter())
    router.remember(answer.rung, answer.detections, frame.shape)
    decoded, routed, detected = (np.diff(marks) * 1e3).tolist()
    return {"decode": decoded, "route": routed, "detect": detected}


async def _through_graph(
    http: HttpClient, url: str, data: bytes, look: Mapping[str, Any] | None
) -> tuple[float, str]:
    """Milliseconds of a request to the graph, and the rung that answered it.

    The context it sends is what the stream remembers by itself, so both decide alike.
    """
    start = time.perf_counter()
    body: dict[str, Any] = {"instances": [{"image": {"b64": pybase64.b64encode_as_string(data)}}]}
    if look is not None:
        body["context"] = {"look": look}
    async with asyncio.timeout(_TIMEOUT):
        answer = await http.call("POST", url, orjson.dumps(body), _JSON)
    spent = (time.perf_counter() - start) * 1e3
    try:
        return spent, str(orjson.loads(answer.body)["primary"]["predictions"][0]["variant"])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise ModelError(
            f"the graph at {url} answers {answer.status} without a prediction: "
            f"{answer.body[:200].decode(errors='replace')}"
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
    http: HttpClient,
    detectors: Mapping[str, Rung],
) -> None:
    """Warm every path up with a few frames that are not counted."""
    frames = clip.frames[:10]
    for url in (addresses.gateway, addresses.fixed):
        async with turns(url, _PATIENT) as stream:
            for data in frames:
                await stream.answer(data)
    for data in frames:
        await _through_graph(http, addresses.graph, data, None)
        for detector in detectors.values():
            detector.detect(decode(data))
