from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import httpx
import pytest
import uvicorn
from cloudevents.conversion import to_binary
from cloudevents.http import CloudEvent
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from processes import until
from tiny_models import drawn

from foundation.errors import AccessError, GearshiftError, InvalidInput
from inference_graph.gateway.event_ids import EventIds
from inference_graph.prediction_log.events import (
    REQUEST_TYPE,
    RESPONSE_TYPE,
    CloudEventSink,
    EventOptions,
    events_routes,
)
from inference_graph.prediction_log.reader import read_log
from inference_graph.prediction_log.writer import LogConfig, PredictionLog

JPEG = cv2.imencode(".jpg", drawn(120, 160))[1].tobytes()
PATIENT = EventOptions(pair_seconds=600)  # a busy machine must not part a pair
IMAGE = {"image": {"b64": base64.b64encode(JPEG).decode()}}


def asked(shadow: bool = False, rung: str = "nano", **more: Any) -> dict[str, Any]:
    """What a detector gets: the transformer's answer."""
    route = {
        "model": rung,
        "action": 0,
        "probabilities": [0.5, 0.25, 0.25],
        "shadow": shadow,
        "revision": "0123456789ab",
    }
    context = {"load_ms": [1.0, 2.0, 3.0], "latency_weight": 0.25}
    return {"instances": [IMAGE], "context": context, "route": route} | more


def answered(rung: str = "nano", *scores: float) -> dict[str, Any]:
    prediction = {
        "boxes": [[10.0, 10.0, 20.0, 20.0]] * len(scores),
        "scores": list(scores),
        "labels": [2] * len(scores),
        "variant": rung,
        "revision": "aaaaaaaaaaaa",
        "milliseconds": {
            "decode": 1.0,
            "preprocess": 2.0,
            "inference": 10.0,
            "postprocess": 0.5,
            "queue": 4.0,
        },
    }
    return {"predictions": [prediction]}


def event(
    kind: str, event_id: str, data: Any, service: str = "nano"
) -> tuple[dict[str, str], bytes]:
    """As the CloudEvents library puts it into a POST; header names in lower case."""
    attributes = {
        "type": kind,
        "source": "http://localhost:9081/",
        "id": event_id,
        "inferenceservicename": service,
        "namespace": "gearshift",
        "component": "predictor",
        "endpoint": "default",
        "metadata": "{}",
        "datacontenttype": "application/json",
    }
    headers, body = to_binary(CloudEvent(attributes, data))
    return {name.lower(): value for name, value in headers.items()}, bytes(body)


@pytest.fixture
def log(tmp_path: Path) -> Iterator[PredictionLog]:
    with PredictionLog(LogConfig(str(tmp_path), flush_seconds=0.02)) as opened:
        yield opened


def rows(log: PredictionLog) -> list[dict[str, Any]]:
    assert log.flush()
    found: list[dict[str, Any]] = read_log(log.config.url).to_pylist()
    return found


class TestPairs:
    def test_a_pair_is_a_row(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        assert sink.receive(*event(REQUEST_TYPE, "a-1", asked())) == "waiting"
        assert rows(log) == []
        assert sink.receive(*event(RESPONSE_TYPE, "a-1", answered("nano", 0.75, 0.5))) == "stored"
        (row,) = rows(log)
        assert row["event_id"] == "a-1" and row["source"] == "graph"
        assert (row["rung"], row["answered_by"], row["revision"]) == ("nano", "nano", "a" * 12)
        assert row["policy_revision"] == "0123456789ab"
        assert row["probabilities"] == [0.5, 0.25, 0.25]
        assert (row["load_ms"], row["latency_weight"]) == ([1, 2, 3], 0.25)
        assert (row["queue_ms"], row["detect_ms"], row["total_ms"]) == (4.0, 13.5, None)
        assert (row["width"], row["height"], row["image_bytes"]) == (160, 120, len(JPEG))
        assert row["boxes"] == [10, 10, 20, 20] * 2 and row["labels"] == [2, 2]
        assert row["detections"] == 2 and row["shadow"] is False and row["agreement"] is None
        assert row["tags"] == [("service", "nano")] and row["error"] == ""
        assert row["texts"] is None

    def test_texts_stay_with_their_scores(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        sink.receive(*event(REQUEST_TYPE, "a-1", asked()))
        answer = answered("nano", 0.5, 0.75)
        answer["predictions"][0]["texts"] = ["below", "above"]
        sink.receive(*event(RESPONSE_TYPE, "a-1", answer))
        (row,) = rows(log)
        assert (row["scores"], row["texts"]) == ([0.75, 0.5], ["above", "below"])

    def test_the_order_does_not_matter_and_nothing_counts_twice(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        request = event(REQUEST_TYPE, "a-1", asked())
        response = event(RESPONSE_TYPE, "a-1", answered())
        assert sink.receive(*response) == "waiting"
        assert sink.receive(*response) == "waiting"
        assert sink.receive(*request) == "stored"
        assert sink.receive(*request) == sink.receive(*response) == "known"
        again = CloudEventSink(log, PATIENT)  # a gateway that was started again
        again.receive(*request)
        again.receive(*response)
        assert len(rows(log)) == 1

    def test_several_images_are_several_rows(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        sink.receive(*event(REQUEST_TYPE, "a", asked(instances=[IMAGE, IMAGE])))
        both = {"predictions": answered("nano", 0.5)["predictions"] * 2}
        sink.receive(*event(RESPONSE_TYPE, "a", both))
        assert [row["event_id"] for row in rows(log)] == ["a", "a/1"]

    def test_a_direct_call_chose_its_rung_itself(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        sink.receive(*event(REQUEST_TYPE, "a", {"instances": [IMAGE]}))
        assert sink.receive(*event(RESPONSE_TYPE, "a", answered("small"))) == "stored"
        (row,) = rows(log)
        assert (row["rung"], row["answered_by"], row["probabilities"]) == ("", "small", [])

    def test_other_services_are_no_answers(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, PATIENT)
        tensors = {"inputs": [{"name": "observations"}]}
        assert sink.receive(*event(REQUEST_TYPE, "r", tensors, "router")) == "ignored"
        assert sink.receive(*event(RESPONSE_TYPE, "r", {"outputs": []}, "router")) == "ignored"
        assert sink.receive(*event(RESPONSE_TYPE, "t", asked(), "router")) == "ignored"
        assert rows(log) == []


class TestShadows:
    def test_the_reference_joins_the_answer(self, log: PredictionLog) -> None:
        for number, order in enumerate(((0, 1, 2, 3), (2, 3, 0, 1), (3, 1, 2, 0))):
            sink = CloudEventSink(log, PATIENT)
            body = asked(shadow=True, id=f"frame-{number}")
            events = (
                event(REQUEST_TYPE, f"primary-{number}", body),
                event(RESPONSE_TYPE, f"primary-{number}", answered("nano", 0.75)),
                event(REQUEST_TYPE, f"reference-{number}", body, "large"),
                event(RESPONSE_TYPE, f"reference-{number}", answered("large", 0.9, 0.8), "large"),
            )
            for index in order:
                sink.receive(*events[index])
        found = rows(log)
        assert [row["event_id"] for row in found] == [f"primary-{number}" for number in range(3)]
        for row in found:
            assert (row["answered_by"], row["shadow"], row["shadow_ms"]) == ("nano", True, 13.5)
            assert row["shadow_scores"] == pytest.approx([0.9, 0.8])
            assert row["agreement"] == pytest.approx(2 / 3)

    def test_one_id_for_all_services(self, log: PredictionLog) -> None:
        """A graph may be configured to pass Ce-Id on."""
        sink = CloudEventSink(log, PATIENT)
        sink.receive(*event(REQUEST_TYPE, "x", asked(shadow=True)))
        sink.receive(*event(REQUEST_TYPE, "x", asked(shadow=True), "large"))
        sink.receive(*event(RESPONSE_TYPE, "x", answered("large"), "large"))
        sink.receive(*event(RESPONSE_TYPE, "x", answered("nano")))
        (row,) = rows(log)
        assert (row["event_id"], row["agreement"]) == ("x", 1.0)

    def test_an_answer_does_not_wait_for_ever(self, log: PredictionLog) -> None:
        sink = CloudEventSink(log, EventOptions(pair_seconds=0.3))
        sink.receive(*event(REQUEST_TYPE, "a", asked(shadow=True)))
        sink.receive(*event(RESPONSE_TYPE, "a", answered("nano", 0.5)))
        (row,) = eventually(log, 1)  # without another event
        assert (row["shadow"], row["agreement"], row["detections"]) == (True, None, 1)


def eventually(log: PredictionLog, count: int) -> list[dict[str, Any]]:
    until(lambda: len(rows(log)) >= count)
    return rows(log)


def test_a_request_without_an_answer_becomes_a_row_in_the_end(log: PredictionLog) -> None:
    sink = CloudEventSink(log, EventOptions(pair_seconds=0.3))
    sink.receive(*event(REQUEST_TYPE, "a", asked()))
    sink.receive(*event(REQUEST_TYPE, "t", {"instances": [IMAGE]}, "router"))  # no detector's
    (row,) = eventually(log, 1)
    assert (row["event_id"], row["rung"], row["answered_by"]) == ("a", "nano", "")
    assert "no answer" in row["error"]
    assert sink.receive(*event(RESPONSE_TYPE, "a", answered())) == "known"


def test_an_answer_without_a_request_becomes_a_row_in_the_end(log: PredictionLog) -> None:
    sink = CloudEventSink(log, PATIENT)
    sink.receive(*event(RESPONSE_TYPE, "a", answered("large", 0.5)))
    sink.close()
    (row,) = rows(log)
    assert (row["answered_by"], row["rung"], row["detections"]) == ("large", "", 1)
    assert "no request" in row["error"]


def test_at_most_so_many_wait(log: PredictionLog) -> None:
    sink = CloudEventSink(log, EventOptions(max_pending=10, pair_seconds=600))
    for number in range(50):
        sink.receive(*event(REQUEST_TYPE, f"a{number}", asked()))
    given_up = eventually(log, 40)
    assert {row["event_id"] for row in given_up} == {f"a{number}" for number in range(40)}
    assert all("no answer" in row["error"] for row in given_up)
    # The ten newest still wait for theirs.
    assert sink.receive(*event(RESPONSE_TYPE, "a39", answered())) == "known"
    assert sink.receive(*event(RESPONSE_TYPE, "a40", answered())) == "stored"
    sink.close()


def test_no_event_brings_an_answer_that_was_given_here(log: PredictionLog) -> None:
    ids = EventIds()
    sink = CloudEventSink(log, PATIENT, ids.knows)
    for kind, data in ((REQUEST_TYPE, asked()), (RESPONSE_TYPE, answered("nano", 0.75))):
        with pytest.raises(InvalidInput, match="this gateway gave itself"):
            sink.receive(*event(kind, ids.make(), data))
    assert sink.receive(*event(REQUEST_TYPE, EventIds().make(), asked())) == "waiting"
    sink.close()


@pytest.mark.parametrize(
    ("change", "body", "message"),
    [
        ({"ce-specversion": "0.3"}, b"{}", "no CloudEvent 1.0"),
        ({"ce-type": "org.other"}, b"{}", "Ce-Type 'org.other'"),
        ({"ce-id": ""}, b"{}", "event id ''"),
        ({"ce-id": "a b"}, b"{}", "event id"),
        ({"ce-inferenceservicename": "../x"}, b"{}", "no service's name"),
        ({}, b"", "no JSON"),
        ({}, b"[1]", "no JSON object"),
        ({}, b"[" * 100_000, "no JSON"),
        ({}, b'{"instances": "\xff"}', "no JSON"),
        ({"ce-type": RESPONSE_TYPE}, {"boxes": [[0, 0, 1]]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"boxes": [[0, 0, 1, 1]] * 2}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"boxes": [[0, 0], [1, 1]]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"labels": [1.5]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"texts": ["a"] * 9}, "one text for each score"),
        ({"ce-type": RESPONSE_TYPE}, {"texts": [1]}, "no text"),
        ({"ce-type": RESPONSE_TYPE}, {"labels": [2**40]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"scores": ["high"]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"scores": [1e300]}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"scores": None}, "n times four"),
        ({"ce-type": RESPONSE_TYPE}, {"scores": {}}, "n times four"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_events_that_cannot_be_used(
    log: PredictionLog, change: Mapping[str, str], body: bytes | dict[str, Any], message: str
) -> None:
    headers, _ = event(REQUEST_TYPE, "a", {})
    if isinstance(body, dict):
        prediction = answered("nano", 0.5)["predictions"][0] | body
        body = json.dumps({"predictions": [prediction]}).encode()
    with pytest.raises(InvalidInput, match=message):
        CloudEventSink(log, PATIENT).receive(headers | dict(change), body)


@pytest.mark.parametrize(
    "odd",
    [
        {"instances": [None]},
        {"instances": [{"image": {"b64": "%%%"}}]},
        {"instances": [{"image": {"b64": "AAAA"}}]},
        {"instances": [IMAGE], "context": [1], "route": {"model": ["nano"]}},
        {"instances": [IMAGE], "route": {"model": "nano", "probabilities": [1, None, "x"]}},
        {"instances": [IMAGE], "context": {"load_ms": [1, 2], "latency_weight": True}},
        {"instances": [IMAGE], "route": {"model": "nano", "revision": "x" * 10_000}},
    ],
)
def test_odd_requests_make_rows_all_the_same(log: PredictionLog, odd: dict[str, Any]) -> None:
    sink = CloudEventSink(log, PATIENT)
    sink.receive(*event(REQUEST_TYPE, "a", odd))
    assert sink.receive(*event(RESPONSE_TYPE, "a", answered("nano", 0.5))) == "stored"
    (row,) = rows(log)
    assert row["detections"] == 1 and len(row["policy_revision"]) <= 100


def test_a_senders_clock_is_believed_within_reason(log: PredictionLog) -> None:
    sink = CloudEventSink(log, PATIENT)
    headers, body = event(REQUEST_TYPE, "a", asked())
    sink.receive(headers | {"ce-time": "1999-01-01T00:00:00Z"}, body)
    sink.receive(*event(RESPONSE_TYPE, "a", answered()))
    assert rows(log)[0]["time"].year > 2000


@pytest.fixture
def served(log: PredictionLog) -> Iterator[str]:
    """The route behind a token, on a real socket."""

    def allowed(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer secret":
            raise AccessError("no token given; send the header Authorization: Bearer TOKEN")

    app = FastAPI()

    @app.exception_handler(GearshiftError)
    async def refuse(_: Request, error: GearshiftError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.http_status)

    sink = CloudEventSink(log, EventOptions(max_body=100_000, pair_seconds=600))
    app.include_router(events_routes(lambda: sink, Depends(allowed)))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1/events"
    server.should_exit = True
    thread.join(10)
    sink.close()


def test_over_http(served: str, log: PredictionLog) -> None:
    token = {"authorization": "Bearer secret"}
    request, response = event(REQUEST_TYPE, "a", asked()), event(RESPONSE_TYPE, "a", answered())
    with httpx.Client() as client:

        def post(headers: Mapping[str, str], body: bytes) -> tuple[int, dict[str, Any]]:
            answer = client.post(served, headers=headers, content=body)
            return answer.status_code, answer.json()

        status, problem = post(*request)
        assert status == 401 and "no token" in problem["detail"]
        assert post(request[0] | token, request[1]) == (200, {"outcome": "waiting"})
        assert post(response[0] | token, response[1]) == (200, {"outcome": "stored"})
        assert post(response[0] | token, response[1]) == (200, {"outcome": "known"})
        assert post(token, b"{}")[0] == 400
        assert post(request[0] | token, b"x" * 100_001)[0] == 413
    assert len(rows(log)) == 1
