"""A worker on Apache Kafka's own broker: each message has one outcome, each camera its order."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, jpeg
from kafka_samples import Record, Topics, worker
from processes import until

from inference_graph.prediction_log.reader import read_feedback, read_log

DEAD = "gearshift-error"


def of_camera(records: list[Record], camera: str) -> list[str]:
    return [one["value"]["frame"] for one in records if one["key"] == camera]


def test_each_frame_is_answered_once_and_in_order(
    topics: Topics, rungs: Rungs, tmp_path: Path
) -> None:
    camera = topics.camera()
    for number in range(60):
        camera.send(jpeg(number % 3), f"cam-{number % 3}")
    camera.flush()
    with worker(topics.config(), rungs, log_url=str(tmp_path)) as gateway:
        found = topics.read("detections", 60)
        metrics = gateway.http.get("/metrics").text
        assert gateway.runtime.log.flush()
    for index in range(3):
        expected = [str(number) for number in range(60) if number % 3 == index]
        assert of_camera(found, f"cam-{index}") == expected
    assert 'gearshift_kafka_messages_total{outcome="answered"} 60.0' in metrics
    assert "gearshift_kafka_up 1.0" in metrics
    rows = read_log(str(tmp_path)).to_pylist()
    assert {one["value"]["event_id"] for one in found} == {row["event_id"] for row in rows}
    assert len(rows) == 60 and {row["source"] for row in rows} == {"kafka"}
    # Each camera is a session of its own, whose frames are numbered from 0.
    for session in {row["session"] for row in rows}:
        numbers = sorted(row["frame_id"] for row in rows if row["session"] == session)
        assert numbers == list(range(20))
    first = found[0]
    assert first["headers"]["ce_type"] == "dev.gearshift.detections.v1"
    assert first["headers"]["ce_id"] == first["value"]["event_id"]
    (seen,) = first["value"]["detections"]
    assert (seen["name"], first["value"]["answered_by"]) == ("car", "nano")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "empty": ({"value": b""}, "400", "the value is empty"),
    "tombstone": ({"value": None}, "400", "the value is empty"),
    "no image": ({"value": b"no image at all"}, "415", "image"),
    "cut short": ({"value": jpeg()[:300]}, "400", ""),
    "too large": ({"value": b"\xff" * 200_000}, "413", "100000 are allowed"),
    "content type": ({"content_type": "text/plain"}, "415", "content-type 'text/plain'"),
    "no content type": ({"content_type": None}, "415", "content-type ''"),
    "version": ({"ce_type": "dev.gearshift.frame.v2"}, "400", "schema version 2"),
    "kind": ({"ce_type": "com.example.other"}, "400", "send dev.gearshift.frame.v1"),
    "no kind": ({"ce_type": None}, "400", "the header ce_type is missing"),
    "spec": ({"ce_specversion": "0.3"}, "400", "ce_specversion is '0.3'"),
    "no id": ({"ce_id": None}, "400", "the header ce_id is missing"),
    "long id": ({"ce_id": "x" * 201}, "400", "ce_id is not 1 to 200"),
    "no time": ({"ce_time": None}, "400", "ce_time is missing"),
    "naive time": ({"ce_time": "2026-11-21T12:00:00"}, "400", "has no time zone"),
    "odd time": ({"ce_time": "yesterday"}, "400", "no RFC 3339 time"),
    "no camera": ({"key": None}, "400", "the key is no camera's name"),
    "odd camera": ({"key": "../etc"}, "400", "the key is no camera's name"),
    "long camera": ({"key": "c" * 71}, "400", "the key has 71 characters"),
    "reference": (
        {
            "value": b'{"url": "s3://else/where.jpg"}',
            "content_type": "application/vnd.gearshift.reference+json",
        },
        "403",
        "no object below the prefix",
    ),
}


def test_what_cannot_be_used_is_a_dead_letter_with_its_reason(topics: Topics, rungs: Rungs) -> None:
    camera = topics.camera()
    for given, _, _ in BAD.values():
        camera.send(**given)
    camera.send(ce_id="good")
    camera.flush()
    with worker(topics.config(), rungs, max_body=100_000):
        (answer,) = topics.read("detections", 1)
        letters = topics.read("dead_letters", len(BAD))
    assert answer["value"]["frame"] == "good"
    by_offset = {
        (one["headers"]["gearshift-partition"], one["headers"]["gearshift-offset"]): one
        for one in letters
    }
    assert len(by_offset) == len(BAD)
    found = {(one["headers"]["gearshift-status"], one["headers"][DEAD]) for one in letters}
    for name, (_, status, reason) in BAD.items():
        assert any(code == status and reason in text for code, text in found), (name, found)
    # Its own key, headers and value are there as well.
    (letter,) = [one for one in letters if one["value"] == b"no image at all"]
    assert letter["key"] == "cam" and letter["headers"]["ce_source"] == "/cameras/cam"


def test_old_and_repeated_frames_are_skipped_and_a_clock_ahead_is_reported(
    topics: Topics, rungs: Rungs
) -> None:
    now = datetime.now(UTC)
    camera = topics.camera()
    camera.send(ce_id="old", ce_time=(now - timedelta(hours=1)).isoformat())
    camera.send(ce_id="future", ce_time=(now + timedelta(hours=1)).isoformat())
    camera.send(ce_id="same")
    camera.send(ce_id="same")
    camera.flush()
    with worker(topics.config(max_age=600), rungs) as gateway:
        old, future, same, repeated = (one["value"] for one in topics.read("detections", 4))
        metrics = gateway.http.get("/metrics").text
    assert (old["type"], old["reason"]) == ("skipped", "age")
    assert 3.6e6 <= old["age_ms"] < 3.7e6
    assert (future["type"], future["age_ms"]) == ("detections", 0)
    assert 3.5e6 < future["clock_ahead_ms"] <= 3.6e6
    assert (same["type"], same["clock_ahead_ms"]) == ("detections", 0)
    assert (repeated["type"], repeated["reason"]) == ("skipped", "duplicate")
    assert repeated["event_id"] == same["event_id"]
    assert "gearshift_kafka_clock_ahead_total 1.0" in metrics


def test_a_reference_is_read_from_where_the_operator_allows(
    topics: Topics, rungs: Rungs, references: Path
) -> None:
    image = jpeg()
    (references / "a.jpg").write_bytes(image)
    (references.parent / "secret.jpg").write_bytes(image)
    digest = hashlib.sha256(image).hexdigest()
    prefix = references.as_uri() + "/"
    camera = topics.camera()

    def refer(**value: str) -> None:
        kind = "application/vnd.gearshift.reference+json"
        camera.send(json.dumps(value).encode(), content_type=kind)

    refer(url=prefix + "a.jpg", sha256=digest)
    refer(url=prefix + "a.jpg", sha256="0" * 64)
    refer(url=prefix + "missing.jpg")
    refer(url=prefix + "../secret.jpg")
    refer(url=prefix + "a.jpg", more="x")
    camera.flush()
    with worker(topics.config(references=prefix), rungs):
        (answer,) = topics.read("detections", 1)
        letters = topics.read("dead_letters", 4)
    assert answer["value"]["frame"] == "0"
    codes = [one["headers"]["gearshift-status"] for one in letters]
    assert codes == ["400", "404", "403", "400"]


def test_frames_wait_while_no_rung_answers(topics: Topics, rungs: Rungs) -> None:
    for rung in rungs.values():
        rung.failing = True
    camera = topics.camera()
    for _ in range(3):
        camera.send()
    camera.flush()
    with worker(topics.config(), rungs, ready=False, breaker_failures=1) as gateway:
        until(lambda: "gearshift_kafka_held_messages 3.0" in gateway.http.get("/metrics").text)
        for rung in rungs.values():
            rung.failing = False
        found = topics.read("detections", 3)
    assert of_camera(found, "cam") == ["0", "1", "2"]


def test_reading_rests_while_enough_is_held(topics: Topics, rungs: Rungs) -> None:
    rungs["nano"].delay = 0.02
    camera = topics.camera()
    for _ in range(80):
        camera.send()
    camera.flush()
    held = []
    with worker(topics.config(held_messages=8), rungs) as gateway:
        while len(held) < 10:
            held.append(
                gateway.runtime.metrics.registry.get_sample_value("gearshift_kafka_held_messages")
            )
        found = topics.read("detections", 80)
    assert max(held) <= 8
    assert of_camera(found, "cam") == [str(number) for number in range(80)]


def test_a_second_worker_takes_a_share_and_nothing_is_doubled(topics: Topics, rungs: Rungs) -> None:
    from gateway_samples import again

    rungs["nano"].delay = 0.005
    camera = topics.camera()
    cameras = [f"cam-{index}" for index in range(8)]
    with worker(topics.config(worker="one"), rungs):
        for _ in range(10):
            for name in cameras:
                camera.send(key=name)
        camera.flush()
        topics.read("detections", 20)
        with worker(topics.config(worker="two"), again(rungs)) as second:
            until(
                lambda: second.runtime.metrics.registry.get_sample_value(
                    "gearshift_kafka_rebalances_total"
                )
            )
            for _ in range(10):
                for name in cameras:
                    camera.send(key=name)
            camera.flush()
            found = topics.read("detections", 160)
            answered = second.runtime.metrics.registry.get_sample_value(
                "gearshift_kafka_messages_total", {"outcome": "answered"}
            )
    assert len(found) == 160 and answered and answered > 0
    for index, name in enumerate(cameras):
        assert of_camera(found, name) == [str(index + 8 * turn) for turn in range(20)]


def test_feedback_by_topic_meets_the_quarantine_and_the_quota(
    topics: Topics, rungs: Rungs, tmp_path: Path
) -> None:
    camera = topics.camera()
    camera.send()
    camera.flush()
    config = topics.config(feedback=topics.names["feedback"])
    settings = {"log_url": str(tmp_path), "event_key": "secret", "feedback_per_day": 1}
    with worker(config, rungs, **settings) as gateway:
        (answer,) = topics.read("detections", 1)
        event_id = answer["value"]["event_id"]

        def give(**body: Any) -> None:
            kind = "dev.gearshift.feedback.v1"
            camera.send(
                json.dumps(body).encode(),
                event_id,
                topics.names["feedback"],
                ce_type=kind,
                content_type="application/json",
            )

        give(event_id=event_id, kind="confirm")
        give(event_id=event_id, kind="confirm", note="a second piece")
        give(event_id="f" * 32, kind="confirm")
        give(event_id=event_id, kind="perhaps")
        camera.flush()
        letters = topics.read("dead_letters", 3)
        assert gateway.runtime.log.flush()
    codes = [one["headers"]["gearshift-status"] for one in letters]
    assert sorted(codes) == ["400", "404", "429"]
    (row,) = read_feedback(str(tmp_path)).to_pylist()
    assert (row["event_id"], row["client"], row["kind"]) == (event_id, "kafka", "confirm")


@pytest.mark.parametrize("missing", ["frames", "detections"])
def test_a_missing_topic_is_named_until_somebody_makes_it(
    topics: Topics, rungs: Rungs, missing: str
) -> None:
    name = f"later-{topics.mark}"
    with worker(topics.config(**{missing: name}), rungs, ready=False) as gateway:
        answer = until(
            lambda: (
                (found := gateway.http.get("/readyz")).status_code == 503
                and f"no topic {name}; create it" in found.text
                and found
            )
        )
        assert answer
        topics.broker.create_topics(1, name)
        until(lambda: gateway.http.get("/readyz").status_code == 200)
