"""The router and its transformer as processes: what they decide is what the policy decides."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from exposed_metrics import check_vocabulary
from hostile_service import withstands
from service_process import Service, brightness_policy, refusal, sentence

from feature_transformer.image import decode
from feature_transformer.observation import (
    OBSERVATION_SIZE,
    Look,
    context_features,
    observation,
)
from feature_transformer.router_protocol import FACT_NAMES, read_facts
from foundation.errors import InvalidInput
from inference_graph.router import FrameRouter, Policy
from serving_kit.inference_protocol import InferenceChannel
from serving_kit.tensors import Tensor

ROUTER_V1, ROUTER_V2 = "/v1/models/router:predict", "/v2/models/router/infer"
V1, V2 = "/v1/models/feature-transformer:predict", "/v2/models/feature-transformer/infer"
RAW = "inference-header-content-length"


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return brightness_policy(tmp_path_factory.mktemp("policy") / "policy.onnx")


@pytest.fixture(scope="module")
def policy(policy_file: Path) -> Policy:
    return Policy(policy_file)


@pytest.fixture(scope="module")
def router(policy_file: Path) -> Iterator[Service]:
    service = Service("inference_graph.router", "--policy", policy_file).wait()
    yield service
    assert service.stop() == 0


@pytest.fixture(scope="module")
def transformers(router: Service) -> Iterator[dict[str, Service]]:
    """One that asks over REST, and one that asks over gRPC and samples every frame."""
    services = {
        "v2": Service(
            *("feature_transformer", "--predictor_host", router.http),
            *("--enable_predictor_health_check", "--max-pixels", 1_000_000),
        ),
        "grpc-v2": Service(
            *("feature_transformer", "--predictor-host", router.grpc, "--shadow_share", 1),
            *("--predictor_protocol", "grpc-v2"),
        ),
    }
    yield {name: service.wait() for name, service in services.items()}
    assert [service.stop() for service in services.values()] == [0, 0]


@pytest.fixture(scope="module", params=["v2", "grpc-v2"])
def transformer(transformers: dict[str, Service], request: pytest.FixtureRequest) -> Service:
    return transformers[request.param]


def rows(count: int = 5) -> np.ndarray:
    generator = np.random.default_rng(count)
    return generator.uniform(0, 1, (count, OBSERVATION_SIZE)).astype(np.float32)


# --- the router -----------------------------------------------------------------------------------


def test_v1_decides_as_the_policy(router: Service, policy: Policy) -> None:
    actions, probabilities = policy.decide(rows())
    answer = router.client.post(ROUTER_V1, json={"instances": rows().tolist()})
    assert answer.status_code == 200, answer.text
    reported = answer.json()
    assert [one["action"] for one in reported["predictions"]] == actions.tolist()
    rungs = [("nano", "small", "large")[action] for action in actions]
    assert [one["model"] for one in reported["predictions"]] == rungs
    np.testing.assert_allclose(
        [one["probabilities"] for one in reported["predictions"]], probabilities, atol=1e-6
    )
    assert reported["revision"] == policy.revision


def test_v2_decides_as_the_policy(router: Service, policy: Policy) -> None:
    actions, probabilities = policy.decide(rows())
    sent = {"name": "observations", "datatype": "FP32", "shape": list(rows().shape)}
    answer = router.client.post(
        ROUTER_V2, json={"inputs": [{**sent, "data": rows().ravel().tolist()}]}
    )
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output for output in answer.json()["outputs"]}
    assert outputs["action"] == {
        "name": "action",
        "datatype": "INT64",
        "shape": [5],
        "data": actions.tolist(),
    }
    np.testing.assert_allclose(
        np.reshape(outputs["probabilities"]["data"], (5, 3)), probabilities, atol=1e-6
    )


def test_grpc_decides_as_the_policy(router: Service, policy: Policy) -> None:
    async def ask() -> None:
        channel = InferenceChannel("router", router.grpc)
        tensors, parameters = await channel.infer((Tensor.of("observations", rows(300)),), 30)
        actions, probabilities = policy.decide(rows(300))
        np.testing.assert_array_equal(tensors["action"].array(), actions)
        np.testing.assert_allclose(tensors["probabilities"].array(), probabilities, atol=1e-6)
        assert parameters["revision"] == policy.revision
        facts = read_facts((await channel.infer((), 30, outputs=sorted(FACT_NAMES)))[0], "router")
        assert (facts.latency_weight, facts.revision) == (0.02, policy.revision)
        with pytest.raises(InvalidInput, match="not finite at 7"):
            await channel.infer((Tensor.of("observations", spoilt(np.nan)),), 30)
        await channel.close()

    asyncio.run(ask())


def spoilt(value: float) -> np.ndarray:
    observations = rows(2)
    observations[1, 7] = value
    return observations


def v2(array: np.ndarray, **fields: object) -> dict[str, object]:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "observations",
                    "datatype": "FP32",
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": array.nbytes},
                    **fields,
                }
            ]
        }
    ).encode()
    return {"content": head + array.tobytes(), "headers": {RAW: str(len(head))}}


BAD_ROUTER: dict[str, tuple[str, dict[str, object]]] = {
    "no instances": (ROUTER_V1, {"json": {}}),
    "empty instances": (ROUTER_V1, {"json": {"instances": []}}),
    "a flat row": (ROUTER_V1, {"json": {"instances": rows(1)[0].tolist()}}),
    "a short row": (ROUTER_V1, {"json": {"instances": [[0.5] * (OBSERVATION_SIZE - 1)]}}),
    "text": (ROUTER_V1, {"json": {"instances": [["a"] * OBSERVATION_SIZE]}}),
    "null": (ROUTER_V1, {"json": {"instances": [[None] * OBSERVATION_SIZE]}}),
    "a bare nan": (ROUTER_V1, {"content": b'{"instances": [[NaN]]}'}),
    "beyond float32": (ROUTER_V1, {"json": {"instances": [[1e300] * OBSERVATION_SIZE]}}),
    "too many": (ROUTER_V1, {"json": {"instances": [[]] * 4097}}),
    "nan": (ROUTER_V2, v2(spoilt(np.nan))),
    "infinity": (ROUTER_V2, v2(spoilt(np.inf))),
    "another width": (ROUTER_V2, v2(rows()[:, :-1].copy())),
    "no rows": (ROUTER_V2, v2(rows()[:0])),
    "one dimension": (ROUTER_V2, v2(rows(1)[0])),
    "doubles": (ROUTER_V2, v2(rows().astype(np.float64), datatype="FP64")),
    "bytes": (ROUTER_V2, v2(rows(), datatype="BYTES")),
    "another name": (ROUTER_V2, v2(rows(), name="inputs")),
}


@pytest.mark.parametrize("name", BAD_ROUTER)
def test_bad_observations(router: Service, name: str) -> None:
    path, request = BAD_ROUTER[name]
    answer = router.client.post(path, **request)
    assert answer.status_code == 400, answer.text
    sentence(answer)
    assert router.healthy()


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({"schema_hash": "0" * 64}, "observation schema 000000000000"),
        ({"ladder": '["nano", "large"]'}, "['nano', 'large']"),
    ],
)
def test_a_policy_made_for_something_else_is_refused(
    tmp_path: Path, notes: dict[str, str], words: str
) -> None:
    path = brightness_policy(tmp_path / "other.onnx", **notes)
    code, errors = refusal("inference_graph.router", "--policy", path)
    assert code == 1
    assert errors.startswith("error: ")
    assert words in errors
    assert errors.count("\n") == 1


# --- the transformer ------------------------------------------------------------------------------

DARK = np.full((90, 120, 3), 100, np.uint8)
BRIGHT = np.full((90, 120, 3), 230, np.uint8)


def png(frame: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", frame)[1].tobytes())


def body(frame: np.ndarray, **more: object) -> dict[str, Any]:
    image = base64.b64encode(png(frame)).decode()
    return {"instances": [{"image": {"b64": image}}], **more}


def test_the_body_comes_back_with_the_route(transformer: Service, policy: Policy) -> None:
    for frame, model in ((DARK, "nano"), (BRIGHT, "large")):
        sent = body(frame, parameters={"tag": [1, None]})
        answer = transformer.client.post(V1, json=sent)
        assert answer.status_code == 200, answer.text
        reported = answer.json()
        route = reported.pop("route")
        assert reported == sent
        expected = FrameRouter(policy).route(frame)
        assert route["model"] == expected.model == model
        assert route["action"] == ("nano", "small", "large").index(model)
        np.testing.assert_allclose(route["probabilities"], expected.probabilities, atol=1e-6)
        assert route["revision"] == policy.revision


def test_the_context_counts(transformers: dict[str, Service], policy: Policy) -> None:
    look = {
        "variant": "small",
        "boxes": [[5, 5, 60, 60], [20, 10, 30, 50]],
        "scores": [0.9, 0.4],
        "labels": [2, 0],
        "names": ["car", "person"],
    }
    contexts = [
        ({}, None, (0, 0, 0), 0.02),
        ({"load_ms": [0, 0, 400]}, None, (0, 0, 400), 0.02),
        ({"latency_weight": 10.0}, None, (0, 0, 0), 10.0),
        ({"look": look, "load_ms": [5, 0, 0]}, look, (5, 0, 0), 0.02),
    ]
    models = []
    for context, seen, load, weight in contexts:
        answer = transformers["v2"].client.post(V1, json=body(BRIGHT, context=context))
        assert answer.status_code == 200, answer.text
        route = answer.json()["route"]
        memory = seen and Look(
            1,
            np.array(look["boxes"], np.float32),
            np.array(look["scores"], np.float32),
            np.array(look["labels"]),
            width=120,
            height=90,
        )
        row = observation(BRIGHT, context_features(memory, load, weight))
        actions, probabilities = policy.decide(row[np.newaxis])
        np.testing.assert_allclose(route["probabilities"], probabilities[0], atol=1e-6)
        assert route["action"] == actions[0]
        models.append(route["model"])
    assert models == ["large", "nano", "nano", "large"]


def test_an_image_as_the_body(transformer: Service) -> None:
    answer = transformer.client.post(V1, content=png(BRIGHT), headers={"content-type": "image/png"})
    reported = answer.json()
    assert reported["route"]["model"] == "large"
    assert reported["instances"] == body(BRIGHT)["instances"]


def test_v2_over_rest(transformer: Service) -> None:
    sent = {"name": "image", "datatype": "BYTES", "shape": [1]}
    image = base64.b64encode(png(BRIGHT)).decode()
    answer = transformer.client.post(
        V2,
        json={
            "inputs": [{**sent, "data": [image]}],
            "parameters": {"context": json.dumps({"load_ms": [0, 0, 400]})},
        },
    )
    assert answer.status_code == 200, answer.text
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert outputs["image"] == [image]
    assert (outputs["model"], outputs["action"]) == (["nano"], [0])
    assert len(outputs["probabilities"]) == 3
    pixels = {"name": "image", "datatype": "UINT8", "shape": [90, 120, 3]}
    answer = transformer.client.post(
        V2,
        json={
            "inputs": [{**pixels, "data": BRIGHT.ravel().tolist()}],
            "outputs": [{"name": "model"}],
        },
    )
    assert [output["data"] for output in answer.json()["outputs"]] == [["large"]]


def test_v2_over_grpc(transformer: Service) -> None:
    async def ask() -> None:
        channel = InferenceChannel("feature-transformer", transformer.grpc)
        tensors, _ = await channel.infer((Tensor("image", "BYTES", (1,), (png(BRIGHT),)),), 30)
        assert tensors["image"].values == (png(BRIGHT),)
        assert tensors["model"].values == (b"large",)
        tensors, _ = await channel.infer((Tensor.of("image", DARK),), 30)
        np.testing.assert_array_equal(tensors["image"].array(), DARK)
        assert tensors["model"].values == (b"nano",)
        await channel.close()

    asyncio.run(ask())


def test_the_reference_is_never_its_own_shadow(transformers: dict[str, Service]) -> None:
    def shadow(name: str, frame: np.ndarray) -> bool:
        reported: bool = (
            transformers[name].client.post(V1, json=body(frame)).json()["route"]["shadow"]
        )
        return reported

    assert shadow("grpc-v2", DARK) is True  # every frame is sampled there
    assert shadow("grpc-v2", BRIGHT) is False  # but large has it already
    assert shadow("v2", DARK) is False


def look(**fields: object) -> dict[str, object]:
    whole = {"rung": "nano", "boxes": [[1, 2, 3, 4]], "scores": [0.5], "labels": [0]}
    return {"look": whole | fields}


BAD_FRAMES: dict[str, dict[str, object]] = {
    "broken json": {"content": b"{"},
    "no image": {"json": {"instances": []}},
    "two images": {"json": {"instances": body(DARK)["instances"] * 2}},
    "a cut image": {
        "content": png(DARK)[:-20],
        "headers": {"content-type": "image/png"},
    },
    "context of text": {"json": body(DARK, context="x")},
    "unknown context": {"json": body(DARK, context={"weather": 1})},
    "a load too few": {"json": body(DARK, context={"load_ms": [1, 2]})},
    "a load of text": {"json": body(DARK, context={"load_ms": ["1", 2, 3]})},
    "a negative weight": {"json": body(DARK, context={"latency_weight": -1})},
    "a weight of text": {"json": body(DARK, context={"latency_weight": "1"})},
    "look of another rung": {"json": body(DARK, context=look(rung="medium"))},
    "look of a list": {"json": body(DARK, context=look(rung=[]))},
    "look out of step": {"json": body(DARK, context=look(scores=[0.5, 0.4]))},
    "look beyond 1": {"json": body(DARK, context=look(scores=[1.5]))},
    "look of half boxes": {"json": body(DARK, context=look(boxes=[[1, 2]]))},
    "look beyond float32": {"json": body(DARK, context=look(boxes=[[1, 2, 3, 1e300]]))},
    "look without height": {"json": body(DARK, context=look(width=5))},
    "look at nothing": {"json": body(DARK, context=look(width=0, height=0))},
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_bad_frames(transformers: dict[str, Service], name: str) -> None:
    answer = transformers["v2"].client.post(V1, **BAD_FRAMES[name])
    assert answer.status_code == 400, answer.text
    sentence(answer)
    assert transformers["v2"].healthy()


def test_hostile_pictures_cost_no_one_anything(transformers: dict[str, Service]) -> None:
    service = transformers["v2"]
    withstands(
        lambda data: service.client.post(V1, content=data, headers={"content-type": "image/png"}),
        lambda: service.client.get("/v2/health/live").status_code,
        service.pid,
        png(DARK),
    )


def test_an_image_beyond_the_limit(transformers: dict[str, Service]) -> None:
    wide = png(np.zeros((1001, 1000, 3), np.uint8))
    answer = transformers["v2"].client.post(V1, content=wide, headers={"content-type": "image/png"})
    assert answer.status_code == 400
    assert "1000x1001 pixels, more than the 1000000 allowed" in sentence(answer)


def test_stages_are_measured(transformers: dict[str, Service]) -> None:
    transformers["v2"].client.post(V1, json=body(DARK))
    text = transformers["v2"].client.get("/metrics").text
    for stage in ("queue", "decode", "observe", "decide", "total"):
        name = "gearshift_transformer_stage_seconds_count"
        assert f'{name}{{model="feature-transformer",stage="{stage}"}}' in text
    check_vocabulary(text, "transformer")


def test_the_router_tells_its_policy(router: Service) -> None:
    text = router.client.get("/metrics").text
    check_vocabulary(text, "router")
    assert re.search(
        r'gearshift_policy_info{latency_weight="0.02",revision="[0-9a-f]{12}"} 1', text
    )


def test_the_answers_image_is_the_one_sent(transformer: Service) -> None:
    """A black BMP is valid UTF-8, and still an image."""
    black = bytes(cv2.imencode(".bmp", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    sent = {"name": "image", "datatype": "BYTES", "shape": [1]}
    data = [base64.b64encode(black).decode()]
    answer = transformer.client.post(V2, json={"inputs": [{**sent, "data": data}]})
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    assert decode(base64.b64decode(outputs["image"][0])).shape == (8, 8, 3)
