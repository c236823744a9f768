"""Query parameters of requests and streams: what an answer holds, and what is refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway_samples import Rungs, Served, asked, gateway_settings, jpeg, served, talk
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from inference_graph.prediction_log.reader import read_log

IMAGE: dict[str, Any] = {"content": jpeg(), "headers": {"content-type": "image/jpeg"}}


@pytest.fixture
def gateway(rungs: Rungs, tmp_path: Path) -> Iterator[Served]:
    # Large finds three objects: a car at .8, a person at .6 and another one at .3.
    options = {"always": "large", "log_url": str(tmp_path / "log"), "confidence": 0.5}
    with served(gateway_settings(**options), rungs) as running:
        yield running


def scores(gateway: Served, query: str = "") -> list[float]:
    answer = gateway.http.post(f"/v1/detect{query}", **IMAGE)
    assert answer.status_code == 200, answer.text
    return [one["score"] for one in answer.json()["detections"]]


def streamed_scores(gateway: Served, query: str = "") -> list[float]:
    [answer] = talk(gateway.stream + query, lambda stream: asked(stream, jpeg()))
    return [one["score"] for one in answer["detections"]]


@pytest.mark.parametrize("found", [scores, streamed_scores])
def test_confidence_and_classes_choose_what_an_answer_holds(gateway: Served, found: Any) -> None:
    assert found(gateway) == [0.8, 0.6]
    assert found(gateway, "?confidence=0") == [0.8, 0.6, 0.3]
    assert found(gateway, "?confidence=0.7") == [0.8]
    assert found(gateway, "?classes=person&confidence=0.1") == [0.6, 0.3]
    assert found(gateway, "?classes=person,car") == [0.8, 0.6]


def test_the_log_keeps_what_an_answer_leaves_out(gateway: Served) -> None:
    assert scores(gateway, "?confidence=1") == []
    assert gateway.runtime.log.flush()
    table = read_log(gateway.runtime.settings.log_url)
    assert [len(row) for row in table.column("scores").to_pylist()] == [3]


WRONG = {
    "?confidense=0.5": "confidence",
    "?confidence=0.5&confidence=0.6": "twice",
    "?confidence=2": "confidence",
    "?confidence=nan": "confidence",
    "?classes=cat": "car",
    "?token=abc": "unknown query parameter 'token'",
}


@pytest.mark.parametrize("query", WRONG)
def test_wrong_parameters_are_refused_with_a_hint(gateway: Served, query: str) -> None:
    answer = gateway.http.post(f"/v1/detect{query}", **IMAGE)
    assert answer.status_code in (400, 422)
    assert WRONG[query] in answer.json()["detail"]

    async def refused() -> bytes:
        with pytest.raises(InvalidStatus) as refusal:
            async with connect(gateway.stream + query):
                pass
        assert refusal.value.response.status_code == 400
        return refusal.value.response.body or b""

    assert WRONG[query] in json.loads(asyncio.run(refused()))["detail"]


def test_every_route_refuses_a_parameter_it_does_not_know(gateway: Served) -> None:
    """Health checks and metrics may be given any, for probes and proxies add some."""
    document = gateway.http.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            filled = path.replace("{model}", "nano")
            answer = gateway.http.request(method, f"{filled}?no_such_thing=1")
            message = "no_such_thing" in answer.text
            assert message == path.startswith("/v1/"), (method, path, answer.text)
            assert answer.status_code == 400 if message else answer.status_code < 500
