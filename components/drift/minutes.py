"""Frames of a Kafka topic of camera minutes, as drift reads those of a prediction log.

The job that prepares frames publishes a few frames of each camera's minute with their figures, so
that drift is seen before anything has answered. There are no answers, so only inputs are compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyarrow as pa
from pydantic import ValidationError

from foundation.errors import ConfigurationError, InvalidInput, StorageError
from inference_graph.prediction_log.row import SCHEMA
from inference_graph.streams.broker import kafka
from inference_graph.streams.config import BrokerConfig, client_options
from inference_graph.streams.minutes import MINUTE, MINUTE_MS, MinuteEvent, sample_row

SCHEME = "kafka://"
INPUTS_ONLY = "inputs_only"
"""Column that is true where a frame has no answer because no rung was asked."""
_COLUMNS = ("time", "session", "brightness", "edge_density", "blur", "noise", "observation")
_SECONDS = 10.0


def read_minutes(url: str, since: datetime | None, until: datetime | None) -> pa.Table:
    """The frames that minutes of a topic hold, by rising time.

    Args:
        url: ``kafka://HOST:PORT/TOPIC``, several brokers separated by commas; behind ``?`` come
            options of :class:`BrokerConfig`, as ``security=sasl_ssl&ca=/etc/ca.pem``.
        since: from this time on, aware.
        until: before this time, aware.

    Raises:
        ConfigurationError: no such address, a wrong option or a missing secret.
        InvalidInput: a message of the topic is no minute.
        StorageError: the brokers do not answer, or have no such topic.
    """
    brokers, topic = _place(url)
    rows = []
    for event in _events(brokers, topic, since):
        for sample in event.samples:
            if (since is None or sample.captured >= since) and (
                until is None or sample.captured < until
            ):
                rows.append(sample_row(event, sample))
    rows.sort(key=lambda row: row["time"])
    columns = {
        name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type)
        for name in _COLUMNS
    }
    return pa.table({**columns, INPUTS_ONLY: pa.array([True] * len(rows), pa.bool_())})


def _place(url: str) -> tuple[BrokerConfig, str]:
    parts = urlsplit(url)
    topic = parts.path.strip("/")
    if not url.startswith(SCHEME) or not parts.netloc or not topic or "/" in topic:
        raise ConfigurationError(f"{url!r} is no topic; give kafka://HOST:PORT/TOPIC")
    options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    return BrokerConfig(**{**options, "bootstrap": parts.netloc}), topic


def _events(brokers: BrokerConfig, topic: str, since: datetime | None) -> Iterator[MinuteEvent]:
    """Minutes that are in a topic now; a minute's message has the time of its end."""
    client = kafka()
    consumer = client.Consumer(
        client_options(brokers)
        | {
            "group.id": "gearshift-drift",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        places = _begin(consumer, client, topic, since)
        consumer.assign(places)
        left = {one.partition for one in places}
        while left:
            message = consumer.poll(_SECONDS)
            if message is None:
                raise StorageError(f"the brokers at {brokers.bootstrap} do not answer; try again")
            if message.error() is None:
                yield _event(message)
            elif message.error().code() == client.KafkaError._PARTITION_EOF:
                left.discard(message.partition())
            else:
                raise client.KafkaException(message.error())
    except client.KafkaException as error:
        raise StorageError(
            f"topic {topic} at {brokers.bootstrap} cannot be read ({error.args[0].str()}); check "
            "the address, the topic and the rights to it"
        ) from error
    finally:
        consumer.close()


def _begin(consumer: Any, client: Any, topic: str, since: datetime | None) -> list[Any]:
    """Where to begin in each partition."""
    found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
    if found.error is not None:
        raise client.KafkaException(found.error)
    if since is None:
        return [
            client.TopicPartition(topic, one, client.OFFSET_BEGINNING) for one in found.partitions
        ]
    # A frame whose clock was behind may stand in a later minute, never in an earlier one.
    begin = int(since.timestamp() * 1000) // MINUTE_MS * MINUTE_MS
    wanted = [client.TopicPartition(topic, one, begin) for one in found.partitions]
    return list(consumer.offsets_for_times(wanted, timeout=_SECONDS))


def _event(message: Any) -> MinuteEvent:
    place = f"message {message.offset()} of partition {message.partition()} of {message.topic()}"
    kind = dict(message.headers() or ()).get("ce_type", b"").decode("utf-8", "replace")
    if kind != MINUTE:
        raise InvalidInput(f"{place} has ce_type {kind[:60]!r}; name a topic of {MINUTE}")
    try:
        return MinuteEvent.model_validate_json(message.value() or b"")
    except ValidationError as error:
        raise InvalidInput(f"{place} is no minute: {error.errors()[0]['msg']}") from error
