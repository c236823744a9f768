"""What the router's predictor answers, as its transformer tells it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import grpc
import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from feature_transformer.observation import LADDER, OBSERVATION_SIZE, SCHEMA_HASH
from feature_transformer.router_client import GrpcRouter, RestRouter
from feature_transformer.router_protocol import RouterDecision
from feature_transformer.service import TransformerOptions, TransformerService, is_sampled
from foundation.errors import (
    DeadlineExceeded,
    GearshiftError,
    ImageError,
    InvalidInput,
    ModelError,
    SchemaMismatch,
    TooManyRequests,
    Unavailable,
)
from serving_kit.server_metrics import ServerMetrics
from serving_kit.statuses import from_grpc, from_http, one_line, to_grpc

OBSERVATION = np.zeros(OBSERVATION_SIZE, np.float32)
FACTS = {
    "schema_hash": ("BYTES", [SCHEMA_HASH.encode()]),
    "ladder": ("BYTES", [rung.encode() for rung in LADDER]),
    "latency_weight": ("FP64", [0.05]),
    "revision": ("BYTES", [b"r1"]),
}


class Stub(BaseHTTPRequestHandler):
    """A router that answers what a test wrote down."""

    answers: list[tuple[int, object]] = []
    asked: list[dict[str, str]] = []
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.asked.append({name.lower(): text for name, text in self.headers.items()})
        status, reported = self.answers.pop(0)
        body = reported if isinstance(reported, bytes) else json.dumps(reported).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub() -> Iterator[str]:
    Stub.answers, Stub.asked = [], []
    with ThreadingHTTPServer(("127.0.0.1", 0), Stub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def facts(**changed: tuple[str, list[object]]) -> dict[str, object]:
    def text(values: list[object]) -> list[object]:
        import base64

        return [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in values]

    outputs = [
        {"name": name, "datatype": kind, "shape": [len(values)], "data": text(values)}
        for name, (kind, values) in (FACTS | changed).items()
    ]
    return {"outputs": outputs}


def decision(action: int = 1, revision: str = "r1", shares: int = 3) -> dict[str, object]:
    probabilities = [0.25, 0.5, 0.25][:shares]
    return {
        "outputs": [
            {"name": "action", "datatype": "INT64", "shape": [1], "data": [action]},
            {
                "name": "probabilities",
                "datatype": "FP32",
                "shape": [1, shares],
                "data": probabilities,
            },
        ],
        "parameters": {"revision": revision},
    }


def decide(host: str, timeout: float = 20) -> RouterDecision:
    async def ask() -> RouterDecision:
        client = RestRouter("router", host, timeout)
        try:
            return await client.decide(OBSERVATION, {"x-request-id": "7", "cookie": "secret"})
        finally:
            await client.close()

    return asyncio.run(ask())


def test_a_decision(stub: str) -> None:
    Stub.answers = [(200, facts()), (200, decision())]
    made = decide(stub)
    assert (made.action, made.probabilities) == (1, (0.25, 0.5, 0.25))
    assert Stub.asked[1]["x-request-id"] == "7"
    assert "cookie" not in Stub.asked[1]


def test_another_policy_must_see_the_same(stub: str) -> None:
    other = facts(schema_hash=("BYTES", [b"0" * 64]))
    Stub.answers = [(200, facts()), (200, decision(revision="r2")), (200, other)]
    with pytest.raises(SchemaMismatch, match="observation schema 000000000000"):
        decide(stub)
    Stub.answers = [(200, facts(ladder=("BYTES", [b"nano", b"huge"])))]
    with pytest.raises(SchemaMismatch, match="among nano, huge"):
        decide(stub)


@pytest.mark.parametrize(
    ("status", "reported", "expected"),
    [
        (400, {"error": "observations are bad"}, InvalidInput),
        (409, {"error": "another schema"}, SchemaMismatch),
        (422, {"error": "weights failed"}, ModelError),
        (429, {"error": "slow down"}, TooManyRequests),
        (503, {"error": "stopping"}, Unavailable),
        (504, {"error": "late"}, DeadlineExceeded),
        (404, {"error": "no model"}, Unavailable),
        (418, {"error": "a teapot"}, InvalidInput),
        (500, b"<html>oops</html>", GearshiftError),
    ],
)
def test_a_refusal_keeps_its_status(
    stub: str, status: int, reported: object, expected: type[GearshiftError]
) -> None:
    Stub.answers = [(200, facts()), (status, reported)]
    with pytest.raises(GearshiftError, match=f"router at {stub}") as caught:
        decide(stub)
    assert type(caught.value) is expected
    if status not in (404, 418):
        assert caught.value.http_status == status


@pytest.mark.parametrize(
    "reported",
    [b"hello", {"outputs": []}, decision(action=5), decision(action=-1), decision(shares=2)],
)
def test_what_answers_as_no_router(stub: str, reported: object) -> None:
    Stub.answers = [(200, facts()), (200, reported)]
    with pytest.raises(ModelError):
        decide(stub)
    Stub.answers = [(200, {"outputs": []})]
    with pytest.raises(ModelError, match="is no router"):
        decide(stub)


def test_no_answer_and_none_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(DeadlineExceeded, match="did not answer within"):
            decide(host, timeout=0.2)
    with pytest.raises(Unavailable, match="does not answer"):
        decide(host)

    async def over_grpc() -> None:
        client = GrpcRouter("router", host, 5)
        assert not await client.ready()
        with pytest.raises(Unavailable, match="router at"):
            await client.decide(OBSERVATION, {})
        await client.close()

    asyncio.run(over_grpc())


def test_the_transformer_passes_the_refusal_on(stub: str) -> None:
    Stub.answers = [(200, facts()), (200, decision(action=0)), (503, {"error": "stopping"})]
    image = bytes(cv2.imencode(".png", np.zeros((9, 9, 3), np.uint8))[1].tobytes())

    async def ask() -> None:
        service = TransformerService(
            lambda: RestRouter("router", stub, 20), TransformerOptions(shadow_share=1)
        )
        await service.start(ServerMetrics("transformer", "t", CollectorRegistry()))
        reported = await service.answer_v1(image, {})
        assert (reported["route"]["model"], reported["route"]["shadow"]) == ("nano", True)
        with pytest.raises(Unavailable, match="stopping"):
            await service.answer_v1(image, {})
        with pytest.raises(ImageError):
            await service.answer_v1(image[:40], {})
        await service.close()

    asyncio.run(ask())


def test_sampling_is_fair_and_always_the_same() -> None:
    keys = [str(number).encode() for number in range(4000)]
    sampled = [is_sampled(key, 0.1) for key in keys]
    assert 320 <= sum(sampled) <= 480  # 400 with a deviation of 19
    assert sampled == [is_sampled(key, 0.1) for key in keys]
    assert all(is_sampled(key, 0.3) for key, chosen in zip(keys, sampled, strict=True) if chosen)
    assert all(is_sampled(key, 1) for key in keys)
    assert not any(is_sampled(key, 0) for key in keys)


def test_statuses_both_ways() -> None:
    for status in (400, 401, 403, 413, 503, 504):
        assert from_grpc(to_grpc(status), "x").http_status == status
    assert to_grpc(418) == grpc.StatusCode.INVALID_ARGUMENT
    assert to_grpc(500) == grpc.StatusCode.INTERNAL
    assert type(from_http(507, "full")).__name__ == "StorageError"
    assert one_line("a\n  b") == "a b"
    assert len(one_line("x" * 1000)) == 300
