"""Feedback at the gateway: it keeps the frame it is about; no client gives more than a share."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from gateway_samples import Rungs, Served, again, gateway_settings, jpeg, received, served, talk

from foundation.errors import ConfigurationError, StorageError, TooManyRequests
from inference_graph.gateway.access import add_token
from inference_graph.gateway.feedback_quota import DailyQuota, known_to_log
from inference_graph.gateway.held_frames import HeldFrames
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.reader import read_feedback
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def detect(gateway: Served, data: bytes) -> str:
    answer = gateway.http.post(
        "/v1/detect", content=data, headers={"content-type": "image/jpeg"}
    ).json()
    return str(answer["event_id"])


def give(gateway: Served, event_id: str, **more: Any) -> httpx.Response:
    body = {"event_id": event_id, "kind": "confirm"} | more
    return gateway.http.post("/v1/feedback", json=body)


def stored(gateway: Served) -> list[dict[str, Any]]:
    assert gateway.runtime.log.flush()
    rows: list[dict[str, Any]] = read_feedback(gateway.runtime.settings.log_url).to_pylist()
    return rows


def test_the_frame_is_stored_beside_the_feedback(rungs: Rungs, tmp_path: Path) -> None:
    wide = jpeg(3, (480, 1280))
    exif = wide[:2] + b"\xff\xe1\x00\x16Exif\x00\x00owner: Anna B." + wide[2:]
    with served(gateway_settings(log_url=str(tmp_path), image_share=1e-9), rungs) as gateway:
        event_id = detect(gateway, exif)
        taken = give(gateway, event_id, kind="correct", boxes=[[640, 0, 1280, 480]], labels=[1])
        (row,) = stored(gateway)
    assert (taken.status_code, taken.json()["frame"]) == (202, "stored")
    assert (row["width"], row["height"], row["image_kept"]) == (1280, 480, True)
    assert row["boxes"] == [640, 0, 1280, 480]
    assert b"owner" not in row["image"]
    kept = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)
    sent = cv2.imdecode(np.frombuffer(wide, np.uint8), cv2.IMREAD_COLOR)
    assert kept.shape == (240, 640, 3)
    smaller = cv2.resize(sent, (640, 240), interpolation=cv2.INTER_AREA)
    assert np.abs(kept.astype(int) - smaller).mean() < 8  # it is that frame


def test_a_streams_frame_is_found_too(rungs: Rungs, tmp_path: Path) -> None:
    async def one(stream: Any) -> Any:
        await stream.send(jpeg())
        return await received(stream)

    with served(gateway_settings(log_url=str(tmp_path)), rungs) as gateway:
        event_id = talk(gateway.stream, one)["event_id"]
        assert give(gateway, event_id).json()["frame"] == "stored"


def test_a_missing_frame_is_reported(rungs: Rungs, tmp_path: Path) -> None:
    options: dict[str, Any] = {"log_url": str(tmp_path), "held_frames": 2, "image_share": 1e-9}
    with served(gateway_settings(**options), rungs) as gateway:
        ids = [detect(gateway, jpeg(seed)) for seed in range(3)]
        message = [give(gateway, event_id).json() for event_id in ids]
        kept = [row["image_kept"] for row in stored(gateway)]
    assert [one["frame"] for one in message] == ["gone", "stored", "stored"]
    assert "nothing can be trained on this" in message[0]["detail"]
    assert kept == [False, True, True]


def test_a_frame_that_the_log_keeps_is_not_gone(rungs: Rungs, tmp_path: Path) -> None:
    options: dict[str, Any] = {"log_url": str(tmp_path), "held_frames": 0, "image_share": 1.0}
    with served(gateway_settings(**options), rungs) as gateway:
        assert give(gateway, detect(gateway, jpeg())).json()["frame"] == "logged"


def test_where_no_images_may_be_kept_feedback_keeps_none(rungs: Rungs, tmp_path: Path) -> None:
    with served(gateway_settings(log_url=str(tmp_path), image_share=0.0), rungs) as gateway:
        event_id = detect(gateway, jpeg())
        assert gateway.runtime.feedback_frames.held.size == 0
        assert give(gateway, event_id).json()["frame"] == "gone"
        assert [row["image"] for row in stored(gateway)] == [None]


def test_a_user_gives_so_much_a_day_across_restarts(rungs: Rungs, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.jsonl"
    names = {name: add_token(tokens, name, ["stream", "feedback"]) for name in ("anna", "bert")}
    options: dict[str, Any] = {"tokens": tokens, "log_url": str(tmp_path / "log")}
    options |= {"event_key": "k", "feedback_per_day": 2}

    def by(gateway: Served, name: str, event_id: str) -> int:
        gateway.http.headers["authorization"] = f"Bearer {names[name]}"
        return give(gateway, event_id).status_code

    with served(gateway_settings(**options), rungs) as gateway:
        gateway.http.headers["authorization"] = f"Bearer {names['anna']}"
        ids = [detect(gateway, jpeg()) for _ in range(4)]
        assert [by(gateway, "anna", one) for one in (ids[0], ids[0], ids[1])] == [202] * 3
        assert by(gateway, "anna", ids[2]) == 429
    with served(gateway_settings(**options), again(rungs)) as gateway:
        assert by(gateway, "anna", ids[2]) == 429
        assert by(gateway, "anna", ids[1]) == 202  # known: it counts once
        assert [by(gateway, "bert", one) for one in ids[:3]] == [202, 202, 429]
        refused = give(gateway, ids[3]).json()["detail"]
        assert refused == (
            "bert gave 2 pieces of feedback today, and 2 are allowed; come back after midnight UTC"
        )


class TestQuota:
    def test_a_new_day_begins_at_midnight_utc(self) -> None:
        now = [NOON.replace(hour=23, minute=59)]
        asked: list[datetime] = []

        def known(since: datetime) -> list[tuple[str, str]]:
            asked.append(since)
            return [("anna", "a")] if since.day == 21 else []

        quota = DailyQuota(2, known, lambda: now[0])
        quota.take("anna", "a")
        quota.take("anna", "b")
        with pytest.raises(TooManyRequests, match="anna gave 2 pieces"):
            quota.take("anna", "c")
        quota.give_back("anna", "b")
        quota.take("anna", "c")
        now[0] += timedelta(minutes=1)
        quota.take("anna", "d")
        assert asked == [NOON.replace(hour=0), NOON.replace(day=22, hour=0)]

    def test_a_log_that_cannot_be_read_is_asked_again(self) -> None:
        answers: list[Any] = [StorageError("away"), []]

        def known(since: datetime) -> list[tuple[str, str]]:
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return list(answer)

        quota = DailyQuota(1, known, lambda: NOON)
        with pytest.raises(StorageError):
            quota.take("anna", "a")
        quota.take("anna", "a")

    def test_the_log_tells_what_was_given_before(self, tmp_path: Path) -> None:
        pieces = [
            Feedback(
                event_id=f"e{hour}", time=NOON.replace(hour=hour), client="anna", kind="confirm"
            )
            for hour in (1, 20)
        ]
        with PredictionLog(LogConfig(str(tmp_path))) as log:
            for piece in pieces:
                log.append_feedback(piece)
        known = known_to_log(str(tmp_path))
        assert known(NOON) == [("anna", pieces[1].feedback_id)]
        assert known_to_log(None)(NOON) == []


class TestHeldFrames:
    def test_the_oldest_of_a_client_gives_way(self) -> None:
        held = HeldFrames(2, 1000)
        for key in "abc":
            held.hold("one", key, key.encode())
        held.hold("two", "d", b"d")
        assert [held.get(key) for key in "abcd"] == [None, b"b", b"c", b"d"]

    def test_the_client_with_the_most_bytes_gives_way_first(self) -> None:
        held = HeldFrames(100, 100)
        held.hold("quiet", "q", bytes(10))
        for number in range(9):
            held.hold("busy", f"b{number}", bytes(20))
        assert held.get("q") == bytes(10)
        assert [held.get(f"b{number}") is not None for number in range(9)] == [False] * 5 + [
            True
        ] * 4
        assert held.size == 90

    def test_a_frame_larger_than_everything_is_not_held(self) -> None:
        held = HeldFrames(100, 10)
        held.hold("one", "a", bytes(5))
        held.hold("one", "b", bytes(11))
        assert (held.get("a"), held.get("b"), held.size) == (bytes(5), None, 5)

    def test_from_many_threads(self) -> None:
        held = HeldFrames(10, 500)

        def work(client: str) -> None:
            for number in range(500):
                held.hold(client, f"{client}{number}", bytes(7))
                held.get(f"{client}{number - 3}")

        threads = [threading.Thread(target=work, args=(f"c{name}",)) for name in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert held.size == 6 * 10 * 7
        assert all(held.get(f"c{name}499") for name in range(6))


@pytest.mark.parametrize("name", ["feedback_per_day", "held_frames", "held_bytes"])
def test_limits_out_of_range_are_named(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        gateway_settings(**{name: -1})
