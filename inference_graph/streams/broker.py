"""A worker's connection to the brokers: one consumer and one transactional producer."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from foundation.errors import (
    ConfigurationError,
    ConnectionLost,
    GearshiftError,
    PayloadTooLarge,
    Unavailable,
)
from inference_graph.streams.config import KafkaConfig, client_options
from inference_graph.streams.dead_letters import dead_letter, header_bytes
from inference_graph.streams.messages import OutgoingMessage
from inference_graph.streams.uncommitted import HeldMessage, Partition, UncommittedMessages

_log = logging.getLogger(__name__)

_TRANSACTION_MESSAGES = 256
"""Messages of one partition that one transaction takes at most."""
_METADATA_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
STUCK_SECONDS = 15.0
"""A transaction that takes longer never ends: librdkafka can lose the answer of a coordinator that
was started again, and the connection is made anew."""
_BATCH = 64
_REFUSALS = ("MSG_SIZE_TOO_LARGE", "RECORD_LIST_TOO_LARGE", "INVALID_RECORD")
"""Errors of a topic that does not take a message, however often it is sent."""


def kafka() -> Any:
    """The client library.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import confluent_kafka
        import confluent_kafka.admin
    except ImportError as error:
        raise ConfigurationError(
            "frames from Kafka need confluent-kafka; install the extra `streams`"
        ) from error
    return confluent_kafka


class Broker:
    """Reads messages and publishes what became of them, both in one transaction.

    :meth:`poll` is called on one thread and :meth:`commit` on another.

    Attributes:
        paused: whether reading rests because enough is held.
        rebalances: how often partitions came or went.
        aborted: transactions that broke.
    """

    def __init__(
        self,
        config: KafkaConfig,
        uncommitted: UncommittedMessages,
        on_revoked: Callable[[list[Partition]], None] = lambda partitions: None,
        before_commit: Callable[[], object] = lambda: None,
    ) -> None:
        """Join the group; waits for a broker.

        Args:
            config: topics and brokers.
            uncommitted: where messages are held; partitions that go are revoked in it.
            on_revoked: called with partitions that go, on the thread of :meth:`poll`.
            before_commit: called before what is settled is committed, on the thread of
                :meth:`commit`.

        Raises:
            ConfigurationError: a secret is missing.
            Unavailable: no broker answers, a topic is missing, or there is no right to one.
        """
        self._kafka = kafka()
        codes = self._kafka.KafkaError
        self._refusals = {getattr(codes, name) for name in _REFUSALS}
        self._config = config
        self._uncommitted = uncommitted
        self._on_revoked = on_revoked
        self._before_commit = before_commit
        self._committing = threading.Lock()
        self._broken = False
        self._most = _TRANSACTION_MESSAGES
        self._refused: list[OutgoingMessage] = []
        self._bare: OutgoingMessage | None = None
        self._assigned: set[Partition] = set()
        self._unreadable: set[Partition] = set()
        self._membership: Any = None
        self._opened: Any = None
        self.paused = False
        self.rebalances = 0
        self.aborted = 0
        common = client_options(config)
        self._consumer = self._kafka.Consumer(
            common
            | {
                "group.id": config.group,
                **({"group.instance.id": config.worker} if config.worker else {}),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(config.session_seconds * 1000),
                "heartbeat.interval.ms": min(int(config.session_seconds * 300), 3000),
                "queued.min.messages": config.held_messages,
                "queued.max.messages.kbytes": config.held_megabytes * 1024,
                "fetch.queue.backoff.ms": 20,
                "statistics.interval.ms": 0,
            }
        )
        try:
            self._check_topics()
            self._check_compression(common)
            self._opened = self._kafka.Producer(
                common
                | {
                    "transactional.id": f"{config.group}-{config.name}",
                    "transaction.timeout.ms": int(config.transaction_seconds * 1000),
                    "linger.ms": 0,
                    # Between two transactions brokers ask for patience of a few milliseconds.
                    "retry.backoff.ms": 5,
                    "retry.backoff.max.ms": 200,
                }
            )
            self._producer.init_transactions(_REQUEST_SECONDS)
            topics = [config.frames, *filter(None, [config.feedback])]
            self._consumer.subscribe(
                topics,
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
        except self._kafka.KafkaException as error:
            self._close_clients()
            raise self._refusal(error.args[0]) from error
        except BaseException:
            self._close_clients()
            raise

    def poll(self, seconds: float) -> list[HeldMessage]:
        """Messages that came, held as uncommitted; fewer than are there when enough is held.

        Args:
            seconds: to wait for the first one.

        Raises:
            Unavailable: the brokers refuse, for a reason that an operator has to mend.
        """
        self._adjust()
        found: list[HeldMessage] = []
        while len(found) < _BATCH:
            message = self._consumer.poll(0 if found else seconds)
            if message is None:
                break
            if message.error() is not None:
                self._check(message.error())
                self._note_unreadable(message)
                continue
            held = _held(message)
            self._uncommitted.add(held)
            found.append(held)
            if self._is_full():
                break
        return found

    def commit(self) -> int:
        """Publish what is settled and commit its offsets, in one transaction.

        What a broken transaction held is tried again by the next one.

        Returns:
            Messages that are committed now; 0 where none is settled or the transaction broke.

        Raises:
            ConnectionLost: the producer cannot be used any longer.
        """
        with self._committing:
            if self._broken:
                raise ConnectionLost("the connection to the brokers broke; it is made anew")
            batch = self._uncommitted.settled(self._most)
            if self._most < _TRANSACTION_MESSAGES:
                batch = batch[: self._most]
            if not batch:
                return 0
            self._refused = []
            try:
                self._publish(batch)
            except self._kafka.KafkaException as error:
                self._abort(error)
                if self._refused:
                    self._replace_refused(batch)
                return 0
            self._most = min(self._most * 2, _TRANSACTION_MESSAGES)
            self._uncommitted.committed(batch)
            return len(batch)

    def unread(self) -> dict[str, int]:
        """By topic, messages of this worker's partitions that are not read yet."""
        unread = {self._config.frames: 0}
        places = [self._kafka.TopicPartition(*partition) for partition in self._assigned]
        for place in self._consumer.position(places):
            _, high = self._consumer.get_watermark_offsets(place, cached=True)
            if high >= 0 and place.offset >= 0:
                waiting = max(high - place.offset, 0)
                unread[place.topic] = unread.get(place.topic, 0) + waiting
        return unread

    def close(self) -> None:
        """Leave the group; what is not committed is left to the others."""
        self._revoke(None)
        self._close_clients()

    def _close_clients(self) -> None:
        try:
            self._consumer.close()
        finally:
            # Its threads end with the last reference to it, and log until then.
            producer, self._opened = self._opened, None
            if producer is not None:
                producer.purge()
                producer.flush(0.1)

    @property
    def _producer(self) -> Any:
        """The producer; raises ConnectionLost once it is closed."""
        if self._opened is None:
            raise ConnectionLost("the connection to the brokers is closed")
        return self._opened

    def give_up(self) -> None:
        """Make no further transaction, and commit none that is in work."""
        self._broken = True

    def _publish(self, batch: Sequence[HeldMessage]) -> None:
        ends: dict[Partition, int] = {}
        # Asking takes up to a poll's time. One that is outdated is refused, and asked for anew; the
        # thread of poll() forgets it at any time, when partitions come.
        membership = self._membership
        if membership is None:
            membership = self._membership = self._consumer.consumer_group_metadata()
        self._producer.begin_transaction()
        for message in batch:
            ends[message.partition] = message.offset + 1
            for one in message.results or ():
                self._produce(one)
        # Rows are stored while the brokers take the answers.
        self._before_commit()
        # Sent before the offsets are: while no broker answers, nothing else is asked of it.
        while self._producer.flush(1.0) and not self._broken:
            pass
        self._producer.send_offsets_to_transaction(
            [self._kafka.TopicPartition(*place, end) for place, end in ends.items()],
            membership,
            _REQUEST_SECONDS,
        )
        while True:
            if self._broken:
                raise ConnectionLost("the connection to the brokers broke; it is made anew")
            try:
                self._producer.commit_transaction(_REQUEST_SECONDS)
                return
            except self._kafka.KafkaException as error:
                if not error.args[0].retriable():
                    raise

    def _produce(self, one: OutgoingMessage) -> None:
        def sent(error: Any, _: object = None) -> None:
            if error is not None and error.code() in self._refusals:
                self._refused.append(one)

        while True:
            try:
                self._producer.produce(
                    one.topic, one.value, one.key, headers=one.headers, on_delivery=sent
                )
                return
            except BufferError:
                self._producer.poll(0.1)
            except self._kafka.KafkaException as error:
                sent(error.args[0])
                raise

    def _replace_refused(self, batch: Sequence[HeldMessage]) -> None:
        """Make way for the others where a topic does not take what a message became.

        Brokers refuse everything that was sent together, so fewer are sent until it is one.

        Raises:
            Unavailable: the topic takes no letter at all.
        """
        self._most = max(len(batch) // 2, 1)
        if len(batch) > 1:
            return
        message, refused, letters = batch[0], self._refused[0], self._config.dead_letters
        if refused is self._bare:
            raise Unavailable(
                f"the topic {letters} refuses dead letters; raise its max.message.bytes, and let "
                "it have no compaction"
            )
        error = PayloadTooLarge(f"the topic {refused.topic} refuses what the message became")
        self._bare = dead_letter(letters, message, error, bare=True)
        message.results = [self._bare]

    def _abort(self, error: Any) -> None:
        """Give a transaction up; its messages stay uncommitted."""
        reason = error.args[0]
        self.aborted += 1
        self._membership = None
        if reason.fatal():
            raise ConnectionLost(f"the producer was refused: {reason.str()}") from error
        try:
            self._producer.abort_transaction(_REQUEST_SECONDS)
        except self._kafka.KafkaException as second:
            raise ConnectionLost(f"a transaction broke: {second.args[0].str()}") from second
        self._check(reason)
        time.sleep(0.1)

    def _is_full(self, share: float = 1.0) -> bool:
        """Whether a share of what may be held is held."""
        count, size = self._config.held_messages, self._config.held_megabytes * 2**20
        return self._uncommitted.count >= share * count or self._uncommitted.bytes >= share * size

    def _adjust(self) -> None:
        """Rest while enough is held; polling goes on, so that the group keeps this worker."""
        if not self.paused and self._is_full():
            self._consumer.pause(self._consumer.assignment())
            self.paused = True
        elif self.paused and not self._is_full(0.5):
            self._consumer.resume(self._consumer.assignment())
            self.paused = False

    def _on_assign(self, consumer: Any, partitions: Iterable[Any]) -> None:
        self.rebalances += 1
        self._membership = None
        self._assigned |= {(one.topic, one.partition) for one in partitions}
        consumer.incremental_assign(list(partitions))
        if self.paused:
            consumer.pause(list(partitions))

    def _on_revoke(self, consumer: Any, partitions: Iterable[Any]) -> None:
        """Forget partitions once the transaction in work is over, which may commit of them."""
        self.rebalances += 1
        gone = [(one.topic, one.partition) for one in partitions]
        self._revoke(gone)
        self._assigned -= set(gone)
        self._on_revoked(gone)

    def _revoke(self, partitions: list[Partition] | None) -> None:
        """Forget partitions, or all of them, once the transaction in work is over.

        One that never ends must not commit any more; its brokers give it up in time.
        """
        ended = self._committing.acquire(timeout=0 if self._broken else STUCK_SECONDS)
        self._broken = self._broken or not ended
        try:
            if partitions is None:
                self._broken = True
                self._uncommitted.revoke_all()
            else:
                self._uncommitted.revoke(partitions)
            self._membership = None
        finally:
            if ended:
                self._committing.release()

    def _check_topics(self) -> None:
        try:
            known = self._consumer.list_topics(timeout=_METADATA_SECONDS).topics
        except self._kafka.KafkaException as error:
            raise Unavailable(
                f"no broker answers at {self._config.bootstrap} ({error.args[0].str()}); start "
                "one, or check --bootstrap and its security"
            ) from error
        config = self._config
        for topic in filter(
            None, (config.frames, config.detections, config.dead_letters, config.feedback)
        ):
            if topic not in known:
                # Asked for by name, the broker reports whether it is missing or not allowed.
                found = self._consumer.list_topics(topic, _METADATA_SECONDS).topics[topic]
                if found.error is not None:
                    raise self._refusal(found.error, topic)

    def _check_compression(self, common: Mapping[str, Any]) -> None:
        """Warn of topics whose messages may be unpacked to any size, before this worker sees them.

        Brokers bound what came packed, unless the topic states that it lies there unpacked.
        """
        library = self._kafka.admin
        client = library.AdminClient(common)
        topics = filter(None, (self._config.frames, self._config.feedback))
        asked = client.describe_configs(
            [library.ConfigResource(library.ResourceType.TOPIC, topic) for topic in topics],
            request_timeout=_REQUEST_SECONDS,
        )
        for topic, answer in asked.items():
            with contextlib.suppress(self._kafka.KafkaException):  # it may not ask
                if answer.result()["compression.type"].value != "uncompressed":
                    _log.warning(
                        "the topic %s takes compressed messages, which may unpack to any size; set "
                        "its compression.type to uncompressed",
                        topic.name,
                    )

    def _note_unreadable(self, message: Any) -> None:
        codes, place = self._kafka.KafkaError, (message.topic(), message.partition())
        if message.error().code() in (codes._BAD_COMPRESSION, codes._BAD_MSG):
            if place not in self._unreadable:
                _log.error(
                    "%s [%s] has messages at %s that cannot be unpacked (%s); move the group's "
                    "offset behind them",
                    *place,
                    message.offset(),
                    message.error().str(),
                )
            self._unreadable.add(place)

    def _check(self, error: Any) -> None:
        """Raise for an error that waiting does not mend; librdkafka tries others again itself."""
        codes = self._kafka.KafkaError
        if error.code() in (
            codes.TOPIC_AUTHORIZATION_FAILED,
            codes.GROUP_AUTHORIZATION_FAILED,
            codes.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            codes.CLUSTER_AUTHORIZATION_FAILED,
            codes.UNKNOWN_TOPIC_OR_PART,
            codes._AUTHENTICATION,
        ) or (error.fatal()):
            raise self._refusal(error)

    def _refusal(self, error: Any, topic: str = "") -> GearshiftError:
        codes = self._kafka.KafkaError
        at = f"the brokers at {self._config.bootstrap}"
        if error.code() in (codes.UNKNOWN_TOPIC_OR_PART, codes._UNKNOWN_TOPIC):
            return Unavailable(f"{at} have no topic {topic or error.str()}; create it")
        if "AUTHORIZATION" in error.name():
            return Unavailable(
                f"{at} refuse {topic or 'this worker'} ({error.str()}); grant its user Read on the "
                "group and the topics it reads, Write on the others and on its transactional id"
            )
        if error.code() == codes._AUTHENTICATION:
            return Unavailable(f"{at} refuse the credentials ({error.str()}); check them")
        return ConnectionLost(f"{at} failed: {error.str()}")


def _held(message: Any) -> HeldMessage:
    """A message of the client library."""
    try:
        headers = message.headers() or []
    except (SystemError, UnicodeDecodeError):  # of a header's name
        headers = None
    key, value = message.key(), message.value()
    size = len(key or b"") + len(value or b"") + sum(header_bytes(*one) for one in headers or ())
    place = message.topic(), message.partition()
    return HeldMessage(place, message.offset(), size, key, value, headers)
