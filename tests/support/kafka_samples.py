"""What the tests of Kafka share: cameras, readers, and workers of the product."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from gateway_samples import Served, gateway_settings, jpeg, served
from processes import until

from inference_graph.streams.config import KafkaConfig
from inference_graph.streams.serve import with_kafka
from pipelines.streams.local_broker import LocalBroker

Record = dict[str, Any]
"""topic, partition, offset, key, headers and value of a message that was read."""


@dataclass
class Topics:
    """Topics of one test, on a broker that others use as well."""

    broker: LocalBroker
    partitions: int = 2
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        self.broker.create_topics(self.partitions, *self.names.values())

    @property
    def names(self) -> dict[str, str]:
        kinds = ("frames", "detections", "dead_letters", "feedback")
        return {kind: f"{kind}-{self.mark}" for kind in kinds}

    def config(self, **more: Any) -> KafkaConfig:
        names = {key: name for key, name in self.names.items() if key != "feedback"}
        given = {"bootstrap": self.broker.bootstrap, "group": self.mark, "session_seconds": 6.0}
        return KafkaConfig(**(given | names | more))

    def limit(self, kind: str, most: int, compression: str = "producer") -> None:
        """Let a topic take messages of so many bytes at most, and keep them as the type states."""
        from confluent_kafka import admin

        client = admin.AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        values = {"max.message.bytes": str(most), "compression.type": compression}
        set_to = admin.AlterConfigOpType.SET
        wanted = admin.ConfigResource(
            admin.ResourceType.TOPIC,
            self.names[kind],
            incremental_configs=[
                admin.ConfigEntry(name, value, incremental_operation=set_to)
                for name, value in values.items()
            ],
        )
        for altered in client.incremental_alter_configs([wanted]).values():
            altered.result(30)

    def camera(self) -> Camera:
        return Camera(self.broker.bootstrap, self.names["frames"])

    def read(self, kind: str, count: int, seconds: float = 60) -> list[Record]:
        """So many messages of a topic that are committed, or fewer when the time is over."""
        return read(self.broker.bootstrap, self.names[kind], count, seconds)


class Camera:
    """Publishes frames; each has the next number as its id unless another is given."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        from confluent_kafka import Producer

        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0}
        )
        self._topic = topic
        self.sent = 0

    def send(
        self,
        value: bytes | None = jpeg(),
        key: str | None = "cam",
        topic: str = "",
        came_ms: int = 0,
        **headers: str | None,
    ) -> None:
        """Publish a message, now or as if at a time; a header of None is left out."""
        given: dict[str, str | None] = {
            "ce_specversion": "1.0",
            "ce_type": "dev.gearshift.frame.v1",
            "ce_id": str(self.sent),
            "ce_source": f"/cameras/{key}",
            "ce_time": datetime.now(UTC).isoformat(),
            "content-type": "image/jpeg",
        }
        given |= {name.replace("content_type", "content-type"): v for name, v in headers.items()}
        kept = [(name, text.encode()) for name, text in given.items() if text is not None]
        self._producer.produce(topic or self._topic, value, key, headers=kept, timestamp=came_ms)
        self._producer.poll(0)
        self.sent += 1

    def flush(self) -> None:
        assert self._producer.flush(60) == 0


def read(bootstrap: str, topic: str, count: int, seconds: float = 60) -> list[Record]:
    from confluent_kafka import Consumer

    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": uuid.uuid4().hex,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "log_level": 0,
        }
    )
    consumer.subscribe([topic])
    found: list[Record] = []
    end = time.monotonic() + seconds
    try:
        while len(found) < count and time.monotonic() < end:
            message = consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            headers = {name: (text or b"").decode() for name, text in message.headers() or []}
            kind = headers.get("content-type", "")
            value = message.value()
            is_json = kind == "application/json" and "gearshift-error" not in headers
            found.append(
                {
                    "partition": message.partition(),
                    "offset": message.offset(),
                    "key": (message.key() or b"").decode(),
                    "headers": headers,
                    "value": json.loads(value) if is_json else value,
                }
            )
    finally:
        consumer.close()
    return found


@contextmanager
def worker(
    config: KafkaConfig, rungs: Mapping[str, Any], ready: bool = True, **settings: Any
) -> Iterator[Served]:
    """A gateway of this process that takes frames from Kafka."""
    made, background = with_kafka(gateway_settings(**settings), config)
    with served(made, rungs, background) as gateway:
        if ready:
            until(lambda: gateway.http.get("/readyz").status_code == 200)
        yield gateway
