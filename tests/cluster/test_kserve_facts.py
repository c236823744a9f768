"""What KServe's controller does, observed: see docs/kserve-facts.md, which names these tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from control_plane import Cluster, Document, wait
from installed import Installed, condition, kustomized
from pods import Pods

_KINDS = ("ServiceAccount", "ServingRuntime", "InferenceService", "InferenceGraph")
_SETTLED = 2.0
"""Seconds in which the controller, which answers in milliseconds, would have done something."""


@pytest.fixture(scope="module")
def room(bare_cluster: Cluster, pods: Pods) -> Iterator[Installed]:
    """Our services and our graph in a namespace of their own."""
    made = Installed(bare_cluster, "facts")
    rendered = [one for one in kustomized(bare_cluster, "cpu-shadow") if one["kind"] in _KINDS]
    for one in rendered:  # services for the cluster alone would have no route
        one["metadata"].get("labels", {}).pop("networking.kserve.io/visibility", None)
    made.apply(rendered)
    yield made
    pods.holds = lambda pod: False
    made.delete()


@pytest.fixture
def held(pods: Pods) -> Iterator[Pods]:
    """Pods that start while this is set do not become ready."""
    pods.holds = lambda pod: True
    yield pods
    pods.holds = lambda pod: False


def canary(room: Installed, service: str, name: str, uri: str, percent: int = 50) -> Document:
    """A native canary of a service: its own predictor with another storage."""
    predictor = room.read("inferenceservices", service)["spec"]["predictor"]
    model = {**predictor["model"], "storageUri": uri}
    entry = {"trafficPercent": percent, "predictor": {"name": name, "model": model}}
    return {"spec": {"canary": [entry]}}


def generations(room: Installed, name: str) -> tuple[int, int]:
    found = room.read("inferenceservices", name)
    return found["metadata"]["generation"], found["status"]["observedGeneration"]


def pods_of(room: Installed, deployment: str) -> dict[str, Any]:
    listed = room.cluster.ask(f"{room.path('pods')}?labelSelector=app=isvc.{deployment}")["items"]
    return {one["metadata"]["uid"]: one for one in listed}


def backends(room: Installed, route: str) -> list[tuple[str, int]]:
    rules = room.read("httproutes", route)["spec"]["rules"]
    return [(one["name"], one["weight"]) for rule in rules for one in rule["backendRefs"]]


def test_observed_generation_is_the_deployments(room: Installed) -> None:
    room.change("inferenceservices", "nano", {"spec": {"predictor": {"timeout": 55}}})
    time.sleep(_SETTLED)  # the Deployment does not change, so nothing more will come
    generation, observed = generations(room, "nano")
    deployment = room.read("deployments", "nano-predictor")
    assert observed == deployment["status"]["observedGeneration"] < generation
    assert room.is_ready("nano")


@pytest.mark.parametrize(
    ("plural", "name", "deployment"),
    [
        ("inferenceservices", "nano", "nano-predictor"),
        ("inferencegraphs", "gearshift", "gearshift"),
    ],
)
@pytest.mark.parametrize("kind", ["annotations", "labels"])
def test_what_stands_on_an_object_stands_on_its_pods(
    room: Installed, plural: str, name: str, deployment: str, kind: str
) -> None:
    def noted() -> str:
        template = room.read("deployments", deployment)["spec"]["template"]
        return str(template["metadata"][kind].get("gearshift/noted"))

    for value in ("something", None):
        room.change(plural, name, {"metadata": {kind: {"gearshift/noted": value}}})
        wait("the pods' template", lambda value=value: noted() == str(value))
    wait("the end of the roll", lambda: room.is_complete(deployment))


def test_a_service_stays_ready_all_through_a_roll(room: Installed, held: Pods) -> None:
    model = {"storageUri": "pvc://gearshift-models/other"}
    room.change("inferenceservices", "nano", {"spec": {"predictor": {"model": model}}})
    rolling = wait(
        "a pod of the new revision",
        lambda: room.read("deployments", "nano-predictor")["status"].get("updatedReplicas"),
    )
    time.sleep(_SETTLED)
    assert rolling == 1
    assert not room.is_complete("nano-predictor")
    assert room.is_ready("nano")
    held.holds = lambda pod: False
    wait("the end of the roll", lambda: room.is_complete("nano-predictor"))


def test_a_change_of_a_graph_rolls_its_pods_and_it_stays_ready(room: Installed, held: Pods) -> None:
    before = room.read("deployments", "gearshift")["metadata"]["generation"]
    room.change("inferencegraphs", "gearshift", {"spec": {"routerTimeouts": {"serviceClient": 9}}})
    wait(
        "the graph's new revision",
        lambda: room.read("deployments", "gearshift")["metadata"]["generation"] > before,
    )
    time.sleep(_SETTLED)
    assert not room.is_complete("gearshift")
    assert condition(room.read("inferencegraphs", "gearshift"), "Ready") == "True"
    held.holds = lambda pod: False
    wait("the end of the roll", lambda: room.is_complete("gearshift"))


def test_a_graph_is_ready_without_a_pod_that_is(room: Installed, held: Pods) -> None:
    for uid in pods_of(room, "gearshift").values():
        room.cluster.ask(room.path("pods", uid["metadata"]["name"]), None, "DELETE")
    wait(
        "a graph without pods",
        lambda: condition(room.read("deployments", "gearshift"), "Available") == "False",
    )
    time.sleep(_SETTLED)
    assert condition(room.read("inferencegraphs", "gearshift"), "Ready") == "True"
    held.holds = lambda pod: False
    wait("the graph's pods", lambda: room.is_complete("gearshift"))


def test_a_graphs_pods_end_where_their_drain_does(room: Installed) -> None:
    # KServe's router goes on answering for 30 s after SIGTERM, then waits for what it still has.
    spec = room.read("deployments", "gearshift")["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] == 30
    assert spec["containers"][0]["args"][0] == "--graph-json"


def test_a_native_canary_gets_pods_and_no_traffic(room: Installed) -> None:
    room.change(
        "inferenceservices", "small", canary(room, "small", "r2", "pvc://gearshift-models/r2")
    )
    wait("the canary's pods", lambda: room.is_complete("small-r2-predictor"))

    def statuses() -> Any:
        found = room.read("inferenceservices", "small")["status"].get("canaryStatuses", [])
        return [one for one in found if one["ready"]]

    (reported,) = wait("the canary's status", statuses)
    assert (reported["name"], reported["trafficPercent"]) == ("r2", 50)
    assert "small-r2-predictor" in room.names("services")
    # Nothing splits: neither the route of the service, nor the graph.
    assert backends(room, "small") == [("small-predictor", 1)] * 2
    assert "small-r2-predictor" not in room.graph_calls("gearshift")


def test_promotion_by_renaming_takes_the_stable_service_from_under_the_graph(
    room: Installed,
) -> None:
    stayed = pods_of(room, "small-r2-predictor")
    template = room.read("deployments", "small-r2-predictor")["spec"]["template"]
    model = {"storageUri": "pvc://gearshift-models/r2"}
    promotion = {"spec": {"canary": None, "predictor": {"name": "r2", "model": model}}}
    room.change("inferenceservices", "small", promotion)
    wait("the end of the old service", lambda: room.find("services", "small-predictor") is None)
    wait("a service that is ready", lambda: room.is_ready("small"))
    time.sleep(_SETTLED)
    assert pods_of(room, "small-r2-predictor").keys() == stayed.keys()  # nothing restarts
    assert room.read("deployments", "small-r2-predictor")["spec"]["template"] == template
    assert room.find("deployments", "small-predictor") is None
    # The graph goes on calling what is gone, until somebody touches it.
    assert "small-predictor" in room.graph_calls("gearshift")
    room.change("inferencegraphs", "gearshift", {"metadata": {"annotations": {"touched": "1"}}})
    wait("the graph", lambda: "small-r2-predictor" in room.graph_calls("gearshift"))
    wait("the graph's pods", lambda: room.is_complete("gearshift"))
    # And two objects of the old name stay behind.
    assert "small-predictor" in room.names("httproutes")
    assert "small-predictor" in room.names("horizontalpodautoscalers")


def test_a_transformer_never_calls_a_native_canary(room: Installed) -> None:
    def predictor() -> str:
        spec = room.read("deployments", "router-transformer")["spec"]["template"]["spec"]
        words = spec["containers"][0]["args"]
        return str(words[words.index("--predictor_host") + 1])

    room.change(
        "inferenceservices", "router", canary(room, "router", "p2", "pvc://gearshift-models/p2")
    )
    wait("the canary's pods", lambda: room.is_complete("router-p2-predictor"))
    assert predictor() == "router-predictor.facts"
    before = room.read("deployments", "router-transformer")["metadata"]["generation"]
    model = {"storageUri": "pvc://gearshift-models/p2"}
    promotion = {"spec": {"canary": None, "predictor": {"name": "p2", "model": model}}}
    room.change("inferenceservices", "router", promotion)
    wait("the end of the old service", lambda: room.find("services", "router-predictor") is None)
    # Only now do the transformer's pods roll, and the old ones call what is gone.
    wait("the transformer", lambda: predictor() == "router-p2-predictor.facts")
    assert room.read("deployments", "router-transformer")["metadata"]["generation"] == before + 1
