"""How long routing itself takes: observation, decision and tracker on one core."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from feature_transformer.image import Frame
from feature_transformer.observation import (
    CANNY_HIGH,
    CANNY_LOW,
    THUMBNAIL,
    Look,
    context_features,
    frame_features,
    observation,
)
from foundation.configuration import configuration
from inference_graph.contract import LADDER, Detections
from inference_graph.router import FrameRouter, Policy
from inference_graph.tracking import StreamTracks


@configuration
class BenchObserveConfig:
    """What is measured.

    Attributes:
        width: frame width in pixels.
        height: frame height in pixels.
        repeats: frames measured, after a tenth as many that are not counted.
        detections: boxes of the previous look, which the context is computed from.
        seed: of the frames' contents.
    """

    width: Annotated[int, Field(ge=1)] = 640
    height: Annotated[int, Field(ge=1)] = 480
    repeats: Annotated[int, Field(ge=1)] = 300
    detections: Annotated[int, Field(ge=0)] = 30
    seed: int = 0


@dataclass(frozen=True)
class Spread:
    """Milliseconds over the repeats.

    Attributes:
        median: 50th percentile.
        p95: 95th percentile.
    """

    median: float
    p95: float


@dataclass(frozen=True)
class BenchObserve:
    """What was measured, in milliseconds on one core.

    Attributes:
        width: frame width in pixels.
        height: frame height in pixels.
        repeats: frames measured.
        observe: what the policy reads: the context, and the frame's features where it asks for
            them. Without a policy both.
        decide: the policy's network; None without a policy.
        total: both; equal to ``observe`` without a policy.
        track: fusing the detections with the stream's tracks.
        plain: the same kind of features with Canny on the whole frame.
        plain_ratio: median of ``plain`` over median of the frame features alone.
    """

    width: int
    height: int
    repeats: int
    observe: Spread
    decide: Spread | None
    total: Spread
    track: Spread
    plain: Spread
    plain_ratio: float


def bench_observe(
    policy: Path | None = None, config: BenchObserveConfig | None = None
) -> BenchObserve:
    """Time observation and decision as a stream meets them: a new frame each time, a full look.

    Args:
        policy: the policy's ONNX file; only the observation is timed without it.
        config: what to measure.

    Raises:
        ModelError: the policy cannot be used.
    """
    config = config or BenchObserveConfig()
    generator = np.random.default_rng(config.seed)
    frames = [_street(generator, config.height, config.width) for _ in range(8)]
    look = _look(generator, config)
    router = None if policy is None else FrameRouter(Policy(policy, threads=1))
    tracks = StreamTracks()
    rows = []
    with one_thread():
        for index in range(-(config.repeats // 10) - 1, config.repeats):
            frame = frames[index % len(frames)]
            row = (*_measure(frame, look, router), _track(tracks, look, index))
            if index >= 0:
                rows.append(row)
    features, plain, observe, decide, track = np.array(rows).T * 1e3
    return BenchObserve(
        width=config.width,
        height=config.height,
        repeats=config.repeats,
        observe=_spread(observe),
        decide=None if router is None else _spread(decide),
        total=_spread(observe + decide),
        track=_spread(track),
        plain=_spread(plain),
        plain_ratio=float(np.median(plain) / np.median(features)),
    )


def plain_features(frame: Frame) -> npt.NDArray[np.float32]:
    """The obvious way, for comparison: edges sought on the frame at its full size."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    thumbnail = cv2.resize(grey, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    edges = cv2.Canny(grey, CANNY_LOW, CANNY_HIGH) > 0
    row, column = edges.shape[0] // 2, edges.shape[1] // 2
    halves = (edges[:row], edges[row:])
    quadrants = [part for half in halves for part in (half[:, :column], half[:, column:])]
    densities = np.array([part.mean() for part in quadrants], np.float32)
    return np.concatenate((thumbnail.ravel().astype(np.float32) / 255, densities))


@contextmanager
def one_thread() -> Iterator[None]:
    """OpenCV on one thread within the block, as before after it."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _measure(
    frame: Frame, look: Look, router: FrameRouter | None
) -> tuple[float, float, float, float]:
    """Seconds of frame features, their plain alternative, observation and decision."""
    marks = [time.perf_counter()]
    frame_features(frame)
    marks.append(time.perf_counter())
    plain_features(frame)
    marks.append(time.perf_counter())
    features, plain = marks[1] - marks[0], marks[2] - marks[1]
    if router is None:
        observation(frame, context_features(look))
        return features, plain, time.perf_counter() - marks[2], 0.0
    found = Detections(look.boxes, look.scores, look.labels)
    router.remember(LADDER[look.rung], found, frame.shape)
    router.route(frame)
    observe, decide = (router.milliseconds[stage] / 1e3 for stage in ("observe", "decide"))
    return features, plain, observe, decide


def _track(tracks: StreamTracks, look: Look, number: int) -> float:
    """Seconds to fuse a look whose objects move a pixel to and fro."""
    shift = np.float32(number % 2)
    found = Detections(look.boxes + shift, look.scores, look.labels)
    start = time.perf_counter()
    tracks.fuse(number, LADDER[look.rung], found, (look.height, look.width), ())
    return time.perf_counter() - start


def _street(generator: np.random.Generator, height: int, width: int) -> Frame:
    """A drawn frame with shapes, texture and sensor noise: edges cost Canny its time."""
    frame = np.full((height, width, 3), 120, np.uint8)
    for _ in range(60):
        colour = tuple(int(part) for part in generator.integers(0, 256, 3))
        corner = (int(generator.integers(0, width)), int(generator.integers(0, height)))
        side = int(generator.integers(4, max(min(height, width) // 4, 5)))
        cv2.rectangle(frame, corner, (corner[0] + side, corner[1] + side), colour, cv2.FILLED)
        cv2.circle(frame, corner, side // 2, colour[::-1], 2)
    noise = generator.normal(0, 6, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def _look(generator: np.random.Generator, config: BenchObserveConfig) -> Look:
    """A previous look with that many boxes, scores over the whole range."""
    count = config.detections
    corners = generator.uniform(0, 0.8, (count, 2))
    ends = corners + generator.uniform(0.02, 0.2, (count, 2))
    scale = np.array([config.width, config.height] * 2)
    return Look(
        rung=1,
        boxes=(np.concatenate((corners, ends), axis=1) * scale).astype(np.float32),
        scores=np.sort(generator.uniform(0.01, 0.95, count))[::-1].astype(np.float32),
        labels=generator.integers(0, 9, count),
        width=config.width,
        height=config.height,
    )


def _spread(milliseconds: npt.NDArray[np.float64]) -> Spread:
    return Spread(float(np.median(milliseconds)), float(np.percentile(milliseconds, 95)))
