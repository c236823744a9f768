"""The worker: reads frames, has the gateway's pipeline answer them, and publishes each answer once.

A transaction publishes the answers together with the offsets of their frames, so a reader with
``isolation.level=read_committed`` sees each answer once whenever the worker dies. A frame has the
same event id each time it is delivered, so the prediction log has it once as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from prometheus_client.metrics_core import Metric

from foundation.errors import (
    ConfigurationError,
    ConnectionLost,
    GearshiftError,
    PayloadTooLarge,
    Unavailable,
    UnsupportedMedia,
)
from inference_graph import metric_names as words
from inference_graph.gateway.feedback import FEEDBACK_BYTES, FeedbackBody, store_feedback
from inference_graph.gateway.frames import AnsweredFrame, FrameRequest
from inference_graph.gateway.json_request import read_model
from inference_graph.gateway.runtime import Runtime
from inference_graph.streams.broker import STUCK_SECONDS, Broker
from inference_graph.streams.cameras import CLIENT, Camera, Cameras, SerialQueue
from inference_graph.streams.config import KafkaConfig
from inference_graph.streams.dead_letters import dead_letter
from inference_graph.streams.events import SkipReason, detections_event, skipped_event
from inference_graph.streams.messages import (
    JSON_TYPE,
    FrameMessage,
    OutgoingMessage,
    check_type,
    read_frame,
    read_headers,
)
from inference_graph.streams.references import References
from inference_graph.streams.uncommitted import HeldMessage, Partition, UncommittedMessages

_log = logging.getLogger(__name__)

_POLL_SECONDS = 0.2
_RETRY_SECONDS = (0.5, 15.0)
"""First and longest pause before the brokers are tried again."""
_FRAME_RETRY_SECONDS = (0.05, 2.0)
_ATTEMPTS = 5
"""A frame that fails so often while rungs are in use goes to the dead letters."""
_TURN_SECONDS = 3600.0
_SWEEP_SECONDS = 5.0
_STORE_SECONDS = 1.0
"""How long a transaction waits for the log's disk at most."""
_CLOCK_SECONDS = 1.0
"""A clock that is ahead by more is counted."""


class StreamWorker:
    """One worker of a consumer group.

    Attributes:
        problem: why no frames are read; empty while they are.
    """

    def __init__(self, config: KafkaConfig, runtime: Runtime) -> None:
        """A worker that has not joined its group.

        Args:
            config: topics and brokers.
            runtime: of the gateway that answers.
        """
        self._config = config
        self._runtime = runtime
        self._references = References(config.references)
        self._source = f"/gearshift/{config.group}/{config.name}"
        self.problem = "the worker has not joined its group yet"
        self._broker: Broker | None = None
        self._uncommitted = UncommittedMessages()
        self._cameras = Cameras(runtime, self._uncommitted)
        self._feedback = SerialQueue(self._uncommitted)
        self._rebalances = self._aborted = 0
        registry = runtime.metrics.registry
        messages = words.KAFKA_MESSAGES.counter(registry)
        self._messages = {
            outcome: messages.labels(outcome)
            for outcome in ("answered", "skipped", "dead_letter", "feedback")
        }
        self._age = words.KAFKA_AGE.histogram(registry)
        self._clock_ahead = words.KAFKA_CLOCK_AHEAD.counter(registry)
        self._committed = 0
        runtime.metrics.watch(self._figures)
        runtime.not_ready.append(lambda: self.problem)

    async def run(self) -> None:
        """Read and answer until cancelled; connects again for as long as it takes.

        Raises:
            ConfigurationError: a secret is missing, or the client library.
        """
        pause = _RETRY_SECONDS[0]
        while True:
            try:
                await self._serve()
            except Unavailable as error:
                if self._broker is not None:
                    pause = _RETRY_SECONDS[0]  # it was connected
                if str(error) != self.problem:
                    _log.warning("%s; trying again", error)
                self.problem = str(error)
            except ConfigurationError:
                raise
            except Exception:
                _log.exception("the worker failed; it connects again")
                self.problem = "the worker failed; its log says why"
            await asyncio.sleep(pause)
            pause = min(pause * 2, _RETRY_SECONDS[1])

    async def _serve(self) -> None:
        """Read and answer until the connection breaks."""
        loop = asyncio.get_running_loop()
        self._uncommitted = uncommitted = UncommittedMessages()
        self._cameras = cameras = Cameras(self._runtime, uncommitted)
        self._feedback = SerialQueue(uncommitted)
        self._broker = None

        def revoked(partitions: list[Partition]) -> None:
            loop.call_soon_threadsafe(cameras.revoke, partitions)

        reader = ThreadPoolExecutor(1, "kafka-read")
        joining = loop.run_in_executor(
            reader, Broker, self._config, uncommitted, revoked, self._store_rows
        )
        try:
            broker = await asyncio.shield(joining)
        except asyncio.CancelledError:
            joining.add_done_callback(_close_late)
            raise
        self._broker, self.problem = broker, ""
        _log.info("frames of %s are read as %s", self._config.frames, self._source)
        work = (self._read(broker, reader), self._commit(broker), self._sweep(cameras))
        tasks = [loop.create_task(one) for one in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            cameras.end_all()
            self._feedback.cancel()
            # Behind what the threads still do.
            await asyncio.shield(loop.run_in_executor(reader, broker.close))
            self._rebalances += broker.rebalances
            self._aborted += broker.aborted
            reader.shutdown(wait=False)

    def _store_rows(self) -> None:
        """Have a kill leave the rows of answers that are published next; no later delivery would.

        A disk that takes no rows does not stop the answers.
        """
        if self._runtime.log is not None:
            self._runtime.log.store(_STORE_SECONDS)

    async def _read(self, broker: Broker, reader: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for message in await loop.run_in_executor(reader, broker.poll, _POLL_SECONDS):
                self._accept(message)

    async def _commit(self, broker: Broker) -> None:
        def commit() -> int:
            return broker.commit() if self._uncommitted.wait_settled(_POLL_SECONDS) else 0

        while True:
            committing = _on_daemon_thread(commit)
            done, _ = await asyncio.wait([committing], timeout=STUCK_SECONDS)
            if not done:
                broker.give_up()
                raise ConnectionLost("a transaction does not end; the connection is made anew")
            self._committed += bool(committing.result())

    async def _sweep(self, cameras: Cameras) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            cameras.end_idle()

    def _accept(self, message: HeldMessage) -> None:
        """Put a message in its camera's queue; one that cannot be used is settled at once."""
        if message.revoked:
            return
        try:
            headers = read_headers(message.headers)
            if message.partition[0] == self._config.feedback:
                check_type(headers, "feedback")
                if headers.get("content-type", "").partition(";")[0].strip().lower() != JSON_TYPE:
                    raise UnsupportedMedia(f"feedback is {JSON_TYPE}; set content-type")
                feedback = self._feedback
                feedback.put(message, lambda: self._safely(message, self._take_feedback(message)))
                return
            value, limit = message.value, self._runtime.settings.max_body
            frame = read_frame(message.key, value, headers, limit)
        except GearshiftError as error:
            self._uncommitted.settle(message, self._dead(message, error))
            return
        camera = self._cameras.get(frame.camera, message.partition)
        camera.put(message, lambda: self._safely(message, self._answer(camera, message, frame)))

    async def _safely(
        self, message: HeldMessage, work: Awaitable[Sequence[OutgoingMessage]]
    ) -> Sequence[OutgoingMessage]:
        """What a message becomes: a dead letter where the work fails, whatever the reason."""
        try:
            return await work
        except GearshiftError as error:
            return self._dead(message, error)
        except Exception:
            _log.exception("the message at %s of %s broke", message.offset, message.partition)
            return self._dead(message, GearshiftError("the worker failed; its log says why"))

    async def _answer(
        self, camera: Camera, message: HeldMessage, frame: FrameMessage
    ) -> Sequence[OutgoingMessage]:
        """What a frame becomes: an answer or a notice; raises what makes it a dead letter."""
        event_id = self._runtime.event_ids.of(frame.identity)
        if camera.repeats(event_id):
            detail = "a frame with this ce_id and ce_source was answered before"
            return self._skip(frame, event_id, "duplicate", detail)
        answered = await self._answered(camera, message, frame, event_id)
        if answered is None:
            detail = f"the frame is older than {self._config.max_age:g} s"
            return self._skip(frame, event_id, "age", detail)
        camera.remember(event_id)
        camera.stats.answered(answered.answered_by, answered.fallback, answered.total_ms)
        self._runtime.pipeline.finish(answered, camera.stats.agreed)
        age = _age(frame)
        self._age.observe(max(age, 0.0))
        if age < -_CLOCK_SECONDS:
            self._clock_ahead.inc()
        self._messages["answered"].inc()
        return [detections_event(self._config.detections, self._source, frame, answered, age)]

    async def _answered(
        self, camera: Camera, message: HeldMessage, frame: FrameMessage, event_id: str
    ) -> AnsweredFrame | None:
        """The answer, tried again while the rungs or a bucket are away; None for an old frame."""
        settings, failures, pause = self._runtime.settings, 0, _FRAME_RETRY_SECONDS[0]
        camera.frames += 1
        while True:
            if self._config.max_age is not None and _age(frame) > self._config.max_age:
                return None
            try:
                return await self._attempt(camera, frame, event_id)
            except Unavailable:
                failures += self._runtime.ready()[0]
                if failures >= _ATTEMPTS or message.revoked:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _FRAME_RETRY_SECONDS[1], settings.idle_seconds)

    async def _attempt(self, camera: Camera, frame: FrameMessage, event_id: str) -> AnsweredFrame:
        runtime = self._runtime
        data = frame.data
        if frame.is_reference:
            limit = runtime.settings.max_body
            data = await asyncio.to_thread(self._references.read, data, limit)
        loop = asyncio.get_running_loop()
        turn = await runtime.scheduler.enter_before(camera.name, loop.time() + _TURN_SECONDS)
        work_ms = None
        try:
            request = FrameRequest(
                "kafka",
                CLIENT,
                turn,
                runtime.settings.deadline_ms,
                camera.session,
                camera.frames - 1,
                tags=camera.stats.tags,
                wanted=runtime.wanted(None, None),
                event_id=event_id,
            )
            answered = await runtime.pipeline.answer(data, request, camera.routing)
            work_ms = answered.work_ms
            return answered
        finally:
            runtime.scheduler.leave(turn, work_ms)

    async def _take_feedback(self, message: HeldMessage) -> Sequence[OutgoingMessage]:
        """Put feedback into quarantine; tried again while the log is away."""
        body, pause = message.value or b"", _FRAME_RETRY_SECONDS[0]
        if len(body) > FEEDBACK_BYTES:
            raise PayloadTooLarge(
                f"the feedback has {len(body)} bytes and {FEEDBACK_BYTES} are allowed"
            )
        given = read_model(body, FeedbackBody)
        while wait := self._runtime.feedback_limit.wait(CLIENT):
            await asyncio.sleep(wait)
        while True:
            try:
                await store_feedback(self._runtime, given, CLIENT)
                break
            except Unavailable:
                if self._runtime.log is None or message.revoked:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 2, _FRAME_RETRY_SECONDS[1])
        self._messages["feedback"].inc()
        return []

    def _skip(
        self, frame: FrameMessage, event_id: str, reason: SkipReason, detail: str
    ) -> Sequence[OutgoingMessage]:
        self._messages["skipped"].inc()
        return [
            skipped_event(
                self._config.detections,
                self._source,
                frame,
                event_id=event_id,
                reason=reason,
                age_seconds=_age(frame),
                detail=detail,
            )
        ]

    def _dead(self, message: HeldMessage, error: GearshiftError) -> Sequence[OutgoingMessage]:
        self._messages["dead_letter"].inc()
        return [dead_letter(self._config.dead_letters, message, error)]

    def _figures(self) -> Iterator[Metric]:
        broker = None if self.problem else self._broker
        unread = {self._config.frames: 0}
        paused, rebalances, aborted = False, self._rebalances, self._aborted
        if broker is not None:
            with contextlib.suppress(Exception):  # closed meanwhile
                unread = broker.unread()
            paused = broker.paused
            rebalances, aborted = rebalances + broker.rebalances, aborted + broker.aborted
        held = self._uncommitted.count
        unread[self._config.frames] += held
        lags: dict[tuple[str, ...], float] = {(topic,): n for topic, n in unread.items()}
        yield words.KAFKA_LAG.read(lags)
        yield words.KAFKA_HELD.read({(): held})
        yield words.KAFKA_PAUSED.read({(): paused})
        yield words.KAFKA_UP.read({(): broker is not None})
        yield words.KAFKA_REBALANCES.read({(): rebalances})
        yield words.KAFKA_TRANSACTIONS.read(
            {("committed",): self._committed, ("aborted",): aborted}
        )


def _age(frame: FrameMessage) -> float:
    """Seconds since a frame was captured; below 0 where the camera's clock is ahead."""
    return (datetime.now(UTC) - frame.time).total_seconds()


def _on_daemon_thread(call: Callable[[], int]) -> asyncio.Future[int]:
    """Call on a thread that does not keep the process when it hangs."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def note(result: int, error: BaseException | None) -> None:
        if ended.cancelled():
            return
        if error is None:
            ended.set_result(result)
        else:
            ended.set_exception(error)

    def run() -> None:
        result, failure = 0, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(note, result, failure)

    threading.Thread(target=run, name="kafka-commit", daemon=True).start()
    return ended


def _close_late(joining: asyncio.Future[Broker]) -> None:
    """Leave the group that was joined after it was no longer wanted."""
    if not joining.cancelled() and joining.exception() is None:
        joining.result().close()
