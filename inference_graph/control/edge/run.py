"""Routing a device's frames in process: no network is asked, each answer is logged on the spot."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.image import Frame
from feature_transformer.makers import DETECTION
from foundation.errors import ConfigurationError, ModelError, StorageError
from inference_graph.contract import LADDER, REFERENCE, REUSE, Answer, Route
from inference_graph.control.edge.bundle import Bundle
from inference_graph.control.edge.cameras import Seen, camera_frames
from inference_graph.detections import (
    Detection,
    DetectionFilter,
    detections_json,
    read_classes,
    tracked_json,
)
from inference_graph.gateway.event_ids import EventIds
from inference_graph.gateway.kept_image import image_is_sampled, kept_image
from inference_graph.gateway.session_stats import SessionStats
from inference_graph.gateway.shadow import sampled
from inference_graph.prediction_log.row import (
    PredictionRow,
    answer_columns,
    check_session,
    shadow_columns,
)
from inference_graph.prediction_log.writer import LogConfig, LogStatus, PredictionLog
from inference_graph.router import FrameRouter
from inference_graph.tracking import TrackedDetections

Record = Mapping[str, Any]
"""One answer as JSON: frame, event_id, rung, answered_by, fallback, milliseconds, detections."""

_Later = Callable[[Frame, Answer], Mapping[str, Any]]
"""Makes fields of a row from its frame and its answer."""
_ROLL_BYTES = 4 * 1024 * 1024
"""A file of the log is closed at this length: what one upload carries."""


@dataclass(frozen=True)
class EdgeRun:
    """One run of a device.

    Attributes:
        device: its name in the log, 1 to 64 of A-Z a-z 0-9 . _ @ -.
        session: name of the session; the device's with the time without it.
        max_frames: stop after so many; all without it.
        tags: kept with every row.
        classes: names of those that answers hold, separated by commas; all without it.
    """

    device: str
    session: str | None = None
    max_frames: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    classes: str = ""


@dataclass(frozen=True)
class EdgeSummary:
    """Totals of a finished run.

    Attributes:
        session: its name in the log.
        frames: frames answered.
        dropped: frames of a camera that passed by meanwhile.
        lost: frames of the source that could not be read.
        failed: frames that no rung could answer.
        fallbacks: frames that another rung answered, for the chosen one failed.
        shares: share of the answers of each rung, and of "reuse" if any, 0..1.
        p50_ms: median time from a frame to its answer.
        p95_ms: 95th percentile of the same.
        rows_lost: rows for which the log on the device had no room.
        log_bytes: length of the log on the device that waits for a sync.
    """

    session: str
    frames: int
    dropped: int
    lost: int
    failed: int
    fallbacks: int
    shares: Mapping[str, float]
    p50_ms: float | None
    p95_ms: float | None
    rows_lost: int
    log_bytes: int


def run_edge(
    bundle: Bundle,
    camera: str,
    folder: Path,
    run: EdgeRun,
    stop: threading.Event | None = None,
    on_answer: Callable[[Record], None] | None = None,
    report: Callable[[str], None] | None = None,
) -> EdgeSummary:
    """Answer a camera's frames until it ends or is stopped.

    A frame whose rung fails is answered by its nearest neighbour that does not. A row never holds
    up an answer; what the disk has no room for is dropped, and counted.

    Args:
        bundle: what runs.
        camera: see :func:`inference_graph.control.edge.cameras.camera_frames`.
        folder: of the log on the device; nothing of it leaves before a sync.
        run: how this run is called, and how long it is.
        stop: set when it shall end.
        on_answer: called with each answer as it is made.
        report: called once when answers can no longer be logged, from another thread; without it
            that goes to the logger of the prediction log.

    Raises:
        VideoError: the camera gives no frame.
        ModelError: policy or weights cannot be used.
        ConfigurationError: an unusable operating point.
        InvalidInput: a session's name that could not name a file.
        StorageError: the log's folder cannot be made.
    """
    stop = stop or threading.Event()
    config = bundle.config
    log_config = LogConfig(
        str(folder),
        roll_seconds=config.roll_seconds,
        roll_bytes=_ROLL_BYTES,
        observation_share=config.observation_share,
        journal_limit_bytes=config.log_bytes,
        publish=False,
    )

    def failed(error: StorageError) -> None:
        if report is not None:
            report(f"warning: {error}; frames are answered all the same")

    with PredictionLog(log_config, None if report is None else failed) as log:
        device = _Device(bundle, log, run)
        sizes_differ = bundle.maker.task != DETECTION
        seen = camera_frames(camera, stop, config.reopen_seconds, device.lose, sizes_differ)
        device.answer_all(seen, on_answer)
        return device.end()


class _Device:
    """What one run works with."""

    def __init__(self, bundle: Bundle, log: PredictionLog, run: EdgeRun) -> None:
        config = bundle.config
        policy = bundle.policy()
        self._router = None if policy is None else FrameRouter(policy, config.latency_weight)
        self._config, self._log, self._run = config, log, run
        self._position = -1
        self._detectors = {rung: bundle.rung(rung) for rung in LADDER}
        self._looked = self._detectors[REFERENCE]
        # What is read is answered as it is: tracks have no text.
        self._tracks = None if self._looked.reads else config.tracks()
        known = self._looked.class_names
        self._wanted = DetectionFilter(config.answer_confidence, read_classes(run.classes, known))
        self._events = EventIds()
        self.session = run.session or f"{run.device}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        check_session(self.session)
        self._tags = {"bundle": bundle.revision, **run.tags}
        self._stats = SessionStats(self.session, run.device)
        self._stats.tags = self._tags
        self._failed = self._fallbacks = self._lost = 0
        self._reference: list[float] = []

    def answer(
        self, number: int, seen: Seen, on_answer: Callable[[Record], None] | None = None
    ) -> None:
        """Log a frame's answer, then give it; what takes longer is added to its row later."""
        start = time.perf_counter()
        event_id, frame = self._events.make(), seen.frame
        self._stats.dropped += seen.dropped
        self._position += 1 + seen.dropped
        columns: dict[str, Any] = {
            "event_id": event_id,
            "time": datetime.now(UTC),
            "source": "stream",
            "session": self.session,
            "frame_id": number,
            "client": self._run.device,
            "height": frame.shape[0],
            "width": frame.shape[1],
            "dropped_before": seen.dropped,
            "tags": self._tags,
        }
        if seen.cut:
            for memory in (self._router, self._tracks):
                if memory is not None:
                    memory.forget()
        try:
            route, times = self._route(frame)
            columns |= self._decided(route)
            began = time.perf_counter()
            fused = self._reused(frame)
            if fused is None:
                answer, answered_by, fallback = self._detect(route.model, frame)
                began = time.perf_counter()
                fused = self._remembered(answer, answered_by, frame)
            else:
                answer, answered_by, fallback = Answer(fused.detections, {}, REUSE, ""), REUSE, ""
        except ModelError as error:
            self._failed += 1
            self._log.append(PredictionRow(**columns, error=str(error)))
            return
        if fused is not None:
            times["track"] = (time.perf_counter() - began) * 1e3
        times |= {
            "detect": sum(answer.milliseconds.values()),
            "total": (time.perf_counter() - start) * 1e3,
        }
        self._fallbacks += bool(fallback)
        self._stats.answered(answered_by, fallback, times["total"])
        if answered_by == REFERENCE:
            self._reference.append(times["detect"])
        columns |= {
            "answered_by": answered_by,
            "revision": answer.revision,
            "fallback": fallback,
            **{f"{stage}_ms": spent for stage, spent in times.items() if stage != "track"},
            **answer_columns(answer.detections),
        }
        record = self._record(number, event_id, columns, times, self._shown(answer, fused))
        later = self._later(event_id, answer)
        self._log.append(PredictionRow(**columns), amendments=len(later))
        if on_answer is not None:
            on_answer(record)
        for make in later:
            self._log.amend(event_id, make(frame, answer))

    def lose(self, count: int) -> None:
        """Count frames that the source had and could not give."""
        self._lost += count

    def answer_all(
        self, frames: Iterator[Seen], on_answer: Callable[[Record], None] | None
    ) -> None:
        """Answer frames as they come, at most as many as the run shall have."""
        for number, seen in enumerate(frames):
            self.answer(number, seen, on_answer)
            if self._run.max_frames is not None and number + 1 >= self._run.max_frames:
                return

    def end(self) -> EdgeSummary:
        """Log the session's summary, close the log, and return what it came to."""
        reference = sum(self._reference) / len(self._reference) if self._reference else None
        summary = self._stats.summary(
            "" if self._router is None else self._router.policy.revision,
            None if self._router is None else self._router.latency_weight,
            reference,
        )
        if summary.frames:
            self._log.record_session(summary)
        status: LogStatus = self._log.close()
        return EdgeSummary(
            session=self.session,
            frames=summary.frames,
            dropped=summary.dropped,
            lost=self._lost,
            failed=self._failed,
            fallbacks=self._fallbacks,
            shares=summary.shares,
            p50_ms=summary.latency_p50_ms,
            p95_ms=summary.latency_p95_ms,
            rows_lost=status.dropped + status.refused,
            log_bytes=status.backlog_bytes,
        )

    def _route(self, frame: Frame) -> tuple[Route, dict[str, float]]:
        if self._router is None:
            fixed = self._config.always
            if fixed is None:
                raise ConfigurationError("no policy and no fixed rung to route by; name one")
            shares = tuple(float(rung == fixed) for rung in LADDER)
            return Route(fixed, shares), {"observe": 0.0, "decide": 0.0}
        route = self._router.route(frame)
        return route, dict(self._router.milliseconds)

    def _decided(self, route: Route) -> dict[str, Any]:
        columns: dict[str, Any] = {"rung": route.model, "probabilities": route.probabilities}
        if self._router is not None:
            columns |= {
                "policy_revision": self._router.policy.revision,
                "latency_weight": self._router.latency_weight,
                "observation": self._router.seen,
                **seen_statistics(self._router.seen),
            }
        return columns

    def _detect(self, chosen: str, frame: Frame) -> tuple[Answer, str, str]:
        """The answer, who gave it, and why not the chosen rung."""
        place = LADDER.index(chosen)
        nearest = sorted(LADDER, key=lambda rung: abs(LADDER.index(rung) - place))
        failure: ModelError | None = None
        for rung in nearest:
            try:
                answer = self._detectors[rung].detect(frame)
            except ModelError as error:
                failure = failure or error
                continue
            return answer, rung, "" if rung == chosen else "failed"
        raise failure or ModelError("the ladder has no rung; pack the bundle again")

    def _reused(self, frame: Frame) -> TrackedDetections | None:
        """The tracks moved on to a frame that no rung looks at; None where one has to look."""
        if self._router is None or self._tracks is None:
            return None
        config = self._config.reuse or self._router.policy.reuse
        return self._tracks.reuse(self._position, frame.shape, self._router.look_features, config)

    def _remembered(self, answer: Answer, rung: str, frame: Frame) -> TrackedDetections | None:
        """The state after a rung looked; None where each frame's answer stands alone."""
        self._looked = self._detectors[rung]
        if self._router is not None:
            self._router.remember(rung, answer.detections, frame.shape)
        if self._tracks is None:
            return None
        return self._tracks.fuse(
            self._position, rung, answer.detections, frame.shape, self._looked.class_names
        )

    def _shown(self, answer: Answer, fused: TrackedDetections | None) -> Sequence[Detection]:
        names, categories = self._looked.class_names, self._looked.category_ids
        if fused is not None:
            return tracked_json(fused, self._wanted, names, categories)
        return detections_json(self._wanted.keep(answer.detections, names), names, categories)

    def _later(self, event_id: str, answer: Answer) -> list[_Later]:
        """What a sampled share of the rows has besides; the answer does not wait for it."""
        config = self._config
        shadow = answer.rung != REFERENCE and sampled(event_id, config.shadow_share)
        wanted = (
            (_statistics, sampled(event_id[::-1], config.statistics_share)),
            (self._image, image_is_sampled(event_id, config.image_share)),
            (self._look, shadow),
        )
        return [make for make, is_wanted in wanted if is_wanted]

    def _image(self, frame: Frame, _: Answer) -> Mapping[str, Any]:
        kept: dict[str, Any] = dict(kept_image(frame))
        if kept and self._router is not None:
            kept["observation"] = self._router.seen
        return kept

    def _look(self, frame: Frame, answer: Answer) -> Mapping[str, Any]:
        try:
            looked = self._detectors[REFERENCE].detect(frame)
        except ModelError:
            return {}
        spent = sum(looked.milliseconds.values())
        self._reference.append(spent)
        columns = shadow_columns(answer.detections, looked.detections, spent)
        self._stats.agreed(float(columns["agreement"]))
        return columns

    def _record(
        self,
        number: int,
        event_id: str,
        columns: Mapping[str, Any],
        times: Mapping[str, float],
        shown: Sequence[Detection],
    ) -> Record:
        return {
            "frame": number,
            "event_id": event_id,
            **{name: columns[name] for name in ("rung", "answered_by", "fallback")},
            "milliseconds": {stage: round(spent, 3) for stage, spent in times.items()},
            "detections": shown,
        }


def _statistics(frame: Frame, _: Answer) -> Mapping[str, Any]:
    return pixel_statistics(frame)
