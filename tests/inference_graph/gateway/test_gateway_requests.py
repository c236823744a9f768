from __future__ import annotations

import base64
import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import schemathesis
from campaign import runs
from gateway_samples import Rungs, Served, again, gateway_settings, jpeg, served
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from png_bombs import png_bomb
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from inference_graph.prediction_log.reader import read_feedback, read_log

LIMIT = 200_000
SECONDS = 60.0


@pytest.fixture
def gateway(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    options: dict[str, Any] = {"log_url": str(tmp_path / "log"), "event_key": "k"}
    options |= {"feedback_per_minute": 1e6, "max_fps": 1e6, "body_seconds": 1.0}
    options |= {"min_deadline_ms": 5000.0}  # a generated deadline must not pass on a busy machine
    triggers = tmp_path / "triggers.yaml"
    triggers.write_text(
        f"{{launch: {{command: ['true']}}, rules: [], state: {tmp_path / 'state'}}}"
    )
    options |= {"triggers": triggers}
    with served(
        gateway_settings(max_body=LIMIT, max_pixels=1_000_000, **options), rungs
    ) as running:
        yield running


def post(gateway: Served, path: str, **request: Any) -> httpx.Response:
    return gateway.http.post(path, **request)


def sent(data: bytes = b"", kind: str = "image/jpeg") -> dict[str, Any]:
    return {"content": data, "headers": {"content-type": kind}}


def test_one_image_in_every_form(gateway: Served) -> None:
    data = jpeg()
    png = cv2.imencode(".png", cv2.imdecode(np.frombuffer(data, np.uint8), 1))[1].tobytes()
    document = {"image": {"b64": base64.b64encode(data).decode()}, "tags": {"place": "gate"}}
    answers = [
        post(gateway, "/v1/detect", **sent(data)),
        post(gateway, "/v1/detect", **sent(png, "image/png")),
        post(gateway, "/v1/detect", **sent(data, "application/octet-stream")),
        post(gateway, "/v1/detect", files={"image": ("a.jpg", data, "image/jpeg")}),
        post(gateway, "/v1/detect", json=document),
        post(gateway, "/v1/detect?latency_weight=0.5&deadline_ms=20000", **sent(data)),
    ]
    assert [answer.status_code for answer in answers] == [200] * 6
    for answer in answers:
        given = answer.json()
        assert (given["type"], given["frame"], given["answered_by"]) == (
            "detections",
            0,
            "nano",
        )
        assert given["detections"] == [
            {"box": [10, 10, 30, 50], "score": 0.8, "label": 1, "category_id": 3, "name": "car"}
        ]
    assert gateway.runtime.log.flush()
    table = read_log(gateway.runtime.settings.log_url)
    assert table.column("event_id").to_pylist() == [a.json()["event_id"] for a in answers]
    assert set(table.column("source").to_pylist()) == {"detect"}
    assert dict(table.column("tags").to_pylist()[4]) == {"place": "gate"}


def test_detect_over_its_rate_states_when_to_come_back(rungs: Rungs) -> None:
    with served(gateway_settings(max_fps=0.5), rungs) as gateway:
        assert post(gateway, "/v1/detect", **sent(jpeg())).status_code == 200
        refused = post(gateway, "/v1/detect", **sent(jpeg()))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert "come back in" in refused.json()["detail"]


def test_no_rung_no_answer_but_a_sentence(rungs: Rungs) -> None:
    with served(gateway_settings(), rungs) as gateway:
        for rung in rungs.values():
            rung.failing = True
        failed = post(gateway, "/v1/detect", **sent(jpeg()))
        for rung in rungs.values():
            rung.failing, rung.hanging = False, True
        late = post(gateway, "/v1/detect?deadline_ms=300", **sent(jpeg()))
    assert (failed.status_code, late.status_code) == (503, 504)
    assert "plug" in failed.json()["detail"]
    assert "no rung answered in time" in late.json()["detail"]


def test_readiness_follows_the_rungs(rungs: Rungs) -> None:
    with served(gateway_settings(breaker_failures=1), rungs) as gateway:

        def ready() -> int:
            return gateway.http.get("/readyz").status_code

        assert ready() == 200
        assert gateway.http.get("/readyz").json()["rungs"] == dict.fromkeys(rungs, "healthy")
        for rung in rungs.values():
            rung.failing = True
        post(gateway, "/v1/detect", **sent(jpeg()))
        away = gateway.http.get("/readyz")
        assert (away.status_code, gateway.http.get("/healthz").status_code) == (503, 200)
        assert "start the detectors" in away.json()["detail"]
        for rung in rungs.values():
            rung.failing = False
        end = time.monotonic() + 30
        while ready() != 200 and time.monotonic() < end:
            time.sleep(0.05)
        assert ready() == 200


def test_feedback_is_stored_once(gateway: Served) -> None:
    event_id = post(gateway, "/v1/detect", **sent(jpeg())).json()["event_id"]
    body = {
        "event_id": event_id,
        "kind": "correct",
        "boxes": [[1.5, 2, 30, 40]],
        "labels": [1],
        "note": "it is a lorry",
    }
    answers = [post(gateway, "/v1/feedback", json=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    confirmed = post(gateway, "/v1/feedback", json={"event_id": event_id, "kind": "confirm"})
    assert confirmed.status_code == 202
    assert gateway.runtime.log.flush()
    rows = read_feedback(gateway.runtime.settings.log_url).to_pylist()
    assert [(row["kind"], row["boxes"], row["labels"], row["note"]) for row in rows] == [
        ("correct", [1.5, 2.0, 30.0, 40.0], [1], "it is a lorry"),
        ("confirm", [], [], ""),
    ]
    assert {row["client"] for row in rows} == {"local"}


def test_feedback_on_answers_of_before_a_restart(rungs: Rungs, tmp_path: Path) -> None:
    url = str(tmp_path / "log")
    with served(gateway_settings(log_url=url), rungs) as gateway:
        event_id = post(gateway, "/v1/detect", **sent(jpeg())).json()["event_id"]
    body = {"event_id": event_id, "kind": "confirm"}
    with served(gateway_settings(log_url=url), again(rungs)) as gateway:
        # Another key, so the log itself is asked.
        assert post(gateway, "/v1/feedback", json=body).status_code == 202
        other = post(gateway, "/v1/feedback", json=body | {"event_id": "f" * 32})
        assert (other.status_code, "f" * 32 in other.json()["detail"]) == (404, True)


def test_feedback_over_its_rate(rungs: Rungs) -> None:
    with served(gateway_settings(feedback_per_minute=0.6), rungs) as gateway:
        body = {"event_id": "e", "kind": "confirm"}
        statuses = [post(gateway, "/v1/feedback", json=body).status_code for _ in range(2)]
    assert statuses == [404, 429]


JPEG = jpeg()
KNOWN = {"event_id": "e" * 32, "kind": "correct"}
CORRECT = {"boxes": [[0, 0, 1, 1]], "labels": [0]}
DOCUMENT = "application/json"
ASKED = {"request_id": "1", "reason": "new camera"}
ALERT = {"labels": {"alertname": "A"}, "startsAt": "2026-11-21T12:00:00Z"}


MALFORMED: list[tuple[str, dict[str, Any], int]] = [
    *(("/v1/detect", sent(JPEG[:count]), 400) for count in range(0, len(JPEG) - 1, 97)),
    ("/v1/detect", sent(b"hello"), 400),
    ("/v1/detect", sent(bytes(1000)), 400),
    ("/v1/detect", sent(JPEG[:300] + bytes(500) + JPEG[800:-2]), 400),
    ("/v1/detect", sent(b"GIF89a" + bytes(100), "image/gif"), 400),
    ("/v1/detect", sent(b"<svg/>", "image/svg+xml"), 400),
    ("/v1/detect", sent(bytes(LIMIT + 1)), 413),
    ("/v1/detect", sent(png_bomb(60_000, 60_000), "image/png"), 413),
    ("/v1/detect", sent(png_bomb(2**31 - 1, 2**31 - 1), "image/png"), 413),
    ("/v1/detect", sent(png_bomb(900, 900), "image/png"), 400),
    ("/v1/detect", sent(png_bomb(0, 10), "image/png"), 400),
    ("/v1/detect", sent(JPEG, "text/plain"), 415),
    ("/v1/detect", sent(JPEG, ""), 415),
    ("/v1/detect", sent(JPEG, "video/mp4"), 415),
    *(
        (f"/v1/detect?{query}", sent(JPEG), 422)
        for query in (
            *("latency_weight=nan", "latency_weight=-1", "latency_weight=inf"),
            *("latency_weight=x", "latency_weight=1e300", "deadline_ms=0"),
            *("deadline_ms=-5", "deadline_ms=nan", "deadline_ms=", "deadline_ms=inf"),
        )
    ),
    ("/v1/detect?deadline_ms=1e8", sent(JPEG), 400),
    *(
        ("/v1/detect", sent(text, DOCUMENT), 400)
        for text in (
            *(b"", b"{", b"null", b"[]", b'"x"', b"{}", b'{"image":1}', b'{"image":{}}'),
            *(b'{"image":{"b64":1}}', b'{"image":{"b64":""}}', b'{"image":{"b64":"&&"}}'),
            *(b'{"image":{"b64":"AAAA"}}', b'{"image":{"b64":"AAAA"},"more":1}'),
            *(b'{"image":{"b64":"AAAA","x":1}}', b'{"image":NaN}', b"\xff\xfe", b"[" * 50_000),
            *(b'{"image":{"b64":"AAAA"},"tags":[]}', b'{"image":{"b64":"AAAA"},"tags":{"a":1}}'),
            b'{"image":{"b64":"AAAA"},"tags":{"' + b"a" * 200 + b'":"b"}}',
            json.dumps(
                {"image": {"b64": "AAAA"}, "tags": dict.fromkeys(map(str, range(99)), "")}
            ).encode(),
        )
    ),
    ("/v1/detect", {"files": {"picture": ("a.jpg", JPEG)}}, 400),
    ("/v1/detect", {"files": [("image", ("a", JPEG)), ("image", ("b", JPEG))]}, 400),
    ("/v1/detect", {"files": {"image": ("a.jpg", b"no image")}}, 400),
    ("/v1/detect", sent(b"--x\r\n\r\n", "multipart/form-data; boundary=x"), 400),
    ("/v1/detect", sent(b"--x--", "multipart/form-data"), 400),
    ("/v1/detect", sent(b"", "multipart/form-data; boundary="), 400),
    ("/v1/detect", sent(b"--x\r\n" * 500, "multipart/form-data; boundary=x"), 400),
    ("/v1/detect", sent(b"a", "multipart/form-data; boundary=" + "x" * 5000), 400),
    (
        "/v1/detect",
        sent(
            b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\nabc\r\n--x--\r\n',
            "multipart/form-data; boundary=x; charset=klingon",
        ),
        400,
    ),
    *(
        ("/v1/feedback", {"json": body}, 400)
        for body in (
            *([], "x", {}, {"event_id": "e"}, {"kind": "confirm"}, KNOWN | {"kind": "maybe"}),
            *(KNOWN | {"event_id": 5}, KNOWN | {"event_id": ""}, KNOWN | {"event_id": "a b"}),
            *(KNOWN | {"event_id": "é"}, KNOWN | {"event_id": "x" * 300}, KNOWN | {"more": 1}),
            *(KNOWN | {"boxes": [[1, 2, 3]]}, KNOWN | {"boxes": [[0, 0, 1, 1]]}),
            *(KNOWN | CORRECT | {"labels": [-1]}, KNOWN | CORRECT | {"labels": [0.5]}),
            *(KNOWN | CORRECT | {"labels": [0, 1]}, KNOWN | CORRECT | {"labels": [10**30]}),
            *(KNOWN | CORRECT | {"boxes": [[5, 0, 1, 1]]}, KNOWN | CORRECT | {"note": "x" * 501}),
            *(KNOWN | CORRECT | {"boxes": [[0, 0, 1e9, 1]]}, KNOWN | CORRECT | {"kind": "confirm"}),
            KNOWN | {"boxes": [[0, 0, 1, 1]] * 301, "labels": [0] * 301},
        )
    ),
    ("/v1/feedback", {"json": KNOWN | CORRECT}, 404),
    ("/v1/feedback", sent(b'{"event_id": NaN}', DOCUMENT), 400),
    ("/v1/feedback", sent(b"{" * 60_000, DOCUMENT), 400),
    ("/v1/feedback", sent(b" " * 70_000, DOCUMENT), 413),
    ("/v1/feedback", sent(b"a=1", "application/x-www-form-urlencoded"), 415),
    *(
        ("/v1/triggers", {"json": body}, 400)
        for body in (
            *([], "x", {}, {"request_id": "1"}, {"reason": "x"}, ASKED | {"more": 1}),
            *(ASKED | {"request_id": 1}, ASKED | {"request_id": ""}, ASKED | {"request_id": "a b"}),
            *(ASKED | {"request_id": "é"}, ASKED | {"request_id": "x" * 101}),
            *(ASKED | {"reason": ""}, ASKED | {"reason": "x" * 501}, ASKED | {"reason": None}),
        )
    ),
    *(
        (path, {"json": body}, 400)
        for path in ("/v1/triggers/alertmanager", "/v1/triggers/api/v2/alerts")
        for body in (
            *("x", {}, 5, {"alerts": {}}, {"alerts": [1]}, [{}], [{"labels": {}}]),
            *([ALERT | {"startsAt": "yesterday"}], [ALERT | {"startsAt": "2026-11-21T12:00:00"}]),
            *([ALERT | {"labels": {"a": 1}}], [ALERT | {"endsAt": []}]),
        )
    ),
    *(
        (path, request, status)
        for path in ("/v1/triggers", "/v1/triggers/alertmanager")
        for request, status in (
            *((sent(b"", DOCUMENT), 400), (sent(b"{", DOCUMENT), 400)),
            *((sent(b"[" * 15_000, DOCUMENT), 400), (sent(b"a=1", "text/plain"), 415)),
            (sent(b" " * 1_100_000, DOCUMENT), 413),
        )
    ),
    ("/v1/stream", {}, 404),
    ("/v2/nothing", {}, 404),
    ("/%00/..%2f..", {}, 404),
    ("/healthz", {}, 405),
    ("/metrics", {}, 405),
]


def test_what_is_malformed_gets_a_4xx_and_a_sentence(gateway: Served, rungs: Rungs) -> None:
    wrong = []
    for path, request, status in MALFORMED:
        answer = gateway.http.post(path, **request)
        detail = answer.json().get("detail") if answer.content else None
        sentence = isinstance(detail, str) and len(detail) > 10 and "\n" not in detail
        if answer.status_code != status or not sentence:
            wrong.append((path, str(request)[:120], status, answer.status_code, detail))
    assert post(gateway, "/v1/detect", **sent(JPEG)).status_code == 200
    assert wrong == []
    assert len(MALFORMED) > 100
    assert rungs["nano"].asked == 1


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nhost: h\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n"
        b"content-type: image/png\r\n\r\nZZ\r\n",
        b"POST /v1/detect HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\n"
        b"content-length: 99999999999\r\n\r\n",
        # Half of a body, and then nothing.
        b"POST /v1/detect HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: image/png\r\n"
        b"content-length: 100\r\n\r\nhalf",
        b"GET /v1/stream HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: upgrade\r\n"
        b"upgrade: websocket\r\nsec-websocket-version: 7\r\nsec-websocket-key: no\r\n\r\n",
        b"GET /v1/detect HTTP/9.9\r\n\r\n",
    ],
)
def test_raw_bytes_on_the_socket(gateway: Served, raw: bytes) -> None:
    with socket.create_connection(gateway.address, timeout=SECONDS) as peer:
        peer.sendall(raw)
        answer = b""
        while not re.match(rb"HTTP/1\.1 (\d+)", answer) and (part := peer.recv(65_536)):
            answer += part
    found = re.match(rb"HTTP/1\.1 4\d\d ", answer)
    assert found, answer
    assert gateway.http.get("/healthz").status_code == 200


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
CASES = runs(60, 1000)
"""Per operation and kind."""


@pytest.mark.campaign
@pytest.mark.parametrize("kind", list(GenerationMode))
def test_generated_requests_are_answered_as_documented(
    gateway: Served, kind: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")
    statuses: Counter[tuple[str, int]] = Counter()
    for operation in schema.get_all_operations():

        @settings(
            max_examples=CASES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.ok().as_strategy(generation_mode=kind))
        def check(case: schemathesis.Case) -> None:
            answer = case.call(timeout=SECONDS)
            statuses[case.path, answer.status_code] += 1
            case.validate_response(answer, checks=CHECKS)
            if answer.status_code >= 400:
                assert isinstance(answer.json()["detail"], str)

        try:
            check()
        except Unsatisfiable:  # nothing about this operation can be wrong
            assert kind is GenerationMode.NEGATIVE
    paths = {path for path, _ in statuses}
    assert {"/v1/detect", "/v1/feedback", "/v1/triggers"} <= paths
    assert sum(statuses.values()) >= 2 * CASES
    assert max(status for _, status in statuses) < 500
