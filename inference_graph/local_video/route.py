"""Routing a video, frame by frame, in this process."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TextIO

import numpy as np
from pydantic import Field

from feature_transformer.image import Frame
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import RESULT_FILE
from foundation.storage import atomic_path
from inference_graph.contract import LADDER, REFERENCE, Route
from inference_graph.detections import CONFIDENCE, DetectionFilter, detections_json, read_classes
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.local_video.annotate import Caption, annotate, canvas_size
from inference_graph.local_video.files import opened
from inference_graph.local_video.writer import mp4_writer
from inference_graph.router import FrameRouter, Policy

Progress = Callable[[int, int | None], None]
"""Called with the number of frames done and of those expected; None when it is unknown."""
Record = Mapping[str, Any]
"""One frame as JSON: frame, seconds, rung, probabilities, milliseconds, saving, detections.

``seconds`` is the frame's time stamp in the video, which its number does not give where
the rate varies or frames are lost."""


@configuration
class RouteVideoConfig:
    """How a video is routed.

    Attributes:
        latency_weight: the operating point; the policy's own without it.
        always: use this rung for every frame and ask no policy.
        confidence: detections below this score are neither recorded nor drawn, 0..1; the policy
            sees all of them.
        classes: names of the classes that are recorded and drawn, separated by commas; all
            without it.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0..1.
        max_detections: at most so many per frame.
        threads: threads of one inference.
        providers: ONNX Runtime execution providers, the preferred one first.
        draw_score: detections below it are not drawn; the same as ``confidence`` without it.
        reference_repeats: inferences of the reference on the first frame; their median is the
            latency that savings are measured against.
        max_frames: stop after so many frames; all without it.
        records: file for one JSON line per frame; none without it.
    """

    latency_weight: float | None = None
    always: str | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] = CONFIDENCE
    classes: str = ""
    iou: float = 0.7
    max_detections: int = 100
    threads: int = 2
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    draw_score: Annotated[float, Field(ge=0, le=1)] | None = None
    reference_repeats: Annotated[int, Field(ge=1)] = 10
    max_frames: Annotated[int, Field(ge=1)] | None = None
    records: Annotated[Path | None, RESULT_FILE] = None

    def __post_init__(self) -> None:
        """Refuse an unknown rung.

        Raises:
            ConfigurationError: names it.
        """
        if self.always is not None and self.always not in LADDER:
            raise ConfigurationError(f"always {self.always!r} is none of {', '.join(LADDER)}")


@dataclass(frozen=True)
class VideoSummary:
    """Totals of a routed video.

    Attributes:
        frames: frames routed.
        lost: frames that could not be read: damaged ones, and those the file lists and has not.
        width: frame width in pixels.
        height: frame height in pixels.
        fps: frames per second of the video; the mean where the rate varies, at which the annotated
            video plays.
        seconds: time stamp of the last frame, from the first one on.
        shares: share of the frames each rung looked at, 0..1.
        mean_ms: mean time of a frame, routing included, drawing excluded.
        p50_ms: median of the same.
        p95_ms: 95th percentile of the same.
        router_ms: mean time of observation and decision.
        reference_ms: median time of the reference on the first frame.
        saving: 1 - mean_ms / reference_ms; negative when routing cost more than it saved.
        out: the annotated video, if one was written.
        records: the JSON lines, if they were written.
    """

    frames: int
    lost: int
    width: int
    height: int
    fps: float
    seconds: float
    shares: Mapping[str, float]
    mean_ms: float
    p50_ms: float
    p95_ms: float
    router_ms: float
    reference_ms: float
    saving: float
    out: Path | None
    records: Path | None


def route_video(
    source: str,
    policy: Path | None,
    ladder: Mapping[str, Path],
    out: Path | None,
    config: RouteVideoConfig | None = None,
    on_frame: Progress | None = None,
    on_record: Callable[[Record], None] | None = None,
    stop: threading.Event | None = None,
) -> VideoSummary:
    """Route each frame of a video, and write what came of it.

    The context of a frame is what the rung chosen for the one before saw. Files appear under
    their final names only at the end.

    Args:
        source: anything OpenCV opens: a file or an URL.
        policy: the policy's ONNX file; may be None when ``config.always`` fixes the rung.
        ladder: ONNX file of every rung.
        out: the annotated video, an mp4; none is drawn without it.
        config: how to route.
        on_frame: progress, called after each frame.
        on_record: called with each frame's record as it is made.
        stop: when it is set, the frame at hand is the last.

    Raises:
        VideoError: the video cannot be opened, holds no frame or changes its size.
        ConfigurationError: a rung is missing, or no policy where one is needed.
        ModelError: weights or policy cannot be used.
        StorageError: the results cannot be written.
    """
    config = config or RouteVideoConfig()
    if out is not None and Path(out).suffix.lower() != ".mp4":
        raise ConfigurationError(f"the annotated video is an mp4; {out} has another ending")
    with ExitStack() as stack:
        film = stack.enter_context(opened(source))
        first = film.first.frame
        height, width = first.shape[:2]
        router = _router(policy, config)
        detectors = _detectors(ladder, config)
        known = detectors[REFERENCE].class_names
        wanted = DetectionFilter(config.confidence, read_classes(config.classes, known))
        reference_ms = _reference_ms(detectors[REFERENCE], first, config.reference_repeats)
        total = film.expects(config.max_frames)
        records = video = None
        if config.records is not None:
            lines = stack.enter_context(atomic_path(Path(config.records)))
            records = stack.enter_context(lines.open("w", encoding="utf-8"))
        if out is not None:
            drawing = stack.enter_context(atomic_path(Path(out)))
            video = stack.enter_context(mp4_writer(drawing, film.fps, canvas_size(height, width)))
        times: list[float] = []
        router_times: list[float] = []
        rungs: list[str] = []
        spent = saving = 0.0
        for index, shown in enumerate(film.frames(config.max_frames)):
            frame = shown.frame
            route, stages = _route(router, frame, config.always)
            router_times.append(sum(stages.values()))
            detector = detectors[route.model]
            answer = detector.detect(frame)
            if router is not None:
                router.remember(route.model, answer.detections, frame.shape)
            stages.update(answer.milliseconds)
            times.append(sum(stages.values()))
            spent += times[-1]
            rungs.append(route.model)
            saving = 1 - spent / (len(times) * reference_ms)
            found = wanted.keep(answer.detections, detector.class_names)
            if records is not None or on_record is not None:
                record = {
                    **_record(index, shown.seconds, route, stages, saving),
                    "detections": detections_json(
                        found, detector.class_names, detector.category_ids
                    ),
                }
                _publish(record, records, on_record)
            if video is not None:
                caption = Caption(route.model, times[-1], saving, index, route.probabilities)
                video.write(
                    annotate(frame, found, detector.class_names, caption, config.draw_score or 0.0)
                )
            if on_frame is not None:
                on_frame(index + 1, total)
            if stop is not None and stop.is_set():
                break
    return VideoSummary(
        frames=len(times),
        lost=film.lost,
        width=width,
        height=height,
        fps=film.fps,
        seconds=shown.seconds,
        shares={rung: rungs.count(rung) / len(rungs) for rung in LADDER},
        mean_ms=float(np.mean(times)),
        p50_ms=float(np.percentile(times, 50)),
        p95_ms=float(np.percentile(times, 95)),
        router_ms=float(np.mean(router_times)),
        reference_ms=reference_ms,
        saving=saving,
        out=None if out is None else Path(out),
        records=config.records,
    )


def _router(policy: Path | None, config: RouteVideoConfig) -> FrameRouter | None:
    if config.always is not None:
        return None
    if policy is None:
        raise ConfigurationError(
            f"no policy given; name one, or fix the rung: always one of {', '.join(LADDER)}"
        )
    return FrameRouter(Policy(Path(policy)), config.latency_weight)


def _detectors(ladder: Mapping[str, Path], config: RouteVideoConfig) -> dict[str, Detector]:
    needed = LADDER if config.always is None else tuple({config.always, REFERENCE})
    missing = [rung for rung in needed if rung not in ladder]
    if missing:
        raise ConfigurationError(f"the ladder lacks {', '.join(missing)}; name weights for each")
    return {
        rung: Detector(
            DetectorConfig(
                weights=Path(ladder[rung]),
                rung=rung,
                iou=config.iou,
                max_detections=config.max_detections,
                threads=config.threads,
                providers=config.providers,
            )
        )
        for rung in needed
    }


def _reference_ms(detector: Detector, frame: Frame, repeats: int) -> float:
    """Median over the repeats, after two warm-up runs."""
    times = [sum(detector.detect(frame).milliseconds.values()) for _ in range(repeats + 2)]
    return float(np.median(times[2:]))


def _route(
    router: FrameRouter | None, frame: Frame, always: str | None
) -> tuple[Route, dict[str, float]]:
    """The decision and the milliseconds of its stages; a fixed rung costs none."""
    if router is None:
        fixed = always or REFERENCE
        route = Route(fixed, tuple(float(rung == fixed) for rung in LADDER))
        return route, {"observe": 0.0, "decide": 0.0}
    route = router.route(frame)
    return route, dict(router.milliseconds)


def _publish(
    record: Record, records: TextIO | None, on_record: Callable[[Record], None] | None
) -> None:
    if records is not None:
        records.write(json.dumps(record, separators=(",", ":")) + "\n")
    if on_record is not None:
        on_record(record)


def _record(
    index: int,
    seconds: float,
    route: Route,
    stages: Mapping[str, float],
    saving: float,
) -> Record:
    return {
        "frame": index,
        "seconds": round(seconds, 6),
        "rung": route.model,
        "probabilities": {
            rung: round(share, 4) for rung, share in zip(LADDER, route.probabilities, strict=True)
        },
        "milliseconds": {
            **{stage: round(spent, 3) for stage, spent in stages.items()},
            "total": round(sum(stages.values()), 3),
        },
        "saving": round(saving, 4),
    }
