"""Models loaded by request: the V2 calls of Seldon's scheduler, agent and proxies, over the wire.

What they send is written down from Seldon Core 2: the agent lists, loads and unloads models over
gRPC (``scheduler/pkg/agent/modelserver_controlplane/oip/v2.go``), under the name of the Model and
its version (``nano_1``); its proxies put that name in the place of the caller's, in the path and in
``model_name`` (``scheduler/pkg/agent/rproxy.go``, ``rproxy_grpc.go``), pass the headers
``seldon-model`` and ``seldon-internal-model`` on, and load a model again after 404 and NOT_FOUND.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import grpc
import httpx
import numpy as np
import pytest
from service_process import Service, brightness_policy, sentence
from tiny_models import drawn

from foundation.errors import InvalidInput, NotFound
from inference_graph.repository.models import ModelRepository
from inference_graph.repository.options import RepositoryOptions
from serving_kit.kserve_protobuf import messages

FRAME = drawn(150, 200)
JPEG = cv2.imencode(".jpg", FRAME)[1].tobytes()
METHOD = "/inference.GRPCInferenceService/"


def text(number: int, value: str) -> bytes:
    """A field of the protocol buffers' wire format, by its number."""
    return bytes([number << 3 | 2, len(value)]) + value.encode()


class Agent:
    """Seldon's agent and its two proxies before a server."""

    def __init__(self, server: Service) -> None:
        self.rest = server.client
        self.channel = grpc.insecure_channel(server.grpc)

    def control(self, method: str, request: bytes = b"") -> bytes:
        """A call of the control plane, in bytes: field 2 of a request names the model."""
        raw = self.channel.unary_unary(
            METHOD + method, request_serializer=bytes, response_deserializer=bytes
        )
        return bytes(raw(request, timeout=120))

    def load(self, name: str) -> None:
        assert self.control("RepositoryModelLoad", text(2, name)) == b""

    def headers(self, name: str) -> dict[str, str]:
        return {"seldon-model": name.rpartition("_")[0], "seldon-internal-model": name}

    def infer_rest(self, name: str) -> httpx.Response:
        body = {
            "inputs": [
                {
                    "name": "image",
                    "datatype": "UINT8",
                    "shape": list(FRAME.shape),
                    "data": FRAME.ravel().tolist(),
                }
            ]
        }
        return self.rest.post(f"/v2/models/{name}/infer", json=body, headers=self.headers(name))

    def infer_grpc(self, name: str, image: np.ndarray = FRAME) -> Any:
        request = messages.ModelInferRequest(model_name=name)
        tensor = request.inputs.add(name="image", datatype="UINT8", shape=image.shape)
        assert tensor is not None
        request.raw_input_contents.append(image.tobytes())
        call = self.channel.unary_unary(
            METHOD + "ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        return call(request, metadata=tuple(self.headers(name).items()), timeout=120)


def lay_down(models: Path, name: str, file: Path, implementation: str, **given: str) -> None:
    """What the agent leaves of an artifact: its file, and the settings with name and version."""
    version = name.rpartition("_")[2]
    folder = models / name / version
    folder.mkdir(parents=True)
    shutil.copy(file, folder)
    settings = {
        "name": name,
        "parallel_workers": 0,
        "implementation": implementation,
        "parameters": {
            "uri": f"./{file.name}",
            "version": version,
            "extra": {"init_parameters": given},
        },
    }
    (folder / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, sample_ladder: Path) -> Path:
    folder = tmp_path_factory.mktemp("models")
    lay_down(folder, "nano_1", sample_ladder / "nano.onnx", "gearshift.Rung", rung="nano")
    policy = brightness_policy(folder / "policy.onnx")
    lay_down(folder, "router_3", policy, "gearshift.Policy")
    return folder


@pytest.fixture(scope="module")
def agent(models: Path) -> Iterator[Agent]:
    server = Service("inference_graph.repository", "--models-dir", models, "--threads", 1).wait()
    yield Agent(server)
    assert server.stop() == 0


def test_the_agent_finds_the_server_alive_and_empty_then_loads_and_unloads(agent: Agent) -> None:
    assert agent.control("ServerLive") == b"\x08\x01"
    assert agent.rest.get("/v2/health/ready").status_code == 200
    for name in ("nano_1", "router_3"):
        agent.load(name)
    index = agent.control("RepositoryIndex")
    assert text(1, "nano_1") in index
    assert text(3, "Ready") in index
    assert agent.control("RepositoryModelUnload", text(2, "router_3")) == b""
    assert text(1, "router_3") not in agent.control("RepositoryIndex")
    with pytest.raises(grpc.RpcError) as refused:
        agent.infer_grpc("router_3", FRAME)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND  # the proxy loads it and tries again
    assert sentence(agent.infer_rest("router_3"))
    assert agent.infer_rest("router_3").status_code == 404


def test_a_rung_answers_as_it_does_behind_kserve(agent: Agent, sample_ladder: Path) -> None:
    agent.load("nano_1")
    behind = Service(
        "inference_graph.detector",
        "--rung",
        "nano",
        "--weights",
        sample_ladder / "nano.onnx",
        "--threads",
        1,
    ).wait()
    try:
        plain = Agent(behind)
        kserve, seldon = plain.infer_grpc("nano"), agent.infer_grpc("nano_1")
        assert [one.name for one in seldon.outputs] == ["boxes", "scores", "labels"]
        assert list(seldon.raw_output_contents) == list(kserve.raw_output_contents)
        assert len(seldon.raw_output_contents[1]) >= 4
        assert seldon.model_name == "nano_1"
        kserve_rest, seldon_rest = plain.infer_rest("nano"), agent.infer_rest("nano_1")
        assert seldon_rest.json()["outputs"] == kserve_rest.json()["outputs"]
        assert seldon_rest.json()["model_name"] == "nano_1"
    finally:
        assert behind.stop() == 0


def test_a_model_that_is_loaded_again_answers_meanwhile(agent: Agent) -> None:
    agent.load("nano_1")
    loaded = threading.Event()

    def ask() -> int:
        answers = 0
        while not loaded.is_set():
            answers += len(agent.infer_grpc("nano_1").outputs) == 3
        return answers

    with ThreadPoolExecutor(4) as clients:
        asked = [clients.submit(ask) for _ in range(4)]
        try:
            for _ in range(5):
                agent.load("nano_1")
        finally:
            loaded.set()
        assert min(one.result() for one in asked) > 0


def test_a_pipeline_gets_the_image_under_the_name_of_the_chosen_rung(agent: Agent) -> None:
    agent.load("router_3")
    for image, rung in ((np.full_like(FRAME, 255), "large"), (np.zeros_like(FRAME), "nano")):
        routed = agent.infer_grpc("router_3", image)
        assert [one.name for one in routed.outputs] == [rung]
        assert routed.raw_output_contents[0] == image.tobytes()


def test_a_model_that_cannot_be_loaded_is_refused_and_the_others_answer(agent: Agent) -> None:
    agent.load("nano_1")
    for name in ("nano_2", "../models", ""):
        with pytest.raises(grpc.RpcError) as refused:
            agent.load(name)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert agent.infer_grpc("nano_1").model_name == "nano_1"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"implementation": "mlserver_sklearn.SKLearnModel"}, "implementation"),
        ({"parameters": {}}, "parameters.uri"),
        ({"parameters": {"uri": "./gone.onnx"}}, "gone.onnx"),
        ({"parameters": {"uri": "../../secret"}}, "leads out"),
        ({"parameters": {"uri": "./a.onnx"}}, "names no rung"),
    ],
)
def test_wrong_settings_name_their_field(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "secret").write_bytes(b"x")
    lay_down(tmp_path, "nano_1", tmp_path / "a.onnx", "gearshift.Rung")
    path = tmp_path / "nano_1/1/model-settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InvalidInput, match=named) as refused:
        ModelRepository(RepositoryOptions(tmp_path)).open("nano_1")
    assert not isinstance(refused.value, NotFound)


def test_unloading_what_is_not_loaded_is_refused(tmp_path: Path) -> None:
    repository = ModelRepository(RepositoryOptions(tmp_path))
    with pytest.raises(NotFound, match="nano_1"):
        asyncio.run(repository.unload("nano_1"))
