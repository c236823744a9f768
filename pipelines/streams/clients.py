"""Cameras that publish to a topic, and a reader of the answers that are committed."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from foundation.errors import Unavailable
from inference_graph.streams.broker import kafka
from inference_graph.streams.messages import FRAME, event_headers

_FLUSH_SECONDS = 120.0


class FramePublisher:
    """Publishes frames of several cameras, numbered over all of them.

    Attributes:
        sent: frames published so far.
    """

    def __init__(self, bootstrap: str, topic: str, cameras: int) -> None:
        """Connect.

        Args:
            bootstrap: the brokers.
            topic: of the frames.
            cameras: how many take turns; their names are cam-0, cam-1, …
        """
        self._producer = kafka().Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 0}
            | {"log_level": 0}
        )
        self._topic, self._cameras = topic, cameras
        self.sent = 0

    def send(self, image: bytes) -> int:
        """Publish the next frame and return its number; it is delivered in the background."""
        camera = f"cam-{self.sent % self._cameras}"
        headers = event_headers(FRAME, str(self.sent), f"/cameras/{camera}", datetime.now(UTC))
        headers = [(name, b"image/jpeg" if name == "content-type" else v) for name, v in headers]
        while True:
            try:
                self._producer.produce(self._topic, image, camera, headers=headers)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        self.sent += 1
        return self.sent - 1

    def flush(self) -> None:
        """Wait until all frames are stored.

        Raises:
            Unavailable: the brokers do not take them.
        """
        if left := self._producer.flush(_FLUSH_SECONDS):
            raise Unavailable(f"{left} frames could not be published; see the broker's log")


@dataclass(frozen=True)
class ReadAnswer:
    """An answer of the topic of detections.

    Attributes:
        camera: key of the message.
        value: the event.
        read: when it was read, in seconds of ``time.perf_counter``.
    """

    camera: str
    value: dict[str, Any]
    read: float

    @property
    def frame(self) -> int:
        """Number of the frame."""
        return int(self.value["frame"])


class AnswerReader:
    """Reads a topic of detections from its beginning, with ``isolation.level=read_committed``."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Assign all partitions.

        Args:
            bootstrap: the brokers.
            topic: of the detections.
        """
        client = kafka()
        self._consumer = client.Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": uuid.uuid4().hex,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        self._consumer.assign([client.TopicPartition(topic, number, 0) for number in partitions])

    def __enter__(self) -> AnswerReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, count: int, seconds: float) -> Iterator[ReadAnswer]:
        """The next answers, as they come; fewer when none comes for so many seconds."""
        for message in self._messages(count, seconds):
            value = json.loads(message.value())
            yield ReadAnswer(message.key().decode(), value, time.perf_counter())

    def event_ids(self, count: int, seconds: float) -> Iterator[str]:
        """The ids of the next events, whatever they hold, as :meth:`read` does."""
        for message in self._messages(count, seconds):
            yield dict(message.headers())["ce_id"].decode()

    def _messages(self, count: int, seconds: float) -> Iterator[Any]:
        last = time.monotonic()
        while count and time.monotonic() - last < seconds:
            message = self._consumer.poll(0.2)
            if message is None or message.error() is not None:
                continue
            count, last = count - 1, time.monotonic()
            yield message
