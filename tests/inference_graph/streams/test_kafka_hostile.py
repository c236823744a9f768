"""Messages of a hostile camera: each becomes a dead letter, and none stops the frames behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, jpeg
from kafka_samples import Topics, worker
from processes import until

from foundation.errors import ConfigurationError, Forbidden, GearshiftError, NotFound
from inference_graph.streams.broker import _held
from inference_graph.streams.config import KafkaConfig
from inference_graph.streams.dead_letters import dead_letter
from inference_graph.streams.messages import read_headers
from inference_graph.streams.references import References
from inference_graph.streams.uncommitted import HeldMessage

Send = Callable[..., None]

# What Kafka's brokers take by default is longer than what a producer sends by default.
POISON: dict[str, dict[str, Any]] = {
    "a long header": {"headers": {"x": b"y" * 1_040_000}},
    "a long key": {"key": b"k" * 1_040_000},
    "value and header": {"value": b"no" * 250_000, "headers": {"x": b"y" * 500_000}},
    "more than the dead letters' topic takes": {"value": b"no" * 60_000},
    "a year that ends in another zone": {"headers": {"ce_time": b"0001-01-01T00:00:00+23:59"}},
    "a forged reason": {"value": b"no", "headers": {"Gearshift-Error": b"nothing is wrong"}},
}


def publish(
    topics: Topics, value: bytes = b"no image", key: bytes = b"cam", headers: Any = None
) -> None:
    from confluent_kafka import Producer

    attributes = {
        "ce_type": b"dev.gearshift.frame.v1",
        "ce_id": b"poison",
        "ce_source": b"/cameras/cam",
        "ce_time": datetime.now(UTC).isoformat().encode(),
        "content-type": b"image/jpeg",
    }
    bootstrap = topics.broker.bootstrap
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 2_000_000})
    given = [*(attributes | (headers or {})).items()]
    producer.produce(topics.names["frames"], value, key, 0, headers=given)
    assert producer.flush(30) == 0


def test_no_message_holds_up_those_behind_it(topics: Topics, rungs: Rungs) -> None:
    topics.limit("dead_letters", 100_000)
    for given in POISON.values():
        publish(topics, **given)
    publish(topics, jpeg(), b"other", {"ce_id": b"good"})
    with worker(topics.config(), rungs):
        (answer,) = topics.read("detections", 1)
        letters = topics.read("dead_letters", len(POISON))
    assert answer["value"]["frame"] == "good"
    at = {int(one["headers"]["gearshift-offset"]): one["headers"] for one in letters}
    found = dict(zip(POISON, (at[offset] for offset in sorted(at)), strict=True))
    assert found["a long header"]["gearshift-status"] == "400"
    assert "gearshift-headers" in found["a long header"]
    assert found["value and header"]["gearshift-value"].startswith("left out")
    refused = found["more than the dead letters' topic takes"]
    assert refused["gearshift-status"] == "413" and "gearshift-value" in refused
    assert "no RFC 3339 time" in found["a year that ends in another zone"]["gearshift-error"]
    assert "Gearshift-Error" not in found["a forged reason"]


def test_a_topic_that_takes_no_letter_is_named(topics: Topics, rungs: Rungs) -> None:
    topics.limit("dead_letters", 120)
    publish(topics)
    with worker(topics.config(), rungs, ready=False) as gateway:
        until(lambda: "refuses dead letters" in gateway.http.get("/readyz").text)


class OddMessage:
    """What the client library gives of a message whose header's name is no UTF-8."""

    def headers(self) -> Any:
        raise SystemError("a result with an exception set")

    topic, partition, offset = (lambda self: "t"), (lambda self: 0), (lambda self: 7)
    key, value = (lambda self: b"key"), (lambda self: b"value")


def test_header_names_that_are_no_text_are_refused() -> None:
    held = _held(OddMessage())
    with pytest.raises(GearshiftError, match="no UTF-8") as error:
        read_headers(held.headers)
    letter = dead_letter("letters", held, error.value)
    assert (letter.key, letter.value) == (b"key", b"value")


def test_headers_and_key_count_as_held() -> None:
    class Message(OddMessage):
        def headers(self) -> Any:
            return [("x", b"y" * 1000)] * 3 + [("empty", None)]

    assert 3000 < _held(Message()).size < 3200


def test_a_reference_reaches_nothing_beside_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for name in ("secret.jpg", "frames/a b.jpg", "frames/packed.gz"):
        (tmp_path / name).write_bytes(b"image")
    (folder / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    prefix = folder.as_uri() + "/"
    places = References(prefix)

    def read(url: str) -> bytes:
        return places.read(json.dumps({"url": url}).encode(), 1000)

    assert read(prefix + "a%20b.jpg") == read(prefix + "a b.jpg") == b"image"
    assert read(prefix + "packed.gz") == b"image"  # as it lies there
    outside = [
        "%2e%2e/secret.jpg",
        "%2E%2E%2Fsecret.jpg",
        "../secret.jpg",
        "./../secret.jpg",
        "link.jpg",
        "a.jpg?endpoint_override=127.0.0.1:1",
        "a\r\nb.jpg",
        "%00",
        "/etc/passwd",
        "",
    ]
    for name in outside:
        with pytest.raises(Forbidden):
            read(prefix + name)
    with pytest.raises(Forbidden):
        read((tmp_path / "frames-of-others").as_uri() + "/a.jpg")
    for name in ("none.jpg", "%3Fendpoint_override=127.0.0.1:1", "a.jpg%23"):
        with pytest.raises(NotFound):
            read(prefix + name)
    with pytest.raises(ConfigurationError, match="end it with a slash"):
        KafkaConfig(references="s3://frames")


def test_a_letter_has_no_more_than_its_limit() -> None:
    headers = [("x", b"y" * 10)] * 100_000
    held = HeldMessage(("t", 0), 0, 0, b"k" * 5000, b"v", list(headers))
    letter = dead_letter("letters", held, GearshiftError("no"))
    assert letter.key is letter.value is None and len(letter.headers) == 7


def test_a_topic_whose_messages_may_grow_is_warned_of(
    topics: Topics, rungs: Rungs, caplog: pytest.LogCaptureFixture
) -> None:
    topics.limit("frames", 1_000_000, compression="producer")
    with worker(topics.config(feedback=topics.names["feedback"]), rungs, event_key="k" * 32):
        warned = [one.args for one in caplog.records if "may unpack to any size" in one.msg]
    assert warned == [(topics.names["frames"],)]
