from __future__ import annotations

import asyncio
import gc
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exposed_metrics import check_vocabulary
from gateway_samples import (
    Message,
    Rungs,
    Served,
    asked,
    climbing_weights,
    gateway_settings,
    jpeg,
    served,
    talk,
)
from processes import until
from tiny_models import MakePolicy, drawn

from feature_transformer.frame_statistics import pixel_statistics, seen_statistics
from feature_transformer.observation import OBSERVATION_SIZE, context_features, observation
from inference_graph.gateway.kept_image import kept_image
from inference_graph.gateway.policy_in_use import PolicyInUse
from inference_graph.gateway.routing import StreamRouter
from inference_graph.prediction_log.reader import read_log


@pytest.fixture
def logged(rungs: Rungs, make_policy: MakePolicy, tmp_path: Path) -> Iterator[Served]:
    settings = gateway_settings(
        policy=make_policy(climbing_weights(), (0.1, 0, 0)),
        log_url=str(tmp_path / "log"),
        shadow_share=1.0,
        shadow_timeout_ms=60_000.0,
        statistics_share=1.0,
        image_share=1.0,
        objective_ms=60_000.0,
    )
    with served(settings, rungs) as running:
        yield running


def stream(gateway: Served, count: int, query: str = "", hello: str = "") -> list[Message]:
    async def session(socket: Any) -> list[Message]:
        if hello:
            await socket.send(hello)
        return await asked(socket, *map(jpeg, range(count)))

    return talk(gateway.stream + query, session)


def rows_of(gateway: Served, *whole: str) -> list[dict[str, Any]]:
    """All rows, once the columns of this name, which may come later, are there."""

    def logged() -> list[dict[str, Any]]:
        assert gateway.runtime.log.flush()
        rows: list[dict[str, Any]] = read_log(gateway.runtime.settings.log_url).to_pylist()
        complete = all(row[name] is not None for row in rows for name in whole)
        return sorted(rows, key=lambda row: row["frame_id"]) if complete else []

    return until(logged)


def test_every_answer_becomes_a_row(logged: Served) -> None:
    hello = json.dumps({"type": "hello", "tags": {"condition": "fog"}})
    answers = stream(logged, 3, "?session=drive-7&latency_weight=0.05&deadline_ms=20000", hello)
    rows = rows_of(logged, "image", "blur")
    assert [row["event_id"] for row in rows] == [answer["event_id"] for answer in answers]
    for index, (row, answer) in enumerate(zip(rows, answers, strict=True)):
        assert (row["source"], row["session"], row["frame_id"]) == ("stream", "drive-7", index)
        assert (row["client"], row["rung"]) == ("local", answer["rung"])
        assert (row["answered_by"], row["fallback"]) == (answer["answered_by"], "")
        assert (row["width"], row["height"], row["deadline_ms"]) == (128, 96, 20_000.0)
        assert (row["latency_weight"], dict(row["tags"])) == (0.05, {"condition": "fog"})
        assert row["image_bytes"] == len(jpeg(index))
        assert row["detections"] == len(answer["detections"]) == index + 1
        boxes = [side for detection in answer["detections"] for side in detection["box"]]
        assert row["boxes"] == pytest.approx(boxes, abs=0.01)
        assert row["total_ms"] == pytest.approx(answer["milliseconds"]["total"], abs=0.001)
        assert len(row["load_ms"]) == 3
        assert len(row["policy_revision"]) == 12
        assert 0 < row["brightness"] < 1
        assert row["blur"] > 0
        assert row["noise"] > 0
        assert row["condition"] == "fog" and row["image_kept"]
        kept = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR)
        sent = cv2.imdecode(np.frombuffer(jpeg(index), np.uint8), cv2.IMREAD_COLOR)
        assert kept.shape == sent.shape
        # The same picture, encoded once more.
        assert np.corrcoef(kept.ravel(), sent.ravel())[0, 1] > 0.95
        assert len(row["observation"]) == OBSERVATION_SIZE


def test_no_image_is_kept_where_none_may_be(rungs: Rungs, tmp_path: Path) -> None:
    settings = gateway_settings(log_url=str(tmp_path / "log"), image_share=0.0)
    with served(settings, rungs) as gateway:
        stream(gateway, 2)
        rows = rows_of(gateway)
    assert [(row["image_kept"], row["image"]) for row in rows] == [(False, None)] * 2


def test_a_wide_frame_is_kept_smaller() -> None:
    wide = kept_image(drawn(450, 1280))["image"]
    assert cv2.imdecode(np.frombuffer(wide, np.uint8), cv2.IMREAD_COLOR).shape == (225, 640, 3)
    tall = kept_image(drawn(700, 64))["image"]
    assert cv2.imdecode(np.frombuffer(tall, np.uint8), cv2.IMREAD_COLOR).shape == (700, 64, 3)
    assert kept_image(np.zeros((1, 1280, 3), np.uint8))["image"]  # still a pixel high
    assert kept_image(np.zeros((70_000, 1, 3), np.uint8)) == {}


def test_the_reference_looks_beside_and_its_agreement_is_logged(
    logged: Served, rungs: Rungs
) -> None:
    rungs["large"].hanging = True  # the stream does not wait for it
    answers = stream(logged, 2)
    # One look at a time: the second frame comes while the first is looked at.
    assert [answer["answered_by"] for answer in answers] == ["nano", "small"]
    assert [answer["shadow"] for answer in answers] == [True, False]
    # The rows are there at once; the look is added to its own when it ends.
    assert [row["shadow"] for row in rows_of(logged, "image", "blur")] == [False, False]
    rungs["large"].hanging = False
    until(lambda: rows_of(logged)[0]["shadow"])
    first, second = rows_of(logged)
    assert (first["shadow"], second["shadow"]) == (True, False)
    assert first["shadow_ms"] > 0
    # Nano saw one of the three that large saw, of scores 0.8, 0.6 and 0.3: 2 * 1 / (1 + 3).
    assert first["agreement"] == pytest.approx(0.5)
    assert (len(first["shadow_scores"]), second["agreement"]) == (3, None)
    text = logged.http.get("/metrics").text
    assert "gearshift_shadow_agreement_ratio_count 1.0" in text
    assert 'gearshift_shadows_total{outcome="looked"} 1.0' in text


def test_flush_knows_every_answered_frame(logged: Served, rungs: Rungs) -> None:
    """Also while the reference looks, and while threads measure and encode the frame."""
    rungs["large"].hanging = True
    try:
        for _ in range(5):
            answered = {answer["event_id"] for answer in stream(logged, 2)}
            assert logged.runtime.log.flush(60)
            rows = read_log(logged.runtime.settings.log_url, columns=["event_id"])
            assert answered <= set(rows["event_id"].to_pylist())
    finally:
        rungs["large"].hanging = False


def test_a_shadow_that_fails_costs_neither_the_answer_nor_its_row(
    logged: Served, rungs: Rungs
) -> None:
    rungs["large"].failing = True
    answers = stream(logged, 1)
    (row,) = rows_of(logged)
    assert (answers[0]["shadow"], row["shadow"], row["agreement"]) == (True, False, None)
    assert row["detections"] == 1


def test_a_session_leaves_its_summary(logged: Served, rungs: Rungs, tmp_path: Path) -> None:
    answers = stream(logged, 4, "?session=drive-8")
    shadowed = [answer["event_id"] for answer in answers if answer["shadow"]]
    until(lambda: [row["event_id"] for row in rows_of(logged) if row["shadow"]] == shadowed)
    rows = [row for row in rows_of(logged) if row["shadow"]]
    rungs["small"].failing = True
    stream(logged, 3, "?session=drive-9", json.dumps({"type": "hello", "tags": {"a": "b"}}))
    folder = tmp_path / "log" / "sessions"
    # Hidden files are temporaries: what has its name is whole.
    until(lambda: logged.runtime.log.flush() and len(list(folder.glob("[!.]*.json"))) == 2)
    eight, nine = (
        json.loads(next(folder.glob(f"drive-{number}.*.json")).read_text()) for number in (8, 9)
    )
    assert (eight["session"], eight["frames"], eight["fallbacks"]) == ("drive-8", 4, 0)
    assert eight["shares"] == {"nano": 0.5, "small": 0.25, "large": 0.25}
    spent = [answer["milliseconds"]["total"] for answer in answers]
    assert eight["latency_mean_ms"] == pytest.approx(np.mean(spent), abs=0.01)
    assert eight["latency_p50_ms"] == pytest.approx(sorted(spent)[1], rel=0.01, abs=0.01)
    assert eight["latency_p95_ms"] == pytest.approx(max(spent), rel=0.01, abs=0.01)
    # Of large's three objects nano sees one and small two: 2 * 1 / (1 + 3), 2 * 2 / (2 + 3).
    expected = {"nano": 0.5, "small": 0.8}
    assert [row["agreement"] for row in rows] == pytest.approx(
        [expected[row["answered_by"]] for row in rows]
    )
    assert eight["shadow_frames"] == len(rows) >= 1
    assert eight["agreement_mean"] == pytest.approx(np.mean([row["agreement"] for row in rows]))
    assert eight["savings"] < 1
    # Nano stands in for small twice, for what it saw makes the policy choose small again.
    assert (nine["frames"], nine["fallbacks"], nine["tags"]) == (3, 2, {"a": "b"})


def test_the_figures_for_prometheus(logged: Served, rungs: Rungs) -> None:
    stream(logged, 3)
    rungs["nano"].failing = True
    stream(logged, 1)
    rows_of(logged)
    text = logged.http.get("/metrics").text
    figures = dict(re.findall(r"^(gearshift\S+|process\S+) (\S+)$", text, re.MULTILINE))
    expected = {
        'gearshift_routing_decisions_total{rung="nano"}': 2,
        'gearshift_routing_decisions_total{rung="small"}': 1,
        'gearshift_routing_decisions_total{rung="large"}': 1,
        'gearshift_answers_total{rung="nano"}': 1,
        'gearshift_answers_total{rung="small"}': 2,
        'gearshift_fallbacks_total{reason="failed"}': 1,
        'gearshift_fallbacks_total{reason="late"}': 0,
        "gearshift_frames_dropped_total": 0,
        'gearshift_rung_queue_length{rung="nano"}': 0,
        'gearshift_rung_up{rung="large"}': 1,
        'gearshift_stage_seconds_count{stage="total"}': 4,
        'gearshift_stage_seconds_count{stage="decode"}': 4,
        "gearshift_streams": 0,
        "gearshift_log_dropped_total": 0,
        'gearshift_objective_frames_total{met="true",source="stream"}': 4,
        'gearshift_objective_frames_total{met="false",source="stream"}': 0,
        "gearshift_latency_objective_seconds": 60,
        'gearshift_deadline_misses_total{source="stream"}': 0,
        'gearshift_http_requests_total{code="101",method="WEBSOCKET",route="/v1/stream"}': 2,
        'gearshift_log_failing{activity="publish"}': 0,
    }
    assert {name: float(figures[name]) for name in expected} == expected
    assert float(figures["process_resident_memory_bytes"]) > 0
    assert float(figures["gearshift_log_stored_total"]) >= 1
    for what in ("flush", "publication"):
        assert (
            0 <= time.time() - float(figures[f"gearshift_log_last_{what}_timestamp_seconds"]) < 60
        )
    check_vocabulary(text, "gateway")


def test_statistics_by_hand(make_policy: MakePolicy) -> None:
    frame = drawn(96, 128)
    routing = StreamRouter(PolicyInUse(gateway_settings(policy=make_policy())), 0.3)
    routing.route(frame, (0.0, 0.0, 0.0))
    seen = observation(frame, context_features(None, (0.0, 0.0, 0.0), 0.3))
    np.testing.assert_array_equal(routing.seen, seen)
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    statistics = seen_statistics(routing.seen)
    assert statistics["brightness"] == pytest.approx(grey.mean() / 255, abs=0.01)
    assert statistics["edge_density"] == pytest.approx((cv2.Canny(grey, 100, 200) > 0).mean())
    assert seen_statistics(None) == {}

    flat = np.full((200, 300, 3), 90, np.uint8)
    assert pixel_statistics(flat) == {"blur": 0.0, "noise": 0.0}
    generator = np.random.default_rng(0)
    grain = np.clip(flat + generator.normal(0, 8, (200, 300, 1)), 0, 255).astype(np.uint8)
    assert pixel_statistics(grain)["noise"] == pytest.approx(8, rel=0.05)
    soft = cv2.GaussianBlur(frame, (0, 0), 3)
    assert pixel_statistics(soft)["blur"] < 0.2 * pixel_statistics(frame)["blur"]
    assert pixel_statistics(np.zeros((2, 50, 3), np.uint8)) == {}
    assert set(pixel_statistics(np.zeros((2000, 3, 3), np.uint8))) == {"blur", "noise"}


def test_a_fixed_rung_asks_no_policy() -> None:
    routing = StreamRouter(PolicyInUse(gateway_settings(always="large")), None)
    route, spent = routing.route(drawn(10, 10), (0.0, 0.0, 0.0))
    assert (route.model, route.probabilities) == ("large", (0.0, 0.0, 1.0))
    assert (spent["observe"], routing.seen, routing.latency_weight) == (0.0, None, None)


def test_a_long_stream_leaves_nothing_behind(rungs: Rungs, make_policy: MakePolicy) -> None:
    policy = make_policy(climbing_weights(), (0.1, 0, 0))
    with served(gateway_settings(policy=policy, shadow_share=0.2), rungs) as gateway:

        def held() -> tuple[int, int]:
            gc.collect()
            frames = sum(isinstance(o, np.ndarray) and o.shape == (96, 128, 3) for o in _arrays())
            tasks = asyncio.run_coroutine_threadsafe(_tasks(), gateway.loop).result(30)
            return frames, tasks

        stream(gateway, 60)
        objects, before = len(gc.get_objects()), held()
        stream(gateway, 300)
        stream(gateway, 5)

        def released() -> bool:
            after = held()
            grown = len(gc.get_objects()) - objects
            # Fewer than one object for each frame.
            return after[0] <= before[0] + 1 and after[1] <= before[1] + 1 and grown < 300

        until(released)


def _arrays() -> list[Any]:
    # Arrays are not tracked by the collector; what holds them is.
    return [item for holder in gc.get_objects() for item in _items(holder)]


def _items(holder: Any) -> list[Any]:
    if type(holder) is dict:
        return list(holder.values())
    return list(holder) if type(holder) in (list, tuple) else []


async def _tasks() -> int:
    return len(asyncio.all_tasks())
