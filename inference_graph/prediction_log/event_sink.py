"""Pairs what detectors send, in the form of KServe's payload logger, and makes rows of it.

A detector's request carries the router's decision, so a request and its response are one row.
Where the reference looked at the same frame, its request has the same body, and its answer becomes
the row's shadow.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from foundation.errors import InvalidInput
from inference_graph.contract import REFERENCE
from inference_graph.prediction_log.event_bodies import (
    AnswerFacts,
    RequestFacts,
    read_answer,
    read_request,
)
from inference_graph.prediction_log.event_pairs import PairingBuffer
from inference_graph.prediction_log.recent import RecentKeys
from inference_graph.prediction_log.row import (
    PredictionRow,
    answer_columns,
    check_event_id,
    shadow_columns,
)
from inference_graph.prediction_log.writer import PredictionLog
from serving_kit.payload_log import REQUEST_TYPE, RESPONSE_TYPE

_CLOCKS = timedelta(hours=1)
"""A sender's clock further off than this is not believed."""
_NAME = re.compile(r"[A-Za-z0-9._-]{0,253}")


@dataclass(frozen=True)
class EventOptions:
    """How events are taken.

    Attributes:
        max_body: bytes of one event at most.
        body_seconds: longest wait for its body.
        pair_seconds: how long a request waits for its response, and a shadow for its answer.
        max_pending: messages that wait at most; the oldest are given up first.
    """

    max_body: int = 32 * 1024 * 1024
    body_seconds: float = 15.0
    pair_seconds: float = 30.0
    max_pending: int = 10_000


@dataclass(frozen=True)
class _Request:
    event_id: str
    service: str
    time: datetime
    facts: RequestFacts


@dataclass(frozen=True)
class _Response:
    event_id: str
    service: str
    time: datetime
    answers: tuple[AnswerFacts, ...]


@dataclass(frozen=True)
class _Look:
    """A request and its answers."""

    request: _Request
    answers: tuple[AnswerFacts, ...]

    @property
    def is_shadow(self) -> bool:
        return self.request.facts.rung != REFERENCE and self.answers[0].rung == REFERENCE


class CloudEventSink:
    """Pairs events and appends rows; :meth:`receive` may be called from any thread.

    Attributes:
        options: how events are taken.
    """

    def __init__(
        self,
        log: PredictionLog,
        options: EventOptions | None = None,
        is_own: Callable[[str], bool] = lambda event_id: False,
    ) -> None:
        """Feed a log.

        Args:
            log: the log.
            options: how events are taken.
            is_own: whether an event id is of an answer that was given here; no event brings one.
        """
        self._is_own = is_own
        self.options = options or EventOptions()
        limit, seconds = self.options.max_pending, self.options.pair_seconds
        self._log = log
        self._lock = threading.Lock()
        self._requests: PairingBuffer[_Request] = PairingBuffer(limit, seconds)
        self._responses: PairingBuffer[_Response] = PairingBuffer(limit, seconds)
        self._answers: PairingBuffer[_Look] = PairingBuffer(limit, seconds)
        self._shadows: PairingBuffer[_Look] = PairingBuffer(limit, seconds)
        self._done = RecentKeys(limit)
        self._timer: threading.Timer | None = None
        self._closed = False

    def receive(self, headers: Mapping[str, str], body: bytes) -> str:
        """Take one event.

        Args:
            headers: of the POST, names in lower case.
            body: the logged message.

        Returns:
            "stored" when it completed a row or will be a part of one, "waiting" when its
            counterpart is missing, "known" when it came before, "ignored" for the message of a
            service that is no detector.

        Raises:
            InvalidInput: attributes or data that cannot be used.
        """
        kind, event_id, service, when = _attributes(headers)
        if self._is_own(event_id):
            # Its fields would be written over those of the answer.
            raise InvalidInput("Ce-Id is the event id of an answer that this gateway gave itself")
        key = (event_id, service)
        if kind == REQUEST_TYPE:
            facts = read_request(body)
            if facts is None:
                return "ignored"
            asked: _Request | None = _Request(event_id, service, when, facts)
            answered = None
        else:
            answers = read_answer(body)
            if answers is None:
                return "ignored"
            asked, answered = None, _Response(event_id, service, when, answers)
        with self._lock:
            if f"{service} {event_id}" in self._done:
                return "known"
            now = time.monotonic()
            self._expire(now)
            asked = asked or self._requests.take(key)
            answered = answered or self._responses.take(key)
            if asked is not None and answered is not None:
                self._pair(asked, answered, now)
                return "stored"
            if asked is not None:
                self._requests.put(key, asked, now)
            elif answered is not None:
                self._responses.put(key, answered, now)
            self._expire(now)  # with this one there may be too many
            self._arm()
            return "waiting"

    def close(self) -> None:
        """Write what waits and needs no more; a request without a response is given up."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            self._expire(float("inf"))

    def _pair(self, asked: _Request, answered: _Response, now: float) -> None:
        self._done.add([f"{asked.service} {asked.event_id}"])
        look = _Look(asked, answered.answers)
        if not asked.facts.shadow or asked.facts.rung == REFERENCE:
            self._append(look)
            return
        mine, theirs = self._answers, self._shadows
        if look.is_shadow:
            mine, theirs = theirs, mine
        else:
            self._append(look, awaited=True)
        other = theirs.take(asked.facts.digest)
        if other is None:
            mine.put(asked.facts.digest, look, now)
            self._expire(now)
            self._arm()
        elif look.is_shadow:
            self._amend(other, look)
        else:
            self._amend(look, other)

    def _append(self, look: _Look, awaited: bool = False) -> None:
        """Log an answer at once; what the reference saw may be added later."""
        request, facts = look.request, look.request.facts
        for index, (answer, image) in enumerate(zip(look.answers, facts.images, strict=False)):
            row = PredictionRow(
                **_columns(request, index),
                answered_by=answer.rung,
                revision=answer.revision,
                queue_ms=answer.queue_ms,
                detect_ms=answer.detect_ms,
                width=image.width,
                height=image.height,
                image_bytes=image.image_bytes,
                **answer_columns(answer.found),
            )
            self._log.append(row, amendments=int(awaited))

    def _amend(self, look: _Look, shadow: _Look | None) -> None:
        request, images = look.request, look.request.facts.images
        for index, (answer, _) in enumerate(zip(look.answers, images, strict=False)):
            fields: dict[str, Any] = {}
            if shadow is not None and index < len(shadow.answers):
                seen = shadow.answers[index]
                fields = shadow_columns(answer.found, seen.found, seen.detect_ms)
            self._log.amend(_numbered(request.event_id, index), fields)

    def _expire(self, now: float) -> None:
        for request in self._requests.expired(now):
            self._done.add([f"{request.service} {request.event_id}"])
            if request.facts.routed and now != float("inf"):
                for index in range(len(request.facts.images)):
                    missing = "the logger sent no answer; the detector failed or was stopped"
                    self._log.append(PredictionRow(**_columns(request, index), error=missing))
        for answered in self._responses.expired(now):
            self._done.add([f"{answered.service} {answered.event_id}"])
            for index, answer in enumerate(answered.answers):
                self._log.append(
                    PredictionRow(
                        event_id=_numbered(answered.event_id, index),
                        time=answered.time,
                        source="graph",
                        answered_by=answer.rung,
                        revision=answer.revision,
                        queue_ms=answer.queue_ms,
                        detect_ms=answer.detect_ms,
                        tags={"service": answered.service},
                        error="the logger sent no request to this answer",
                        **answer_columns(answer.found),
                    )
                )
        for look in self._answers.expired(now):
            self._amend(look, None)
        for _ in self._shadows.expired(now):
            pass  # its answer never came, which has a row of its own

    def _arm(self) -> None:
        """Without further events, what waits too long is written all the same."""
        if self._timer is not None or self._closed:
            return
        self._timer = threading.Timer(self.options.pair_seconds, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            self._expire(time.monotonic())
            waiting = (self._requests, self._responses, self._answers, self._shadows)
            if sum(len(one) for one in waiting):
                self._arm()


def _attributes(headers: Mapping[str, str]) -> tuple[str, str, str, datetime]:
    """Type, id, service and time of an event."""
    if headers.get("ce-specversion") != "1.0":
        raise InvalidInput("no CloudEvent 1.0 in binary mode; send the headers Ce-Specversion, ...")
    kind = headers.get("ce-type", "")
    if kind not in (REQUEST_TYPE, RESPONSE_TYPE):
        raise InvalidInput(f"Ce-Type {kind[:80]!r} is none of {REQUEST_TYPE}, {RESPONSE_TYPE}")
    event_id, service = headers.get("ce-id", ""), headers.get("ce-inferenceservicename", "")
    check_event_id(event_id)
    if not _NAME.fullmatch(service):
        raise InvalidInput(f"Ce-Inferenceservicename {service[:80]!r} is no service's name")
    now = datetime.now(UTC)
    try:
        when = datetime.fromisoformat(headers.get("ce-time", ""))
        believed = when.tzinfo is not None and abs(when - now) <= _CLOCKS
    except (ValueError, OverflowError):
        believed = False
    return kind, event_id, service, when if believed else now


def _columns(request: _Request, index: int) -> dict[str, Any]:
    facts = request.facts
    return {
        "event_id": _numbered(request.event_id, index),
        "time": request.time,
        "source": "graph",
        "policy_revision": facts.policy_revision,
        "latency_weight": facts.latency_weight,
        "rung": facts.rung,
        "probabilities": facts.probabilities,
        "load_ms": facts.load_ms,
        "shadow": facts.shadow,
        "tags": {"service": request.service},
    }


def _numbered(event_id: str, index: int) -> str:
    """The key of one of several images in an event."""
    return event_id if not index else f"{event_id[:190]}/{index}"
