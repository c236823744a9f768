"""A rollout over an API server of our own; what it writes is checked against KServe's CRDs."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from cluster_server import Cluster, Document, bare, served_cluster
from crd_schemas import problems

from feature_transformer.errors import ConfigurationError, InvalidInput, Unavailable
from inference_graph.graph.spec import RouterType, load_graph
from inference_graph.manifests import render
from inference_graph.rollout.cluster import ClusterConfig, ClusterTraffic, connected
from inference_graph.rollout.services import MODE
from inference_graph.rollout.splitter import weight_in, with_canary, without_canary

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "rollout"))

from rollout_samples import NEW_SHA, state  # noqa: E402  # its room is on the path above

DOCUMENTS = render(ROOT / "manifests" / "overlays" / "cpu-shadow")
PLURALS = {"InferenceService": "inferenceservices", "InferenceGraph": "inferencegraphs"}
STORAGE = "pvc://gearshift-models/ladder"


@pytest.fixture
def cluster(known: Mapping[tuple[str, str], Any]) -> Cluster:
    made = Cluster(lambda document: problems(bare(document), known))
    for document in DOCUMENTS:
        if document["kind"] in PLURALS:
            made.put(PLURALS[document["kind"]], document)
    return made


@pytest.fixture
def traffic(cluster: Cluster, tmp_path: Path) -> Iterator[ClusterTraffic]:
    with served_cluster(cluster) as url:
        file = tmp_path / "kubeconfig"
        file.write_text(
            "{apiVersion: v1, kind: Config, current-context: test, users: [{name: u, user: {}}], "
            f"clusters: [{{name: c, cluster: {{server: '{url}'}}}}], "
            "contexts: [{name: test, context: {cluster: c, user: u}}]}"
        )
        config = ClusterConfig(kubeconfig=file)
        yield ClusterTraffic(connected(config), config)


def graph_of(cluster: Cluster) -> Document:
    return cluster.objects["inferencegraphs", "gearshift"]


def service_of(cluster: Cluster, name: str) -> Document:
    return cluster.objects["inferenceservices", name]


def weights(cluster: Cluster) -> tuple[int, int] | None:
    node = graph_of(cluster)["spec"]["nodes"].get("canary-small")
    return None if node is None else tuple(step["weight"] for step in node["steps"])


def test_standard_mode_splits_in_the_graph(cluster: Cluster, traffic: ClusterTraffic) -> None:
    before = copy.deepcopy(graph_of(cluster)["spec"])
    rollout = state(phase="step", step=0)
    ready = traffic.prepare(rollout)
    assert (ready.canary, ready.service) == (NEW_SHA[:12], "small-canary")
    assert weights(cluster) == (100, 0)
    traffic.prepare(rollout)  # again: as after a crash
    canary = service_of(cluster, "small-canary")
    model = canary["spec"]["predictor"]["model"]
    assert model["storageUri"] == rollout.source
    stable = service_of(cluster, "small")
    # The file that is loaded is the one whose digest was asked for.
    assert model["args"] == [
        *stable["spec"]["predictor"]["model"]["args"],
        f"--sha256={NEW_SHA}",
    ]
    assert canary["metadata"]["labels"] == {"gearshift/model": "small", "gearshift/rollout": "r1"}
    assert stable["spec"]["predictor"]["model"]["storageUri"] == STORAGE
    for weight in (5, 25, 50):
        traffic.shift(rollout, weight)
        assert weights(cluster) == (100 - weight, weight)
    assert traffic.flows(state(phase="step", step=2)) and not traffic.flows(rollout)
    spec = load_graph(bare(graph_of(cluster)))
    (step,) = [one for one in spec.nodes["models"].steps if one.name == "small"]
    assert step.node_name == "canary-small" and step.condition
    assert spec.nodes["canary-small"].router_type is RouterType.SPLITTER

    traffic.promote(rollout)
    assert service_of(cluster, "small")["spec"]["predictor"]["model"]["storageUri"] == (
        rollout.source
    )
    assert service_of(cluster, "small")["spec"]["predictor"]["model"]["args"] == model["args"]
    assert ("inferenceservices", "small-canary") not in cluster.objects
    assert graph_of(cluster)["spec"] == before
    named = [(method, name) for method, name, _ in cluster.writes]
    # All traffic to the canary, then the stable one anew, then back, then the canary goes.
    assert named[-4:] == [
        ("PUT", "gearshift"), ("PUT", "small"), ("PUT", "gearshift"), ("DELETE", "small-canary"),
    ]  # fmt: skip
    split = cluster.writes[-4][2]
    assert split is not None and weight_in(split, "small") == 100


def test_withdrawing_takes_traffic_first_and_leaves_nothing(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    before = copy.deepcopy({key: one["spec"] for key, one in cluster.objects.items()})
    rollout = state()
    traffic.prepare(rollout)
    traffic.shift(rollout, 25)
    traffic.withdraw(rollout)
    traffic.withdraw(rollout)
    assert {key: one["spec"] for key, one in cluster.objects.items()} == before
    assert [(method, name) for method, name, _ in cluster.writes[-2:]] == [
        ("PUT", "gearshift"), ("DELETE", "small-canary"),
    ]  # fmt: skip


def test_knative_mode_is_a_percentage(cluster: Cluster, traffic: ClusterTraffic) -> None:
    service = service_of(cluster, "small")
    service["metadata"]["annotations"][MODE] = "Knative"
    cluster.put("inferenceservices", service)
    before = copy.deepcopy(service_of(cluster, "small")["spec"])
    graph = copy.deepcopy(graph_of(cluster))
    rollout = state(phase="step", step=0)
    assert traffic.prepare(rollout).service == "small"
    for weight in (5, 25):
        traffic.shift(rollout, weight)
        predictor = service_of(cluster, "small")["spec"]["predictor"]
        assert predictor["canaryTrafficPercent"] == weight
        assert predictor["model"]["storageUri"] == rollout.source
        assert predictor["model"]["args"][-1] == f"--sha256={NEW_SHA}"
    traffic.withdraw(rollout)
    traffic.withdraw(rollout)
    assert service_of(cluster, "small")["spec"] == before
    written = [document["spec"]["predictor"] for _, _, document in cluster.writes if document][-3:]
    told = [(one.get("canaryTrafficPercent"), one["model"]["storageUri"]) for one in written]
    # Never is the canary the newest revision while no percentage holds traffic back.
    assert told == [(0, rollout.source), (0, STORAGE), (None, STORAGE)]
    traffic.prepare(rollout)
    traffic.promote(rollout)
    predictor = service_of(cluster, "small")["spec"]["predictor"]
    assert "canaryTrafficPercent" not in predictor
    assert predictor["model"]["storageUri"] == rollout.source
    assert graph_of(cluster) == graph
    assert service_of(cluster, "small")["metadata"]["annotations"] == {MODE: "Knative"}


def test_what_others_write_meanwhile_stays(cluster: Cluster, traffic: ClusterTraffic) -> None:
    rollout = state()
    traffic.prepare(rollout)

    def other() -> None:
        graph = copy.deepcopy(graph_of(cluster))
        graph["spec"]["routerTimeouts"]["serviceClient"] = 7
        cluster.put("inferencegraphs", graph)

    cluster.meddle = other
    traffic.shift(rollout, 5)
    assert weights(cluster) == (95, 5)
    assert graph_of(cluster)["spec"]["routerTimeouts"]["serviceClient"] == 7


def test_a_policys_canary_has_a_transformer_of_its_own(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    traffic.prepare(state(model="policy", source="pvc://gearshift-models/policy-2"))
    canary = service_of(cluster, "router-canary")
    arguments = canary["spec"]["transformer"]["containers"][0]["args"]
    assert {"--model_name=router-canary", "--predictor_name=router-canary"} <= set(arguments)
    assert "--shadow_share=0.05" in arguments
    root = graph_of(cluster)["spec"]["nodes"]["root"]["steps"][0]
    assert root == {"name": "route", "nodeName": "canary-router", "dependency": "Hard"}


def test_what_does_not_become_ready_is_told(cluster: Cluster, traffic: ClusterTraffic) -> None:
    cluster.ready = lambda service: service["metadata"]["name"] != "small-canary"
    with pytest.raises(Unavailable, match=r"small-canary is not ready after 1 s: no pod"):
        traffic.prepare(state())
    with pytest.raises(InvalidInput, match="serves .* already"):
        traffic.prepare(state(source=STORAGE))
    with pytest.raises(ConfigurationError, match="no cluster is known"):
        connected(ClusterConfig(kubeconfig=Path("/nowhere/config")))


def test_the_reference_stays_the_measure() -> None:
    (graph,) = [one for one in DOCUMENTS if one["kind"] == "InferenceGraph"]
    split = with_canary(graph, "large", {"serviceName": "large-canary"}, 5)
    nodes = split["spec"]["nodes"]
    reference = [step for step in nodes["sampled"]["steps"] if step["name"] == "reference"]
    assert [step["serviceName"] for step in reference] == ["large"]
    assert nodes["models"]["steps"][-1]["nodeName"] == "canary-large"
    assert without_canary(split, "large") == graph
    assert weight_in(with_canary(split, "large", {"serviceName": "x"}, 50), "large") == 50
    with pytest.raises(ConfigurationError, match="no step .* names the service huge"):
        with_canary(graph, "huge", {"serviceName": "x"}, 5)
