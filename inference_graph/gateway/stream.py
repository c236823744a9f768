"""WS /v1/stream: frames in, answers out, in order; a client that is too fast loses old frames.

Of one stream one frame is in work and one waits. A frame that comes while one waits takes its
place: the newest is answered first, and a notice names those dropped. Every frame has
exactly one outcome, sent in the order of the frames: an answer, a notice, or an error.

=================================  =================================================================
the client sends                   the gateway answers
=================================  =================================================================
``{"type": "hello", "tags": {…}}``  nothing; only as the first message, and only if wanted
binary: one encoded image          ``{"type": "detections", "frame": k, …}``, see ``FrameAnswer``
…faster than it is answered        ``{"type": "dropped", "frames": […], "reason": "newer"|"rate"}``
…that cannot be used               ``{"type": "error", "frame": k, "status": 4xx, "detail": …}``
any other text                     ``{"type": "error", "frame": null, "status": 400, …}``
=================================  =================================================================
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson
from starlette.websockets import WebSocketDisconnect

from foundation.errors import AccessError, GearshiftError, InvalidInput, Unavailable
from inference_graph.detections import DetectionFilter
from inference_graph.gateway.answers import dropped, refused
from inference_graph.gateway.fair_scheduler import FairScheduler
from inference_graph.gateway.frames import AnsweredFrame, FramePipeline, FrameRequest
from inference_graph.gateway.limits import RateLimiter
from inference_graph.gateway.metrics import GatewayMetrics
from inference_graph.gateway.places import StreamPlace
from inference_graph.gateway.routing import StreamRouter
from inference_graph.gateway.session_stats import SessionStats

_log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

_GOING_AWAY, _POLICY, _BROKEN, _TRY_AGAIN = 1001, 1008, 1011, 1013
_TEXT_LIMIT = 8192
_BAD_MESSAGES = 16
"""So many messages that are no frames are answered; then the stream is closed."""
_TAGS, _TAG_LENGTH = 16, 100
_FLOOD = 10
"""A client may send so many times the frames it is allowed; then the stream is closed."""
_ACCESS_SECONDS = 2.0
"""How often it is asked whether the client may still stream."""
_REASON = 120
"""Characters of a closing reason: a WebSocket's has room for 123 bytes, and names are ASCII."""
_NOTICE = 1000
"""Frames named in one notice at most; more take several notices."""


class _Closed(Exception):
    """The stream ends; ``code`` is None when the client ended it."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class StreamSession:
    """One client's stream, from the accepted socket to its end."""

    def __init__(
        self,
        *,
        receive: Receive,
        send: Send,
        pipeline: FramePipeline,
        scheduler: FairScheduler,
        routing: StreamRouter,
        stats: SessionStats,
        limiter: RateLimiter,
        metrics: GatewayMetrics,
        place: StreamPlace,
        deadline_ms: float,
        idle_seconds: float,
        send_seconds: float,
        max_fps: float,
        wanted: DetectionFilter,
        check_access: Callable[[], object] = lambda: None,
    ) -> None:
        """A session over an ASGI WebSocket that was accepted.

        Args:
            receive: the socket's.
            send: the socket's.
            pipeline: answers a frame.
            scheduler: who works on a frame now.
            routing: the stream's own.
            stats: counts.
            limiter: of frames per client.
            metrics: what is counted.
            place: its name and client, and whether another stream needs the place.
            deadline_ms: of a frame, from arrival to answer.
            idle_seconds: without a frame for so long, it is closed.
            send_seconds: an answer that is not taken for so long ends it.
            max_fps: frames per second the client may send.
            wanted: which detections the answers hold.
            check_access: called every few seconds; raises AccessError once the client may stream
                no longer.
        """
        self._receive = receive
        self._socket_send = send
        self._pipeline = pipeline
        self._scheduler = scheduler
        self._routing = routing
        self._stats = stats
        self._limiter = limiter
        self._flood = RateLimiter(max_fps * _FLOOD)
        self._metrics = metrics
        self._place = place
        self._session = place.session
        self._client = place.client
        self._deadline_ms = deadline_ms
        self._idle_seconds = idle_seconds
        self._send_seconds = send_seconds
        self._check_access = check_access
        self._wanted = wanted
        self._came = asyncio.Event()
        self._newest: tuple[int, bytes, float] | None = None
        self._count = 0
        self._settled = 0  # every frame below it has its outcome, or is about to
        self._lost = 0  # frames before it that are about to be reported as dropped
        self._slowed = False

    async def run(self) -> None:
        """Answer until the client goes, is silent too long, or breaks a rule."""
        parts = (self._read, self._work, self._watch_access, self._make_room)
        tasks = [asyncio.ensure_future(part()) for part in parts]
        self._metrics.streams.inc()
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._metrics.streams.dec()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ending = next(iter(done)).exception()
        if isinstance(ending, _Closed) and ending.code is None:
            return
        if not isinstance(ending, _Closed):
            _log.error("the stream %s broke", self._session, exc_info=ending)
            ending = _Closed(_BROKEN, "the gateway failed; its log says why")
        await self._close(ending)

    async def _read(self) -> None:
        """Receive without pause, so that the newest frame is known and a close is seen."""
        bad = 0
        while True:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await self._receive()
            except TimeoutError as error:
                text = f"no frame came for {self._idle_seconds:g} s"
                raise _Closed(_GOING_AWAY, text) from error
            if message["type"] == "websocket.disconnect":
                raise _Closed(None)
            if self._flood.wait(""):
                raise _Closed(_POLICY, "far more messages than frames per second are allowed")
            data = message.get("bytes")
            if data is not None:
                self._newest = (self._count, bytes(data), time.monotonic())
                self._count += 1
                self._place.used()
                self._place.busy = True
                self._came.set()
                # An idle worker takes this frame before the next can push it out.
                await asyncio.sleep(0)
                continue
            try:
                self._hello(message.get("text") or "", first=not self._count and not bad)
            except InvalidInput as error:
                await self._send(refused(None, error.http_status, str(error)))
            bad += 1  # a second hello is bad as well
            if bad > _BAD_MESSAGES:
                raise _Closed(_POLICY, "too many messages that are no frames")

    async def _watch_access(self) -> None:
        """A token that was taken away or lost its role ends the streams it opened, too."""
        while True:
            await asyncio.sleep(_ACCESS_SECONDS)
            try:
                self._check_access()
            except AccessError as error:
                raise _Closed(_POLICY, str(error)[:_REASON]) from error
            except Unavailable as error:  # the issuer of its token has been silent for too long
                raise _Closed(_TRY_AGAIN, error.for_clients[:_REASON]) from error

    async def _make_room(self) -> None:
        """An idle stream ends when another one needs its place."""
        await self._place.needed.wait()
        raise _Closed(_TRY_AGAIN, "no frame came, and another stream needs the place")

    def _hello(self, text: str, first: bool) -> None:
        if len(text) > _TEXT_LIMIT:
            raise InvalidInput(f"a message of {len(text)} characters; {_TEXT_LIMIT} are allowed")
        try:
            message = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise InvalidInput(
                f"the message is no JSON ({error}); send images as binary"
            ) from error
        if not isinstance(message, dict) or message.get("type") != "hello":
            raise InvalidInput("the message is no hello; send images as binary messages")
        if not first:
            raise InvalidInput("a hello comes first or not at all; send images from now on")
        self._stats.tags = check_tags(message.get("tags", {}))

    async def _work(self) -> None:
        """Answer one frame after the other, each time the newest there is."""
        while True:
            await self._wait_for_frame()
            answered, refusal = await self._answer_newest()
            number, lost = self._settled, self._lost
            if lost:
                self._stats.dropped += lost
                self._metrics.dropped.inc(lost)
                reason = "rate" if self._slowed else "newer"
                for first in range(number - lost, number, _NOTICE):
                    await self._send(dropped(first, min(first + _NOTICE, number) - 1, reason))
            self._settled += 1
            if answered is None:
                await self._send(refusal)
                continue
            try:
                await self._send(answered.body)
            finally:
                # It was answered, also when the client is gone by now.
                self._stats.answered(answered.answered_by, answered.fallback, answered.total_ms)
                self._pipeline.finish(answered, self._stats.agreed)

    async def _answer_newest(self) -> tuple[AnsweredFrame | None, bytes]:
        """The newest frame's answer once it is this stream's turn, or why there is none."""
        turn, work_ms = None, None
        try:
            turn = await self._enter()
            frame, data = self._take_newest()
            answered = await self._pipeline.answer(data, frame, self._routing)
            work_ms = answered.work_ms
            return answered, b""
        except GearshiftError as error:
            if turn is None:
                self._take_newest()
                self._metrics.failed("stream", error.http_status)
            return None, refused(self._settled, error.http_status, error.for_clients)
        except Exception:
            _log.exception("frame %d of the stream %s broke", self._settled, self._session)
            return None, refused(self._settled, 500, "the gateway failed; its log says why")
        finally:
            if turn is not None:
                self._scheduler.leave(turn, work_ms)

    async def _wait_for_frame(self) -> None:
        """Wait until there is a frame, and the client's rate allows it."""
        self._slowed = False
        while self._newest is None:
            self._place.busy = False
            self._came.clear()
            await self._came.wait()
        while pause := self._limiter.wait(self._client):
            self._slowed = True
            await asyncio.sleep(pause)

    async def _enter(self) -> float:
        """Wait for a turn as long as the newest frame can."""
        while True:
            newest = self._newest
            assert newest is not None
            try:
                return await self._scheduler.enter_before(
                    self._client, newest[2] + self._deadline_ms / 1e3
                )
            except Unavailable:
                if self._newest is newest:
                    raise

    def _take_newest(self) -> tuple[FrameRequest, bytes]:
        """Take the newest frame; all before it without an outcome are lost."""
        assert self._newest is not None
        (number, data, arrived), self._newest = self._newest, None
        self._lost, self._settled = number - self._settled, number
        tags, session = self._stats.tags, self._session
        frame = FrameRequest(
            "stream",
            self._client,
            arrived,
            self._deadline_ms,
            session,
            number,
            self._lost,
            tags,
            self._wanted,
        )
        return frame, data

    async def _send(self, text: bytes) -> None:
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._socket_send({"type": "websocket.send", "text": text.decode()})
        except TimeoutError as error:
            raise _Closed(_POLICY, "the answers are not read") from error
        except (OSError, RuntimeError, WebSocketDisconnect) as error:
            raise _Closed(None) from error  # the client is gone

    async def _close(self, ending: _Closed) -> None:
        message = {"type": "websocket.close", "code": ending.code, "reason": ending.reason}
        try:
            async with asyncio.timeout(self._send_seconds):
                await self._socket_send(message)
        except (TimeoutError, OSError, RuntimeError, WebSocketDisconnect) as error:
            _log.debug("the stream %s could not be closed: %s", self._session, error)


def check_tags(tags: Any) -> Mapping[str, str]:
    """Tags a client gave.

    Raises:
        InvalidInput: not at most 16 short texts under short names.
    """
    proper = isinstance(tags, dict) and all(
        isinstance(part, str) and len(part) <= _TAG_LENGTH for pair in tags.items() for part in pair
    )
    if not proper or len(tags) > _TAGS:
        raise InvalidInput(
            f"tags are not at most {_TAGS} names with texts of at most {_TAG_LENGTH} characters"
        )
    return dict(tags)
