"""A topic of camera minutes, read by drift as it reads a log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from components.drift.check import Compared, check_drift
from components.drift.config import DriftConfig
from components.drift.minutes import read_minutes
from components.drift.window import WindowConfig
from foundation.errors import ConfigurationError, InvalidInput, StorageError
from inference_graph.streams.messages import FrameMessage
from inference_graph.streams.minutes import MINUTE_MS, CameraState, minute_message
from inference_graph.streams.preparation import PreparationConfig, prepare

if TYPE_CHECKING:
    from kafka_samples import Topics

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
PREPARATION = PreparationConfig(samples=2)


def publish(topics: Topics, topic: str, minutes: int, grey: float) -> None:
    """A minute each of three cameras, whose scenes are about this bright."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": topics.broker.bootstrap})
    random = np.random.default_rng(int(grey))
    for minute in range(minutes):
        for camera in ("door", "gate", "yard"):
            state = CameraState()
            for number in range(2):
                when = START + timedelta(minutes=minute, seconds=20 * number)
                frame = FrameMessage(camera, f"{minute} {number}", "/c", when, b"", False)
                came = int(when.timestamp() * 1000)
                at = state.minute_of(frame, came, -1)
                scene = np.clip(random.normal(random.normal(grey, 12), 30, (24, 32)), 0, 255)
                data = cv2.imencode(".png", scene.astype(np.uint8))[1].tobytes()
                state.add(at, frame, prepare(data, PREPARATION), PREPARATION)
            assert at is not None
            event = state.close(at)
            assert event is not None
            message = minute_message(topic, event, "/job")
            producer.produce(
                topic, message.value, message.key, headers=message.headers, timestamp=at + MINUTE_MS
            )
    assert producer.flush(30) == 0


def test_drift_of_the_inputs_is_found_in_a_topic(topics: Topics, tmp_path: Path) -> None:
    usual, same, dark = (f"{name}-{topics.mark}" for name in ("usual", "same", "dark"))
    topics.broker.create_topics(2, usual, same, dark)
    for topic, grey in ((usual, 140), (same, 141), (dark, 90)):
        publish(topics, topic, 20, grey)
    at = f"kafka://{topics.broker.bootstrap}"
    config = DriftConfig(tabular=False, spacing=1, permutations=200, embedding="numpy")
    window = WindowConfig(hours=0)

    def check(topic: str) -> dict[str, float | None]:
        compared = Compared(f"{at}/{usual}", "", "")
        check_drift(f"{at}/{topic}", compared, window, tmp_path, config, START + timedelta(hours=1))
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["window"]["frames"] == 120 and report["window"]["streams"] == 3
        return {one["name"]: one["p_value"] for one in report["comparisons"]}

    calm, moved = check(same), check(dark)
    assert calm["brightness"] is not None and calm["brightness"] > 0.01
    assert moved["brightness"] is not None and moved["brightness"] < 1e-10
    assert moved["embedding"] is not None and moved["embedding"] <= 0.01
    # Nothing has answered, so there is nothing to compare.
    assert {moved[name] for name in ("objects", "confidence", "classes", "rungs")} == {None}
    # A window of some minutes, of one camera.
    since, until = START + timedelta(minutes=5), START + timedelta(minutes=7, seconds=20)
    found = read_minutes(f"{at}/{dark}", since, until)
    assert len(found) == 3 * 5 and set(found["session"].to_pylist()) == {"door", "gate", "yard"}
    assert min(found["time"].to_pylist()) == since


def test_what_is_no_topic_of_minutes_is_refused(topics: Topics) -> None:
    at = f"kafka://{topics.broker.bootstrap}"
    camera = topics.camera()
    camera.send()
    camera.flush()
    with pytest.raises(InvalidInput, match=r"has ce_type 'dev.gearshift.frame.v1'"):
        read_minutes(f"{at}/{topics.names['frames']}", None, None)
    with pytest.raises(StorageError, match="topic nowhere at"):
        read_minutes(f"{at}/nowhere", None, None)
    for wrong in (at, f"{at}/a/b", "kafka:///topic"):
        with pytest.raises(ConfigurationError, match="is no topic"):
            read_minutes(wrong, None, None)
    with pytest.raises(ConfigurationError):
        read_minutes(f"{at}/topic?security=none", None, None)
