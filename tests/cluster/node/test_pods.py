"""Our services as pods: KServe's router, our detectors, policy, transformer and gateway.

Every change is made while frames are sent to the graph and to the gateway. None may be lost, and
none may be answered by anything but 200.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from campaign import runs
from control_plane import Document, wait
from frames import frame
from installed import Installed
from load import EACH_SECOND, TOKEN, Load, under_load
from rollout_process import Rollout

from inference_graph.prediction_log.reader import read_log

SERVICES = {"small": "small", "policy": "router"}
FILES = {"small": ("ladder", "small.onnx"), "policy": ("policy", "policy.onnx")}
_SECONDS = 900.0


@pytest.fixture(scope="module")
def addresses(services: Installed) -> tuple[str, str]:
    """Of the graph and of the gateway, as pods of the cluster reach them."""

    def url(name: str) -> str:
        spec = services.read("services", name)["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}"

    return url("gearshift"), url("gateway")


@contextmanager
def nothing_lost(addresses: tuple[str, str]) -> Iterator[Load]:
    """Frames are sent while the block runs, and each is answered."""
    begun = time.monotonic()
    with under_load(*addresses) as load:
        time.sleep(3)
        yield load
        time.sleep(5)
    seconds = time.monotonic() - begun
    print(f"{dict(load.answers)} in {seconds:.0f} s")
    assert load.lost == {}, load.times
    assert load.sent > 0.8 * EACH_SECOND * seconds


def served(services: Installed, model: str) -> str:
    """The storage that serves now, of the two there are."""
    spec = services.read("inferenceservices", SERVICES[model])["spec"]
    return str(spec["predictor"]["model"]["storageUri"])


@pytest.fixture
def start(
    services: Installed, addresses: tuple[str, str], volumes: Path, tmp_path: Path
) -> Iterator[Callable[[str], Rollout]]:
    """Starts a rollout to the storage that does not serve now, of the gateway's frames as well."""
    account = services.cluster.account_config("rollout", services.namespace)
    claim = volumes / "gearshift-models"
    options = (
        f"--gateway={addresses[1]}",
        f"--claim=gearshift-models={claim}",
        f"--promoted={claim / 'promoted' / 'policy.onnx'}",
    )
    made: list[Rollout] = []

    def start(model: str) -> Rollout:
        folder, file = FILES[model]
        name = f"{folder}-2" if served(services, model).endswith(f"/{folder}") else folder
        content = (volumes / "gearshift-models" / name / file).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        uri = f"pvc://gearshift-models/{name}"
        made.append(Rollout(tmp_path, account, model, uri, digest, options, TOKEN))
        return made[-1]

    yield start
    for one in made:
        one.kill()


def test_a_frame_is_answered_by_the_graph_and_by_the_gateway(addresses: tuple[str, str]) -> None:
    graph, gateway = addresses
    wait("an answer of the graph", lambda: answers(graph), 120)
    body = {"instances": [{"image": {"b64": base64.b64encode(frame()).decode()}}]}
    answer = httpx.post(graph, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    (prediction,) = answer.json()["primary"]["predictions"]
    assert "detections" in prediction
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "image/jpeg"}
    answer = httpx.post(f"{gateway}/v1/detect", content=frame(), headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    assert httpx.post(f"{gateway}/v1/detect", content=frame(), timeout=60).status_code == 401


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(runs(1, 5)))
@pytest.mark.parametrize("model", SERVICES)
@pytest.mark.timeout(_SECONDS)
def test_a_promotion_loses_no_frame(
    services: Installed,
    addresses: tuple[str, str],
    start: Callable[[str], Rollout],
    model: str,
    number: int,
) -> None:
    with nothing_lost(addresses):
        rollout = start(model)
        rollout.reaches("25 %", lambda state: state["weight"] == 25 and state["target"] is None)
        beside = revisions(addresses, model)
        assert (beside["revision"], beside["weight"]) == (rollout.sha256[:12], 25)
        rollout.ask("promote", "--all")
        rollout.reaches("the promotion", lambda state: state["phase"] == "promoted")
        canary = f"{SERVICES[model]}-canary"
        wait("its end", lambda: services.find("inferenceservices", canary) is None, 180)
    assert served(services, model) == rollout.uri
    assert revisions(addresses, model)["stable"] == rollout.sha256[:12]


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(runs(1, 5)))
@pytest.mark.parametrize("model", SERVICES)
@pytest.mark.timeout(_SECONDS)
def test_going_back_loses_no_frame(
    services: Installed,
    addresses: tuple[str, str],
    start: Callable[[str], Rollout],
    model: str,
    number: int,
) -> None:
    before = served(services, model)
    with nothing_lost(addresses):
        rollout = start(model)
        rollout.reaches("25 %", lambda state: state["weight"] == 25 and state["target"] is None)
        rollout.ask("promote")
        rollout.reaches("50 %", lambda state: state["weight"] == 50 and state["target"] is None)
        rollout.ask("abort", "--reason", "a test")
        rollout.reaches("the end", lambda state: state["phase"] == "rolled back")
    assert served(services, model) == before


@pytest.mark.timeout(_SECONDS)
@pytest.mark.parametrize("service", ["small", "router"])
def test_an_upgrade_loses_no_frame(
    services: Installed, addresses: tuple[str, str], service: str
) -> None:
    deployment = f"{service}-predictor"
    with nothing_lost(addresses):
        mark = {"annotations": {"gearshift.test/upgrade": str(time.time())}}
        before = services.read("deployments", deployment)["metadata"]["generation"]
        services.change("inferenceservices", service, {"spec": {"predictor": mark}})

        def replaced() -> bool:
            found = services.read("deployments", deployment)
            return found["metadata"]["generation"] > before and services.is_complete(deployment)

        wait("the new pods", replaced, 400)
        wait("the end of the old ones", lambda: len(pods_of(services, service)) == 1, 180)


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(runs(1, 5)))
@pytest.mark.timeout(_SECONDS)
def test_a_drained_pod_loses_no_frame(
    services: Installed, addresses: tuple[str, str], number: int
) -> None:
    services.change("inferenceservices", "small", {"spec": {"predictor": {"minReplicas": 2}}})
    try:
        wait("a second pod", lambda: len(ready_pods(services, "small")) == 2, 400)
        with nothing_lost(addresses):
            gone = ready_pods(services, "small")[0]
            eviction = {
                "apiVersion": "policy/v1",
                "kind": "Eviction",
                "metadata": {"name": gone, "namespace": services.namespace},
            }
            services.cluster.ask(f"{services.path('pods', gone)}/eviction", eviction, "POST")
            wait("its end", lambda: services.find("pods", gone) is None, 180)
            wait("another", lambda: len(ready_pods(services, "small")) == 2, 400)
    finally:
        services.change("inferenceservices", "small", {"spec": {"predictor": {"minReplicas": 1}}})
        wait("one pod", lambda: len(pods_of(services, "small")) == 1, 180)


def test_what_the_graph_answered_is_in_the_gateways_log(
    addresses: tuple[str, str], volumes: Path
) -> None:
    graph, _ = addresses
    wait("an answer of the graph", lambda: answers(graph), 120)

    def logged() -> bool:
        rows = read_log(str(volumes / "log-gateway-0" / "log")).to_pylist()
        return any(one["source"] == "graph" and one["answered_by"] == "small" for one in rows)

    wait("its row", logged, 60)


def revisions(addresses: tuple[str, str], model: str) -> Document:
    """Which revisions of a model answer the gateway's frames."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    found = httpx.get(f"{addresses[1]}/v1/canaries", headers=headers, timeout=60).json()
    return next(one for one in found["models"] if one["model"] == model)


def answers(graph: str) -> bool:
    """Whether the graph does; KServe reports it ready before its services are reached."""
    body = {"instances": [{"image": {"b64": base64.b64encode(frame()).decode()}}]}
    return httpx.post(graph, json=body, timeout=60).status_code == 200


def pods_of(services: Installed, service: str) -> list[Document]:
    """The pods of a service's predictor, those that end included."""
    label = f"serving.kserve.io/inferenceservice={service},component=predictor"
    return list(services.cluster.ask(f"{services.path('pods')}?labelSelector={label}")["items"])


def ready_pods(services: Installed, service: str) -> list[str]:
    """Names of those that are ready and do not end."""
    return [
        pod["metadata"]["name"]
        for pod in pods_of(services, service)
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in pod["status"].get("conditions", ())
        )
    ]
