"""One rung as a process: every form of request, and nothing that brings it down."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc
import httpx
import numpy as np
import pytest
from exposed_metrics import check_vocabulary
from hostile_service import withstands
from png_bombs import png_bomb
from processes import closed_port
from prometheus_client import CollectorRegistry
from service_process import Service, sentence
from tiny_models import drawn

from feature_transformer.image import decode
from foundation.errors import (
    DeadlineExceeded,
    InvalidInput,
    ModelError,
    PayloadTooLarge,
    Unavailable,
)
from foundation.gpu import watch_gpus
from foundation.metrics import GPU_BUSY
from inference_graph.contract import Answer, Detections
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.detector.client import RungClient
from serving_kit.inference_protocol import InferenceChannel
from serving_kit.kserve_protobuf import messages
from serving_kit.tensors import Tensor

LIMIT = 2 * 1024 * 1024
V1, V2 = "/v1/models/nano:predict", "/v2/models/nano/infer"
RAW = "inference-header-content-length"


@pytest.fixture(scope="module")
def nano(sample_ladder: Path) -> Iterator[Service]:
    service = Service(
        "inference_graph.detector",
        *("--rung", "nano", "--weights", sample_ladder / "nano.onnx", "--threads", 1),
        *("--max_body_bytes", LIMIT, "--max-pixels", 4_000_000, "--body-seconds", 2),
    ).wait()
    yield service
    assert service.stop() == 0


@pytest.fixture(scope="module")
def detector(sample_ladder: Path) -> Detector:
    return Detector(DetectorConfig(sample_ladder / "nano.onnx", "nano", threads=1))


def jpeg(frame: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", frame)[1].tobytes())


FRAME = drawn(150, 200)
"""Smaller than the network's input, so a client sends it as it is."""
JPEG = jpeg(FRAME)
TEXT = base64.b64encode(JPEG).decode()


def same(found: Detections, expected: Detections, atol: float = 0) -> None:
    assert len(found) == len(expected) >= 10
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=atol)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.labels, expected.labels)


def with_client(nano: Service, use: Callable[[RungClient], Awaitable[object]]) -> object:
    async def run() -> object:
        client = RungClient("nano", nano.grpc)
        try:
            return await use(client)
        finally:
            await client.close()

    return asyncio.run(run())


# --- gRPC -----------------------------------------------------------------------------------------


def test_boxes_over_grpc_are_those_in_process(nano: Service, detector: Detector) -> None:
    async def use(client: RungClient) -> Answer:
        assert await client.ready()
        return await client.detect(FRAME, 30, "f-1")

    answer = with_client(nano, use)
    assert isinstance(answer, Answer)
    same(answer.detections, detector.detect(FRAME).detections)
    assert (answer.rung, answer.revision) == ("nano", detector.revision)
    assert list(answer.milliseconds) == [
        *("decode", "preprocess", "inference", "postprocess", "queue", "wire")
    ]
    assert all(spent >= 0 for spent in answer.milliseconds.values())


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (333, 251), (200, 1999)])
def test_a_scaled_frame_has_the_boxes_of_the_whole_one(
    nano: Service, detector: Detector, size: tuple[int, int]
) -> None:
    frame = drawn(*size, seed=3)
    answer = with_client(nano, lambda client: client.detect(frame, 30))
    assert isinstance(answer, Answer)
    same(answer.detections, detector.detect(frame).detections, atol=1e-3)


def test_facts(nano: Service, detector: Detector) -> None:
    async def use(client: RungClient) -> None:
        facts = await client.facts()
        assert facts.class_names == detector.class_names
        assert facts.category_ids == detector.category_ids
        assert facts.input_size == detector.input_size == (192, 256)
        assert facts.revision == detector.revision

    with_client(nano, use)


def test_hostile_pictures_cost_no_one_anything(nano: Service) -> None:
    withstands(
        lambda data: nano.client.post(V1, content=data, headers={"content-type": "image/png"}),
        lambda: nano.client.get("/v2/health/live").status_code,
        nano.pid,
        cv2.imencode(".jpg", drawn(96, 128))[1].tobytes(),
    )


def test_many_at_once_keep_their_order_and_the_health_check(
    nano: Service, detector: Detector
) -> None:
    frames = [drawn(150, 200, seed) for seed in range(12)]

    async def use(client: RungClient) -> list[Answer]:
        return await asyncio.gather(*(client.detect(frame, 60) for frame in frames))

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(with_client, nano, use)
        checks = 0
        while not asked.done() or not checks:
            assert nano.healthy()
            checks += 1
        answers = asked.result()
    assert isinstance(answers, list)
    for frame, answer in zip(frames, answers, strict=True):
        same(answer.detections, detector.detect(frame).detections)


def test_a_client_tells_what_went_wrong(nano: Service) -> None:
    async def none() -> None:
        port = closed_port()
        client = RungClient("nano", f"127.0.0.1:{port}")
        assert not await client.ready()
        with pytest.raises(Unavailable, match=f"nano at 127.0.0.1:{port}"):
            await client.detect(FRAME, 5)
        await client.close()

    async def another_rung() -> None:
        client = RungClient("small", nano.grpc)
        assert not await client.ready()
        with pytest.raises(ModelError, match="small does not exist"):
            await client.facts()
        await client.close()

    async def too_late(client: RungClient) -> None:
        await client.facts()
        with pytest.raises(DeadlineExceeded):
            await client.detect(FRAME, 1e-4)

    asyncio.run(none())
    asyncio.run(another_rung())
    with_client(nano, too_late)


PIXELS = np.zeros((4, 4, 3), np.uint8)
BAD_TENSORS = {
    "no image": ([], InvalidInput, "send one named 'image'"),
    "another name": ([Tensor.of("picture", PIXELS)], InvalidInput, "send one named 'image'"),
    "two tensors": (
        [Tensor.of("image", PIXELS), Tensor.of("more", PIXELS)],
        InvalidInput,
        "send one named 'image'",
    ),
    "floats": ([Tensor.of("image", PIXELS.astype(np.float32))], InvalidInput, "FP32"),
    "four channels": (
        [Tensor.of("image", np.zeros((4, 4, 4), np.uint8))],
        InvalidInput,
        r"\[4, 4, 4\]",
    ),
    "a batch": ([Tensor.of("image", PIXELS[np.newaxis])], InvalidInput, r"\[1, 4, 4, 3\]"),
    "no pixels": (
        [Tensor.of("image", np.zeros((0, 4, 3), np.uint8))],
        InvalidInput,
        "at least one pixel",
    ),
    "a huge declared size": (
        [Tensor("image", "UINT8", (2**40, 2**40, 3), PIXELS)],
        InvalidInput,
        "brings 48 bytes",
    ),
    "a negative size": ([Tensor("image", "UINT8", (-4, -4, 3), PIXELS)], InvalidInput, "shape"),
    "an unknown type": ([Tensor("image", "UINT9", (4, 4, 3), PIXELS)], InvalidInput, "UINT9"),
    "no image in the bytes": (
        [Tensor("image", "BYTES", (1,), (b"hello",))],
        InvalidInput,
        "no image",
    ),
    "two images": ([Tensor("image", "BYTES", (2,), (JPEG, JPEG))], InvalidInput, "2 images"),
    "a cut image": ([Tensor("image", "BYTES", (1,), (JPEG[:-40],))], InvalidInput, "cut short"),
    "too long": (
        [Tensor.of("image", np.zeros((1000, 1000, 3), np.uint8))],
        PayloadTooLarge,
        "larger than max",
    ),
}


@pytest.mark.parametrize("name", BAD_TENSORS)
def test_bad_tensors_over_grpc(nano: Service, name: str) -> None:
    tensors, expected, words = BAD_TENSORS[name]

    async def use() -> None:
        channel = InferenceChannel("nano", nano.grpc)
        try:
            with pytest.raises(expected, match=words) as caught:
                await channel.infer(tensors, 30)
            assert caught.value.http_status < 500
            assert len(str(caught.value)) <= 300
        finally:
            await channel.close()

    asyncio.run(use())
    assert nano.healthy()


def test_messages_that_are_none(nano: Service) -> None:
    with grpc.insecure_channel(nano.grpc) as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=bytes,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff" * 50, timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        # Raw contents for one tensor of two; typed contents, which the answer then has too.
        request = messages.ModelInferRequest(model_name="nano", raw_input_contents=[b"1"])
        with pytest.raises(grpc.RpcError) as caught:
            call(request.SerializeToString(), timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        request = messages.ModelInferRequest(model_name="nano")
        request.inputs.add(
            name="image", datatype="BYTES", shape=[1]
        ).contents.bytes_contents.append(JPEG)
        answer = call(request.SerializeToString(), timeout=30)
        boxes = next(output for output in answer.outputs if output.name == "boxes")
        assert len(boxes.contents.fp32_contents) == boxes.shape[0] * 4 >= 40
        unload = channel.unary_unary(
            "/inference.GRPCInferenceService/RepositoryModelUnload",
            request_serializer=bytes,
            response_deserializer=bytes,
        )
        with pytest.raises(grpc.RpcError) as caught:
            unload(b"\x0a\x04nano", timeout=30)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert nano.healthy()


# --- REST -----------------------------------------------------------------------------------------


def binary(head: dict[str, object], *tails: bytes) -> dict[str, object]:
    """A V2 request with binary tensors."""
    document = json.dumps(head).encode()
    return {"content": b"".join((document, *tails)), "headers": {RAW: str(len(document))}}


def image_input(**fields: object) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], **fields}]}


ELEMENT = struct.pack("<I", len(JPEG)) + JPEG
GOOD_V2 = {
    "bytes in json": {"json": image_input(data=[TEXT])},
    "bytes in binary": binary(
        image_input(parameters={"binary_data_size": len(ELEMENT)}) | {"id": "7"}, ELEMENT
    ),
    "pixels in binary": binary(
        image_input(
            datatype="UINT8",
            shape=[150, 200, 3],
            parameters={"binary_data_size": 90_000},
        ),
        decode(JPEG).tobytes(),
    ),
    "pixels in json": {
        "json": image_input(
            datatype="UINT8", shape=[150, 200, 3], data=decode(JPEG).ravel().tolist()
        )
    },
    "pixels in nested json": {
        "json": image_input(datatype="UINT8", shape=[150, 200, 3], data=decode(JPEG).tolist())
    },
}


@pytest.mark.parametrize("form", GOOD_V2)
def test_forms_of_v2(nano: Service, detector: Detector, form: str) -> None:
    answer = nano.client.post(V2, **GOOD_V2[form])
    assert answer.status_code == 200, answer.text
    reported = answer.json()
    assert reported["model_name"] == "nano"
    outputs = {output["name"]: output for output in reported["outputs"]}
    assert {name: one["datatype"] for name, one in outputs.items()} == {
        "boxes": "FP32",
        "scores": "FP32",
        "labels": "INT32",
    }
    found = Detections(
        np.array(outputs["boxes"]["data"], np.float32).reshape(outputs["boxes"]["shape"]),
        np.array(outputs["scores"]["data"], np.float32),
        np.array(outputs["labels"]["data"], np.int32),
    )
    same(found, detector.detect(decode(JPEG)).detections)
    parameters = reported["parameters"]
    assert (parameters["variant"], parameters["revision"]) == ("nano", detector.revision)
    assert parameters["inference_ms"] > 0


def test_outputs_in_binary_and_by_name(nano: Service, detector: Detector) -> None:
    request = image_input(data=[TEXT]) | {
        "parameters": {"frame_id": "f-9"},
        "outputs": [
            {"name": "scores", "parameters": {"binary_data": True}},
            {"name": "class_names"},
        ],
    }
    answer = nano.client.post(V2, json=request)
    length = int(answer.headers[RAW])
    reported = json.loads(answer.content[:length])
    assert reported["parameters"]["frame_id"] == "f-9"
    assert [output["name"] for output in reported["outputs"]] == ["scores", "class_names"]
    assert reported["outputs"][1]["data"] == list(detector.class_names)
    scores = np.frombuffer(answer.content[length:], np.float32)
    expected = detector.detect(decode(JPEG)).detections.scores
    np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_v1(nano: Service, detector: Detector) -> None:
    other = jpeg(drawn(90, 300, seed=5))
    instances = [{"image": {"b64": base64.b64encode(one).decode()}} for one in (JPEG, other)]
    answer = nano.client.post(V1, json={"instances": instances, "route": {"model": "nano"}})
    assert answer.status_code == 200, answer.text
    predictions = answer.json()["predictions"]
    for image, reported in zip((JPEG, other), predictions, strict=True):
        found = Detections(
            np.array(reported["boxes"], np.float32),
            np.array(reported["scores"], np.float32),
            np.array(reported["labels"], np.int32),
        )
        same(found, detector.detect(decode(image)).detections)
        assert reported["names"] == [detector.class_names[label] for label in reported["labels"]]
        assert reported["categories"] == [
            detector.category_ids[label] for label in reported["labels"]
        ]
        assert (reported["variant"], reported["revision"]) == ("nano", detector.revision)
        assert set(reported["milliseconds"]) == {
            *("decode", "preprocess", "inference", "postprocess", "queue")
        }


@pytest.mark.parametrize("media", ["image/jpeg", "application/octet-stream"])
def test_an_image_as_the_body(nano: Service, media: str) -> None:
    answer = nano.client.post(V1, content=JPEG, headers={"content-type": media})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"][0]["scores"]) >= 10


@pytest.mark.parametrize(
    ("media", "status"),
    [("application/json; charset=utf-8", 200), ("", 200), ("text/plain", 415)],
)
def test_json_is_read_unless_a_page_could_have_sent_it(
    nano: Service, media: str, status: int
) -> None:
    body = json.dumps({"instances": [{"image": {"b64": TEXT}}]}).encode()
    headers = {"content-type": media} if media else {}
    assert nano.client.post(V1, content=body, headers=headers).status_code == status


def test_a_model_has_one_version_over_both_protocols(nano: Service) -> None:
    message = "Model versioning not supported yet."
    for place in ("versions/1/infer", "versions/1/ready", "versions/1"):
        method = "POST" if place.endswith("infer") else "GET"
        answer = nano.client.request(method, f"/v2/models/nano/{place}", json={"inputs": []})
        assert (answer.status_code, sentence(answer)) == (404, message)
    with grpc.insecure_channel(nano.grpc) as channel:
        for call, fields in (
            ("ModelInfer", {"model_name": "nano", "model_version": "1"}),
            ("ModelReady", {"name": "nano", "version": "1"}),
        ):
            ask = channel.unary_unary(
                f"/inference.GRPCInferenceService/{call}",
                request_serializer=bytes,
                response_deserializer=bytes,
            )
            request = getattr(messages, f"{call}Request")(**fields).SerializeToString()
            with pytest.raises(grpc.RpcError) as refused:
                ask(request, timeout=30)
            reported = refused.value.code(), refused.value.details()
            assert reported == (grpc.StatusCode.NOT_FOUND, message)


def test_a_cloud_event(nano: Service) -> None:
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "image"}
    body = {"instances": [{"image": {"b64": TEXT}}]}
    answer = nano.client.post(V1, json=body, headers=event)
    assert answer.status_code == 200, answer.text
    assert answer.headers["ce-specversion"] == "1.0"
    assert len(answer.json()["predictions"]) == 1
    broken = nano.client.post(V1, json=body, headers={**event, "ce-specversion": "9"})
    assert broken.status_code == 400
    sentence(broken)


BOMB = png_bomb(2**30, 2**30)


def v1_image(image: bytes) -> dict[str, object]:
    return {"json": {"instances": [{"image": {"b64": base64.b64encode(image).decode()}}]}}


BAD_V1: dict[str, tuple[int, dict[str, object]]] = {
    "no body": (400, {"content": b""}),
    "broken json": (400, {"content": b'{"instances": [', "headers": {"content-type": "text/json"}}),
    "json of another kind": (400, {"json": [1, 2]}),
    "nan": (400, {"content": b'{"instances": [NaN]}'}),
    "deep json": (400, {"content": b"[" * 100_000}),
    "no instances": (400, {"json": {"image": TEXT}}),
    "empty instances": (400, {"json": {"instances": []}}),
    "instances of text": (400, {"json": {"instances": ["x"]}}),
    "an instance without image": (400, {"json": {"instances": [{"picture": 1}]}}),
    "image of text": (400, {"json": {"instances": [{"image": TEXT}]}}),
    "b64 of number": (400, {"json": {"instances": [{"image": {"b64": 5}}]}}),
    "no base64": (400, {"json": {"instances": [{"image": {"b64": "%%%"}}]}}),
    "not ascii": (400, {"json": {"instances": [{"image": {"b64": "é"}}]}}),
    "too many instances": (400, {"json": {"instances": [{}] * 65}}),
    "an empty image": (400, v1_image(b"")),
    "no image": (400, v1_image(b"hello")),
    "a cut jpeg": (400, v1_image(JPEG[: len(JPEG) // 2])),
    "only a header": (400, v1_image(JPEG[:30])),
    "a bomb": (400, v1_image(BOMB)),
    "a bomb as the body": (
        400,
        {"content": BOMB, "headers": {"content-type": "image/png"}},
    ),
    "one bad of two": (
        400,
        {"json": {"instances": [{"image": {"b64": TEXT}}, {"image": {"b64": "AAAA"}}]}},
    ),
    "another media type": (415, {"content": b"<x/>", "headers": {"content-type": "text/xml"}}),
    "too long": (413, {"content": b"x" * (LIMIT + 1)}),
    "too long, length not declared": (413, {"content": iter([b"x" * LIMIT, b"x" * LIMIT])}),
}


@pytest.mark.parametrize("name", BAD_V1)
def test_bad_v1(nano: Service, name: str) -> None:
    status, request = BAD_V1[name]
    answer = nano.client.post(V1, **request)
    assert answer.status_code == status, answer.text
    sentence(answer)
    assert nano.healthy()


BAD_V2: dict[str, dict[str, object]] = {
    "no body": {"content": b""},
    "broken json": {"content": b"{broken", "headers": {"content-type": "application/json"}},
    "bytes that are no text": {"content": JPEG},
    "json of another kind": {"json": 5},
    "inputs of another kind": {"json": {"inputs": {"image": 1}}},
    "no inputs": {"json": {"inputs": []}},
    "an input of text": {"json": {"inputs": ["image"]}},
    "an input without shape": {"json": {"inputs": [{"name": "image", "datatype": "BYTES"}]}},
    "a twin": {"json": {"inputs": image_input(data=[TEXT])["inputs"] * 2}},
    "shape of text": {"json": image_input(data=[TEXT], shape=["1"])},
    "negative shape": {"json": image_input(data=[TEXT], shape=[-1])},
    "huge shape": {"json": image_input(datatype="UINT8", shape=[10**18, 10**18, 3], data=[1])},
    "endless shape": {"json": image_input(shape=[1] * 100, data=[TEXT])},
    "no data": {"json": image_input()},
    "data of another kind": {"json": image_input(data=TEXT)},
    "data of numbers": {"json": image_input(data=[5])},
    "no base64": {"json": image_input(data=["not base64!"])},
    "two images": {"json": image_input(data=[TEXT, TEXT], shape=[2])},
    "unknown datatype": {"json": image_input(datatype="INT5", data=[1])},
    "floats": {"json": image_input(datatype="FP32", shape=[1, 1, 3], data=[1.0, 2.0, 3.0])},
    "fractions": {"json": image_input(datatype="UINT8", shape=[1, 1, 3], data=[1.5, 2, 3])},
    "beyond a byte": {"json": image_input(datatype="UINT8", shape=[1, 1, 3], data=[1, 2, 256])},
    "beyond any": {"json": image_input(datatype="UINT8", shape=[1, 1, 3], data=[1, 2, 10**40])},
    "ragged": {"json": image_input(datatype="UINT8", shape=[1, 2, 3], data=[[1, 2], [1]])},
    "too few": {"json": image_input(datatype="UINT8", shape=[1, 2, 3], data=[1, 2, 3])},
    "nulls": {"json": image_input(datatype="UINT8", shape=[1, 1, 3], data=[None] * 3)},
    "unknown output": {"json": image_input(data=[TEXT]) | {"outputs": [{"name": "masks"}]}},
    "outputs of text": {"json": image_input(data=[TEXT]) | {"outputs": ["boxes"]}},
    "id of number": {"json": image_input(data=[TEXT]) | {"id": 5}},
    "length beyond the body": {"content": b"{}", "headers": {RAW: "999"}},
    "length of text": {"content": b"{}", "headers": {RAW: "many"}},
    "length negative": {"content": b"{}", "headers": {RAW: "-1"}},
    "binary size beyond the body": binary(
        image_input(parameters={"binary_data_size": 10**9}), ELEMENT
    ),
    "binary size negative": binary(image_input(parameters={"binary_data_size": -5}), ELEMENT),
    "binary size of text": binary(image_input(parameters={"binary_data_size": "5"}), ELEMENT),
    "bytes left over": binary(
        image_input(parameters={"binary_data_size": len(ELEMENT)}), ELEMENT, b"more"
    ),
    "an element beyond its data": binary(
        image_input(parameters={"binary_data_size": 8}), b"\xff\xff\xff\xff1234"
    ),
    "a cut length": binary(image_input(parameters={"binary_data_size": 2}), b"12"),
    "pixels too short": binary(
        image_input(datatype="UINT8", shape=[9, 9, 3], parameters={"binary_data_size": 5}), b"12345"
    ),
}


@pytest.mark.parametrize("name", BAD_V2)
def test_bad_v2(nano: Service, name: str) -> None:
    answer = nano.client.post(V2, **BAD_V2[name])
    assert answer.status_code == 400, answer.text
    sentence(answer)
    assert nano.healthy()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", V2, 405),
        ("POST", "/v1/models/large:predict", 404),
        ("POST", "/v1/models/nano:explain", 404),
        ("GET", "/v2/models/large", 404),
        ("GET", "/v2/models/nano/versions/2", 404),
        ("POST", "/v2/repository/models/nano/unload", 403),
        ("POST", "/v2/repository/models/nano/load", 403),
    ],
)
def test_what_is_not_there(nano: Service, method: str, path: str, status: int) -> None:
    answer = nano.client.request(method, path, json={} if method == "POST" else None)
    assert answer.status_code == status, answer.text
    sentence(answer)
    assert nano.healthy()


def test_metadata_names_the_tensors(nano: Service) -> None:
    reported = nano.client.get("/v2/models/nano").json()
    assert {"name": "image", "datatype": "UINT8", "shape": [-1, -1, 3]} in reported["inputs"]
    assert {"name": "image", "datatype": "BYTES", "shape": [1]} in reported["inputs"]
    assert {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]} in reported["outputs"]


def test_a_body_that_does_not_come(nano: Service) -> None:
    host, port = nano.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as half_open:
        head = f"POST {V1} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 500\r\n\r\n{{"
        half_open.sendall(head.encode())
        start = time.monotonic()
        answer = half_open.recv(4096)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - start >= 1.5
    assert nano.healthy()


def test_what_is_no_http(nano: Service) -> None:
    host, port = nano.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as caller:
        caller.sendall(b"\x16\x03\x01 hello\r\n\r\n")
        assert caller.recv(4096).startswith(b"HTTP/1.1 400 ")
    assert nano.healthy()


def test_metrics(nano: Service) -> None:
    def counted() -> dict[str, float]:
        lines = nano.client.get("/metrics").text.splitlines()
        return {
            line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith("gearshift_")
        }

    before = counted()
    nano.client.post(V1, json={})
    nano.client.post(V1, **v1_image(JPEG))
    after = counted()

    def more(name: str) -> float:
        return after[name] - before.get(name, 0.0)

    assert more('gearshift_requests_total{code="400",model="nano",protocol="v1"}') == 1
    assert more('gearshift_requests_total{code="200",model="nano",protocol="v1"}') == 1
    assert more('gearshift_request_seconds_count{model="nano",protocol="v1"}') == 2
    for stage in ("decode", "preprocess", "inference", "postprocess", "queue"):
        name = f'gearshift_detector_stage_seconds_count{{model="nano",stage="{stage}"}}'
        assert more(name) == 1
    assert after['gearshift_detector_waiting{model="nano"}'] == 0
    assert more('gearshift_detector_batch_images_count{model="nano"}') == 1
    assert more('gearshift_detector_batch_images_sum{model="nano"}') == 1
    without = () if watch_gpus(CollectorRegistry()) else (GPU_BUSY.needs,)
    check_vocabulary(nano.client.get("/metrics").text, "detector", without)


def test_kserves_own_client_is_understood(nano: Service, detector: Detector) -> None:
    """KServe's messages and ours are the same on the wire."""
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async def ask() -> np.ndarray:
        client = InferenceGRPCClient(nano.grpc)
        tensor = InferInput("image", list(FRAME.shape), "UINT8")
        tensor.set_data_from_numpy(FRAME)
        answer = await client.infer(InferRequest("nano", [tensor]))
        await client.close()
        boxes: np.ndarray = answer.get_output_by_name("boxes").as_numpy()
        return boxes

    np.testing.assert_array_equal(asyncio.run(ask()), detector.detect(FRAME).detections.boxes)


def test_a_slow_reader_holds_no_one_up(nano: Service) -> None:
    slow = httpx.Client(base_url=f"http://{nano.http}", timeout=60)
    with slow, slow.stream("POST", V1, **v1_image(JPEG)) as unread:
        assert unread.status_code == 200
        assert nano.client.post(V1, **v1_image(JPEG)).status_code == 200
