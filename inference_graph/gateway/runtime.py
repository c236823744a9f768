"""The gateway's parts, made from its settings, started and stopped together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import cv2
import pyarrow
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client.metrics_core import Metric
from starlette.requests import HTTPConnection

from feature_transformer.decoding.places import DecodingPlaces
from feature_transformer.decoding.workers import WORKERS
from foundation.audit_log import AuditLog
from foundation.errors import InvalidInput, StorageError, Unavailable
from inference_graph.contract import REFERENCE
from inference_graph.detections import DetectionFilter, read_classes
from inference_graph.gateway.access import Client, Role
from inference_graph.gateway.backend import DetectorBackend
from inference_graph.gateway.canary_backends import CanaryBackends
from inference_graph.gateway.dispatch import Dispatcher
from inference_graph.gateway.event_ids import EventIds
from inference_graph.gateway.fair_scheduler import FairScheduler
from inference_graph.gateway.feedback_frame import FeedbackFrames
from inference_graph.gateway.feedback_quota import DailyQuota, known_to_log
from inference_graph.gateway.frames import FramePipeline
from inference_graph.gateway.held_frames import HeldFrames
from inference_graph.gateway.limits import RateLimiter
from inference_graph.gateway.metrics import GatewayMetrics
from inference_graph.gateway.oidc import access_of
from inference_graph.gateway.places import Places, StreamPlace, StreamPlaces
from inference_graph.gateway.policy_in_use import PolicyInUse
from inference_graph.gateway.readings import log_readings, rung_readings
from inference_graph.gateway.refusals import Refusals
from inference_graph.gateway.routing import StreamRouter
from inference_graph.gateway.rungs import AsyncRung, open_rung, open_rungs
from inference_graph.gateway.session_stats import SessionStats
from inference_graph.gateway.settings import GatewaySettings
from inference_graph.gateway.shadow import Shadow
from inference_graph.prediction_log.events import CloudEventSink, EventOptions
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.row import check_event_id
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

_SHORTEST_PROBE = 1.0
"""Seconds a probe gives a rung at least: its first inference after a start is slow."""
_FIRST_LOOK = 10.0
"""Seconds the start waits for a rung to answer; the gateway starts without as well."""
_RECENT = 5000
"""Keys the log remembers: an event that is sent again comes within seconds."""
_ENDING = 5.0
"""Seconds the end waits for the summaries of sessions."""
_KNOWN_FOR = timedelta(hours=1)
"""How far back an event id is sought in the log that this gateway did not make."""

_bearer = HTTPBearer(auto_error=False, description="A token of the tokens file.")


class Runtime:
    """What a gateway works with.

    Attributes:
        settings: what it was made from.
        audit: the audit log; None without one.
        access: who may ask.
        in_use: the policy that decides.
        metrics: what is counted.
        backends: the way to each rung.
        canaries: new revisions of rungs, and who watches the backends.
        pipeline: answers frames; made by :meth:`start`.
        frame_limit: frames per client.
        scheduler: who works on a frame now.
        requests: places of requests with a body.
        streams: the open streams.
        feedback_limit: feedback per client.
        feedback_quota: feedback per client and day.
        feedback_frames: finds the frame that feedback is about.
        event_ids: maker of keys.
        not_ready: further reasons, empty while there is none, why the gateway is not ready.
    """

    pipeline: FramePipeline

    def __init__(
        self,
        settings: GatewaySettings,
        make_rungs: Callable[[], Mapping[str, AsyncRung]] | None = None,
    ) -> None:
        """Load what can be refused: tokens and policy.

        Args:
            settings: how to run.
            make_rungs: makes the rungs where the event loop runs; those of the settings without.

        Raises:
            ConfigurationError: an unusable tokens file.
            ModelError: an unusable policy.
        """
        self.settings = settings
        self.access = Refusals(access_of(settings), settings.refusals_per_minute)
        self.audit = AuditLog(settings.audit) if settings.audit is not None else None
        self.in_use = PolicyInUse(settings, self.audit)
        self._make_rungs = make_rungs or (lambda: open_rungs(settings.rungs, trust=settings.trust))
        self.metrics = GatewayMetrics(settings.objective_ms)
        self.frame_limit = RateLimiter(settings.max_fps)
        self.scheduler = FairScheduler()
        # Without tokens all requests are of one client.
        share = 1.0 if settings.open_access else settings.client_share
        self.requests = Places(settings.max_requests, share, "requests")
        self.streams = StreamPlaces(settings.max_streams, share)
        per_minute = settings.feedback_per_minute
        self.feedback_limit = RateLimiter(per_minute / 60, burst=per_minute / 6)
        self.feedback_quota = DailyQuota(settings.feedback_per_day, known_to_log(settings.log_url))
        # Where the log keeps no images, feedback keeps none either.
        wanted = bool(settings.image_share) and settings.log_url is not None
        held = HeldFrames(settings.held_frames if wanted else 0, settings.held_bytes)
        self.feedback_frames = FeedbackFrames(held, settings.decode_limits, settings.image_share)
        self.backends: dict[str, DetectorBackend] = {}
        self.canaries = CanaryBackends(
            self.backends,
            partial(open_rung, trust=settings.trust),
            settings.breaker_failures,
            settings.probe_seconds,
            max(settings.deadline_ms / 1e3, _SHORTEST_PROBE),
        )
        self.log: PredictionLog | None = None
        self._events: CloudEventSink | None = None
        self.event_ids = EventIds(settings.event_key)
        self.not_ready: list[Callable[[], str]] = []
        self._endings: set[asyncio.Task[None]] = set()
        self._seeking = threading.Lock()
        self._places: DecodingPlaces | None = None
        self._shadow = Shadow({}, 0.0)

    async def admit(
        self, connection: HTTPConnection, role: Role, headers: Mapping[str, str] | None = None
    ) -> Client:
        """Who asks, for a request or a new stream; see :meth:`check`."""
        await self.access.prepare(connection.headers if headers is None else headers)
        return self.check(connection, role, headers)

    async def start(self) -> None:
        """Open the log, ask for the rungs, and answer from now on; again it does nothing.

        Raises:
            ConfigurationError: an unusable target or log.
            ModelError: unusable weights of a rung in process.
            StorageError: the log's folder cannot be made.
        """
        if self._places is not None:
            return
        # More threads only fight with the detectors for the same cores.
        cv2.setNumThreads(1)
        try:
            await asyncio.to_thread(WORKERS.start)
            self._open()
        except BaseException:
            await self.close()
            raise
        await self._first_look()

    async def close(self) -> None:
        """Let shadows and sessions end, then store what was logged."""
        self.in_use.stop()
        await self.canaries.close()
        await self._shadow.settle()
        if self._endings:
            await asyncio.wait(set(self._endings), timeout=_ENDING)
        if self._places is not None:
            self._places.close()  # rows whose pixels are measured there
        await asyncio.gather(
            *(backend.rung.close() for backend in self.backends.values()), return_exceptions=True
        )
        if self._events is not None:
            await asyncio.to_thread(self._events.close)
        if self.log is not None:
            await asyncio.to_thread(self.log.close)

    def _open(self) -> None:
        settings = self.settings
        places = self._places = DecodingPlaces(settings.threads)
        if settings.log_url is not None:
            # Arrow's own pool keeps what a second's rows once took, and grows a little for ever.
            pyarrow.set_memory_pool(pyarrow.system_memory_pool())
            self.log = PredictionLog(LogConfig(settings.log_url, recent_rows=_RECENT))
            self._events = CloudEventSink(
                self.log, EventOptions(body_seconds=settings.body_seconds), self.event_ids.knows
            )
        self.backends |= {
            name: DetectorBackend(name, rung, settings.breaker_failures)
            for name, rung in self._make_rungs().items()
        }
        self._shadow = Shadow(
            self.backends,
            settings.shadow_share,
            settings.shadow_concurrency,
            settings.shadow_timeout_ms / 1e3,
            lambda: self.scheduler.waiting > 0,
        )
        self.pipeline = FramePipeline(
            dispatcher=Dispatcher(
                self.backends,
                settings.hedge_share,
                settings.deadline_ms,
                self.canaries,
                lambda: self.scheduler.waiting,
            ),
            shadow=self._shadow,
            sink=self.log,
            metrics=self.metrics,
            places=places,
            limits=settings.decode_limits,
            event_ids=self.event_ids,
            statistics_share=settings.statistics_share,
            image_share=settings.image_share,
            held=self.feedback_frames.held,
            looks=self._looks,
        )
        self.metrics.watch(self._figures)
        for backend in self.backends.values():
            self.canaries.watch(backend)

    def guard(self, role: Role) -> Any:
        """The default of a route's parameter that is the client, if it has the role."""

        async def client(
            request: Request,
            _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
        ) -> AsyncIterator[Client]:
            known = await self.admit(request, role)
            if request.method == "GET":
                yield known
                return
            with self.requests.taken(known.name):
                yield known

        return Depends(client)

    def check(
        self,
        connection: HTTPConnection,
        role: Role,
        headers: Mapping[str, str] | None = None,
        known: bool = False,
    ) -> Client:
        """Who asks; see :meth:`Refusals.check`.

        Args:
            connection: of the request or stream.
            role: what is asked for.
            headers: those that name the token; the connection's own without it.
            known: whether it was let in before, as an open stream was.
        """
        address = "an unknown address" if connection.client is None else connection.client.host
        headers = connection.headers if headers is None else headers
        return self.access.check(headers, role, address, known)

    def routing(self, latency_weight: float | None, track: bool = False) -> StreamRouter:
        """A stream's own routing.

        Args:
            latency_weight: operating point; the settings' or the policy's without it.
            track: whether its answers are fused over the frames.

        Raises:
            ConfigurationError: a negative or not finite weight.
        """
        reuse, protected = self.settings.reuse, self.settings.protected
        return StreamRouter(self.in_use, latency_weight, track, reuse, protected)

    def deadline(self, wanted: float | None) -> float:
        """A frame's deadline in milliseconds.

        Raises:
            InvalidInput: shorter or longer than allowed.
        """
        if wanted is None:
            return self.settings.deadline_ms
        shortest, longest = self.settings.min_deadline_ms, self.settings.max_deadline_ms
        if not shortest <= wanted <= longest:
            raise InvalidInput(f"deadline_ms is {wanted:g}; give {shortest:g} to {longest:g}")
        return wanted

    def wanted(self, confidence: float | None, classes: str | None) -> DetectionFilter:
        """Which detections a client's answers hold.

        Args:
            confidence: score below which they are left out; the settings' without it.
            classes: names separated by commas; all without it.

        Raises:
            InvalidInput: a class that no rung knows.
        """
        known = dict.fromkeys(
            name
            for backend in self.backends.values()
            if backend.facts is not None
            for name in backend.facts.class_names
        )
        least = self.settings.confidence if confidence is None else confidence
        return DetectionFilter(least, read_classes(classes or "", list(known)))

    def begin_session(self, wanted: str | None, client: Client, deadline_ms: float) -> StreamPlace:
        """A place for a client's stream, until :meth:`end_session`.

        Args:
            wanted: the session's name, if the client has one.
            client: whose stream.
            deadline_ms: of its frames.

        Raises:
            InvalidInput: the name could not name a file.
            TooManyRequests: the client has as many streams as one may have.
            Unavailable: no place is left, or its frames would come too late all the time.
        """
        wait = self.scheduler.expected_wait_ms(client.name)
        if wait > deadline_ms:
            raise Unavailable(
                f"a frame waits {wait:.0f} ms for its turn, longer than its {deadline_ms:.0f} ms; "
                "try again later, or allow more time"
            )
        return self.streams.begin(wanted, client.name)

    def end_session(self, place: StreamPlace, stats: SessionStats, routing: StreamRouter) -> None:
        """Free the place, and log the summary of its session.

        Args:
            place: the stream's.
            stats: of the session.
            routing: the session's own.
        """
        self.streams.end(place)
        self.summarise_session(stats, routing)

    def summarise_session(self, stats: SessionStats, routing: StreamRouter) -> None:
        """Log a session's summary when its last shadow is done; nothing without an answer."""

        async def end() -> None:
            await self._shadow.settle()
            backend = self.backends.get(REFERENCE)
            reference_ms = None if backend is None else backend.service_ms
            if self.log is not None and stats.frames:
                self.log.record_session(
                    stats.summary(routing.policy_revision, routing.latency_weight, reference_ms)
                )

        task = asyncio.get_running_loop().create_task(end())
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    def knows(self, event_id: str) -> bool:
        """Whether an answer has this key; may read the log, so call it on a thread.

        Raises:
            InvalidInput: it is no key.
            Unavailable: another one is being sought.
        """
        check_event_id(event_id)
        if self.event_ids.knows(event_id):
            return True
        if self.settings.log_url is None:
            return False
        if not self._seeking.acquire(blocking=False):
            raise Unavailable("the log is being read for another event id; try again in a moment")
        try:
            since = datetime.now(UTC) - _KNOWN_FOR
            table = read_log(self.settings.log_url, since=since, columns=["event_id"])
            return event_id in table.column("event_id").to_pylist()
        except StorageError as error:
            raise Unavailable(f"the log cannot be read now: {error}") from error
        finally:
            self._seeking.release()

    def events(self) -> CloudEventSink:
        """Where events of detectors go.

        Raises:
            Unavailable: this gateway keeps no log.
        """
        if self._events is None:
            raise Unavailable("this gateway keeps no log, so events cannot be stored")
        return self._events

    def open_log(self) -> PredictionLog:
        """The log.

        Raises:
            Unavailable: this gateway keeps none.
        """
        if self.log is None:
            raise Unavailable("this gateway keeps no log, so nothing can be stored")
        return self.log

    def log_feedback(self, feedback: Feedback) -> None:
        """Store feedback.

        Raises:
            Unavailable: this gateway keeps no log.
        """
        if self.log is None:
            raise Unavailable("this gateway keeps no log, so feedback cannot be stored")
        self.log.append_feedback(feedback)

    def ready(self) -> tuple[bool, dict[str, str]]:
        """Whether frames are answered, and the health of every rung.

        No token is needed to ask, so the reasons are only in the log: they name addresses.
        """
        states = {name: str(backend.breaker.circuit) for name, backend in self.backends.items()}
        return any(backend.breaker.usable for backend in self.backends.values()), states

    def _looks(self, rung: str, backend: DetectorBackend | None) -> float | None:
        """Share of the answers that the reference looks at; None where it is the usual one."""
        policy = self.in_use.canary
        if policy is not None and policy.looks is not None and policy.weight:
            return policy.looks[0]  # of a policy both arms have the same
        return self.canaries.look_share(rung, backend)

    async def _first_look(self) -> None:
        end = asyncio.get_running_loop().time() + _FIRST_LOOK
        while not self.ready()[0] and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.05)

    def _figures(self) -> Iterator[Metric]:
        yield from rung_readings(self.backends)
        yield from self.in_use.readings()
        if self.log is not None:
            yield from log_readings(self.log.status)
