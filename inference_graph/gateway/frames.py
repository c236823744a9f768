"""One frame from its bytes to its answer, the same for a stream and for a single image."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from feature_transformer.decoding.places import DecodedFrame, DecodingPlaces
from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.image import DecodeLimits, ExaminedImage, Frame, examined
from foundation.errors import GearshiftError
from inference_graph.contract import REUSE, Answer, Route
from inference_graph.detections import Detection, DetectionFilter, detections_json, tracked_json
from inference_graph.gateway.answers import frame_answer
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.gateway.dispatch import Dispatcher, DispatchResult
from inference_graph.gateway.event_ids import EventIds
from inference_graph.gateway.held_frames import HeldFrames
from inference_graph.gateway.kept_image import image_is_sampled, kept_image
from inference_graph.gateway.limits import check_image
from inference_graph.gateway.metrics import GatewayMetrics
from inference_graph.gateway.routing import StreamRouter
from inference_graph.gateway.shadow import Shadow, sampled
from inference_graph.prediction_log.row import PredictionRow, answer_columns, shadow_columns

_log = logging.getLogger(__name__)

Extra = Callable[[Frame], Mapping[str, Any]]
"""What a sampled share of the rows has besides: makes fields of the row from the frame."""


class RowSink(Protocol):
    """Where answers are logged."""

    def append(self, row: PredictionRow, amendments: int = 0) -> None:
        """Take a row to which so much will be added; it must not block, on any thread."""
        ...

    def amend(self, event_id: str, fields: Mapping[str, Any]) -> None:
        """Add to a row, or signal with no fields that there is nothing to add; likewise."""
        ...


@dataclass(frozen=True)
class FrameRequest:
    """What is known of a frame besides its bytes.

    Attributes:
        source: "stream", "detect" or "kafka".
        client: name of the token.
        arrived: when it came, seconds of ``time.monotonic``.
        deadline_ms: time from then to its answer.
        session: the stream's name.
        frame_id: its number there; None for a single image.
        dropped_before: frames dropped since the answer before.
        tags: names and texts that the client gave the session.
        wanted: which detections the answer holds.
        event_id: of a message that is delivered again until it is answered; its failures are not
            logged. Empty for a new id.
    """

    source: str
    client: str
    arrived: float
    deadline_ms: float
    session: str = ""
    frame_id: int | None = None
    dropped_before: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    wanted: DetectionFilter = DetectionFilter()
    event_id: str = ""


@dataclass(frozen=True)
class AnsweredFrame:
    """An answer, with what will be added to its row of the log.

    Attributes:
        body: the JSON for the client.
        event_id: its key.
        answered_by: the rung, or "reuse".
        fallback: why not the rung chosen; empty if it was.
        total_ms: from arrival to answer.
        stages: milliseconds of every stage, ``total`` among them.
        shadow: whether the reference is run too.
        answer: what was seen.
        frame: uint8 [height, width, 3], BGR.
        columns: fields of the row, which the log has.
        extras: what is made of the frame and added to the row.
    """

    body: bytes
    event_id: str
    answered_by: str
    fallback: str
    total_ms: float
    stages: Mapping[str, float]
    shadow: bool
    answer: Answer
    frame: Frame
    columns: dict[str, Any]
    extras: Sequence[Extra]

    @property
    def work_ms(self) -> float:
        """Milliseconds that were work on this frame, and no waiting."""
        work = ("decode", "observe", "decide", "detect", "track")
        return sum(self.stages.get(stage, 0.0) for stage in work)


@dataclass(frozen=True)
class _Answered:
    """What answers a frame.

    Attributes:
        answer: what the rung saw, or the tracks where none looked.
        fallback: why not the rung chosen; empty if it was, or none looked.
        shown: the detections that the client gets.
        milliseconds: of the stages from the rung's queue on.
    """

    answer: Answer
    fallback: str
    shown: Sequence[Detection]
    milliseconds: Mapping[str, float]


@dataclass(frozen=True)
class _Prepared:
    frame: Frame
    route: Route
    wait_ms: float
    decode_ms: float
    router_ms: Mapping[str, float]


class FramePipeline:
    """Decodes, routes, has a rung detect, and makes the answer and the row of the log."""

    def __init__(
        self,
        *,
        dispatcher: Dispatcher,
        shadow: Shadow,
        sink: RowSink | None,
        metrics: GatewayMetrics,
        places: DecodingPlaces,
        limits: DecodeLimits,
        event_ids: EventIds,
        statistics_share: float,
        image_share: float,
        held: HeldFrames,
        looks: Callable[[str, DetectorBackend | None], float | None] = lambda rung, backend: None,
    ) -> None:
        """Build the pipeline from its parts.

        Args:
            dispatcher: who asks the rungs.
            shadow: who asks the reference.
            sink: the log; without one nothing is logged.
            metrics: what is counted.
            places: where frames are decoded, observed and decided on.
            limits: of an image.
            event_ids: maker of keys.
            statistics_share: share of the rows with blur and noise.
            image_share: share of the rows with the frame itself.
            held: where feedback finds the frame of a late answer.
            looks: from the rung chosen and who is asked first to the share of such answers that
                the reference looks at; None where it is the usual one.
        """
        self._dispatcher = dispatcher
        self._shadow = shadow
        self._sink = sink
        self._metrics = metrics
        self._places = places
        self._limits = limits
        self._event_ids = event_ids
        self._statistics_share = statistics_share
        self._image_share = image_share
        self._held = held
        self._looks = looks

    async def answer(
        self, data: bytes, request: FrameRequest, routing: StreamRouter
    ) -> AnsweredFrame:
        """Answer one frame and log it; call :meth:`finish` when the client has the answer.

        Args:
            data: the encoded image.
            request: what is known of it.
            routing: of its stream, which remembers the answer.

        Raises:
            InvalidInput: no image, or beyond the limits.
            Unavailable: no rung answered; ``DeadlineExceeded`` when not in time.
            ModelError: the policy's runtime failed.
        """
        event_id = request.event_id or self._event_ids.make()
        routing.begin(request.session, request.frame_id)
        load_ms = self._dispatcher.load_ms()
        columns: dict[str, Any] = {
            "event_id": event_id,
            "source": request.source,
            "session": request.session,
            "frame_id": request.frame_id,
            "client": request.client,
            "policy_revision": routing.policy_revision,
            "latency_weight": _or_nan(routing.latency_weight),
            "load_ms": load_ms,
            "deadline_ms": request.deadline_ms,
            "image_bytes": len(data),
            "dropped_before": request.dropped_before,
            "tags": request.tags,
        }
        try:
            deadline = request.arrived + request.deadline_ms / 1e3
            ready = await self._places.run(
                lambda: self._examined(data),
                lambda frame: self._prepared(frame, routing, load_ms),
                deadline,
            )
            height, width = ready.frame.shape[:2]
            chosen = ready.route.model
            columns |= {"width": width, "height": height, "rung": chosen}
            answered = self._reused(ready.frame, request, routing)
            looks = None
            if answered is None:
                first = self._dispatcher.first(chosen)
                if first is not None and first.facts is not None:
                    columns["asked"] = first.facts.revision
                looks = self._looks(chosen, first)
                outcome = await self._dispatcher.detect(
                    chosen, ready.frame, deadline, event_id, first
                )
                answered = self._looked(outcome, ready.frame, request, routing)
        except GearshiftError as error:
            self._metrics.failed(request.source, error.http_status)
            if error.http_status >= 500 and not request.event_id:
                self._append(columns | {"error": str(error)})
            raise
        answer, answered_by = answered.answer, answered.answer.rung
        self._held.hold(request.client, event_id, data)
        wire_ms = answer.milliseconds.get("wire", 0.0)
        times = {"decode": ready.decode_ms, **ready.router_ms, **answered.milliseconds}
        times["total"] = (time.monotonic() - request.arrived) * 1e3
        shadow = self._shadow.wanted(event_id, answered_by, answer.revision, looks)
        body = frame_answer(
            request.frame_id or 0,
            event_id,
            (chosen, answered_by, answered.fallback),
            ready.route.probabilities,
            times,
            answered.shown,
            shadow,
        )
        columns |= {
            "answered_by": answered_by,
            "revision": answer.revision,
            "fallback": answered.fallback,
            "probabilities": ready.route.probabilities,
            "observation": routing.seen,
            **{f"{stage}_ms": spent for stage, spent in times.items() if stage != "track"},
            **answer_columns(answer.detections),
        }
        extras = self._extras(event_id)
        # Before the answer leaves: what a client has is in the log, whatever happens next.
        self._append(columns, len(extras) + shadow)
        return AnsweredFrame(
            body,
            event_id,
            answered_by,
            answered.fallback,
            times["total"],
            {"wait": ready.wait_ms, "wire": wire_ms, **times},
            shadow,
            answer,
            ready.frame,
            columns,
            extras,
        )

    def finish(
        self, answered: AnsweredFrame, on_agreement: Callable[[float], None] | None = None
    ) -> None:
        """Count an answer, and add to its row what takes time; returns at once.

        Args:
            answered: the answer, as the client got it.
            on_agreement: called with the agreement when the shadow has looked.
        """
        columns, event_id = answered.columns, answered.event_id
        self._metrics.frame(
            columns["source"],
            columns["rung"],
            answered.answered_by,
            answered.fallback,
            answered.stages,
        )
        if answered.extras and self._sink is not None:
            self._places.pool.submit(self._add, self._sink, answered)
        if not answered.shadow:
            return

        def done(reference: Answer | None, milliseconds: float) -> None:
            self._metrics.shadows["given up" if reference is None else "looked"].inc()
            beside: Mapping[str, Any] = {}
            if reference is not None:
                beside = shadow_columns(
                    answered.answer.detections, reference.detections, milliseconds
                )
                self._metrics.agreement.observe(beside["agreement"])
                if on_agreement is not None:
                    on_agreement(float(beside["agreement"]))
            if self._sink is not None:
                self._sink.amend(event_id, beside)

        self._shadow.start(answered.frame, event_id, done)

    @staticmethod
    def _reused(frame: Frame, request: FrameRequest, routing: StreamRouter) -> _Answered | None:
        """The answer of the stream's tracks; None where a rung has to look."""
        began = time.perf_counter()
        fused = routing.reuse(request.frame_id, frame)
        if fused is None:
            return None
        track = (time.perf_counter() - began) * 1e3
        facts = routing.facts
        return _Answered(
            Answer(fused.detections, {}, REUSE, ""),
            "",
            tracked_json(fused, request.wanted, facts.class_names, facts.category_ids),
            {"queue": 0.0, "detect": 0.0, "track": track},
        )

    @staticmethod
    def _looked(
        outcome: DispatchResult, frame: Frame, request: FrameRequest, routing: StreamRouter
    ) -> _Answered:
        """The answer of a rung that looked, which the stream remembers."""
        answer, rung, facts = outcome.answer, outcome.answered_by, outcome.facts
        routing.remember(rung, answer.detections, frame)
        work = dict(answer.milliseconds)
        work.pop("wire", None)
        times = {"queue": work.pop("queue", 0.0), "detect": sum(work.values())}
        began = time.perf_counter()
        fused = routing.fuse(request.frame_id or 0, rung, answer.detections, frame, facts)
        if fused is None:
            wanted = request.wanted.keep(answer.detections, facts.class_names)
            shown = detections_json(wanted, facts.class_names, facts.category_ids)
        else:
            times["track"] = (time.perf_counter() - began) * 1e3
            shown = tracked_json(fused, request.wanted, facts.class_names, facts.category_ids)
        return _Answered(replace(answer, rung=rung), outcome.fallback, shown, times)

    def _examined(self, data: bytes) -> ExaminedImage:
        check_image(data, self._limits)
        return examined(data, self._limits)

    @staticmethod
    def _prepared(
        frame: DecodedFrame, routing: StreamRouter, load_ms: tuple[float, ...]
    ) -> _Prepared:
        route, router_ms = routing.route(frame.pixels, load_ms)
        return _Prepared(frame.pixels, route, frame.wait_ms, frame.decode_ms, router_ms)

    def _extras(self, event_id: str) -> list[Extra]:
        """What a sampled share of the rows has besides."""
        if self._sink is None:
            return []
        return [
            make
            for make, wanted in (
                # Another text than the key: this sample must not depend on the shadow's.
                (pixel_statistics, sampled(event_id[::-1], self._statistics_share)),
                (kept_image, image_is_sampled(event_id, self._image_share)),
            )
            if wanted
        ]

    def _append(self, columns: Mapping[str, Any], amendments: int = 0) -> None:
        """Log a row; to which something will be added so often."""
        if self._sink is None:
            return
        try:
            fields: dict[str, Any] = {**columns, **seen_statistics(columns.get("observation"))}
            self._sink.append(PredictionRow(time=datetime.now(UTC), **fields), amendments)
        except Exception:
            # A row that cannot be made must not end the client's stream.
            _log.exception("an answer could not be logged")

    @staticmethod
    def _add(sink: RowSink, answered: AnsweredFrame) -> None:
        """Add to a row what is made of its frame, on a thread, for it takes time."""
        for make in answered.extras:
            fields: dict[str, Any] = {}
            try:
                fields |= make(answered.frame)
                if "image" in fields:  # a viewer shows it beside the image
                    fields["observation"] = answered.columns["observation"]
            except Exception:
                _log.exception("the row of %s lacks what is made of its frame", answered.event_id)
            sink.amend(answered.event_id, fields)


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
