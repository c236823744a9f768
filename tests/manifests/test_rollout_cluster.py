"""A rollout over an API server of our own; what it writes is checked against KServe's CRDs."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from campaign import runs
from cluster_server import PLURALS, Cluster, Document, bare, kubeconfig, served_cluster
from rollout_samples import NEW_SHA, state

from foundation.errors import ConfigurationError, InvalidInput
from inference_graph.control.manifests import render
from inference_graph.control.manifests.promoted import Promoted, read_promoted
from inference_graph.control.rollout.cluster import ClusterRolloutConfig, ClusterTraffic, connected
from inference_graph.control.rollout.services import MODE
from inference_graph.control.rollout.splitter import weight_in, with_canary, without_canary
from inference_graph.control.rollout.traffic import Pending
from inference_graph.graph.spec import RouterType, load_graph

ROOT = Path(__file__).resolve().parents[2]

MANIFESTS = ROOT / "manifests"
DOCUMENTS = render(MANIFESTS / "overlays" / "cpu-shadow")
_Answer = TypeVar("_Answer")
STORAGE = "pvc://gearshift-models/ladder"


@pytest.fixture
def cluster(complain: Callable[[Document], list[str]]) -> Cluster:
    made = Cluster(complain)
    for document in DOCUMENTS:
        if document["kind"] in PLURALS:
            made.put(PLURALS[document["kind"]], document)
    made.kserve.settle()
    assert not made.kserve.lost
    return made


def done(cluster: Cluster, ask: Callable[[], _Answer]) -> tuple[_Answer, list[str]]:
    """Ask until it is done, a step of the cluster between two times; and what was waited for."""
    waited: list[str] = []
    for _ in range(200):
        try:
            return ask(), list(dict.fromkeys(waited))
        except Pending as pending:
            waited.append(str(pending))
            cluster.kserve.step()
    raise AssertionError(f"it never ends: {waited[-1]}")


@pytest.fixture
def deploy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MANIFESTS, tmp_path / "deploy"))


@pytest.fixture
def traffic(cluster: Cluster, deploy: Path, tmp_path: Path) -> Iterator[ClusterTraffic]:
    with served_cluster(cluster) as url:
        config = ClusterRolloutConfig(kubeconfig=kubeconfig(tmp_path, url), manifests=deploy)
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
    ready, waited = done(cluster, lambda: traffic.prepare(rollout))
    assert (ready.canary, ready.service) == (NEW_SHA[:12], "small-canary")
    assert weights(cluster) == (100, 0)
    assert waited[0] == "KServe has not made the Deployment small-canary-predictor of it yet"
    # Routers that work by the nodes before answer until they have ended.
    assert waited[-1] == "1 pods before of gearshift have not ended yet"
    done(cluster, lambda: traffic.prepare(rollout))  # again: as after a crash
    canary = service_of(cluster, "small-canary")
    model = canary["spec"]["predictor"]["model"]
    assert model["storageUri"] == rollout.source
    stable = service_of(cluster, "small")
    # The file that is loaded is the one whose digest was asked for.
    assert model["args"] == [
        *stable["spec"]["predictor"]["model"]["args"],
        f"--sha256={NEW_SHA}",
    ]
    assert canary["metadata"]["labels"] == {
        "gearshift/model": "small",
        "gearshift/rollout": "r1",
        "app.kubernetes.io/part-of": "gearshift",
        "networking.kserve.io/visibility": "cluster-local",
    }
    assert stable["spec"]["predictor"]["model"]["storageUri"] == STORAGE
    for weight in (5, 25, 50):
        done(cluster, lambda weight=weight: traffic.shift(rollout, weight))
        assert weights(cluster) == (100 - weight, weight)
        assert deployed_weights(cluster) == {(100 - weight, weight)}
    assert traffic.flows(state(phase="step", step=2)) and not traffic.flows(rollout)
    spec = load_graph(bare(graph_of(cluster)))
    (step,) = [one for one in spec.nodes["models"].steps if one.name == "small"]
    assert step.node_name == "canary-small" and step.condition
    assert spec.nodes["canary-small"].router_type is RouterType.SPLITTER

    _, waited = done(cluster, lambda: traffic.promote(rollout))
    service = service_of(cluster, "small")
    assert service["spec"]["predictor"]["model"] == model
    assert service["metadata"]["annotations"] == {MODE: "Standard"}
    assert ("inferenceservices", "small-canary") not in cluster.objects
    assert graph_of(cluster)["spec"] == before
    assert any("small-predictor" in one for one in waited)
    named = [(method, name) for method, name, _ in cluster.writes]
    # All traffic to the canary, then the stable one anew, then back, then the canary goes.
    assert named[-4:] == [
        ("PUT", "gearshift"),
        ("PUT", "small"),
        ("PUT", "gearshift"),
        ("DELETE", "small-canary"),
    ]
    split = cluster.writes[-4][2]
    assert split is not None and weight_in(split, "small") == 100
    cluster.kserve.settle()
    assert cluster.kserve.lost == []


@pytest.mark.parametrize("model", ["small", "policy"])
def test_a_rollout_replaces_the_stable_pods_once(
    model: str, cluster: Cluster, traffic: ClusterTraffic
) -> None:
    """For the new storage; what a rollout notes for itself stands on no pod of theirs."""
    name = "router" if model == "policy" else model
    stable = [one for key, one in cluster.kserve.deployments.items() if key.startswith(f"{name}-")]
    before = [copy.deepcopy(one.template) for one in stable]
    made = [one.made for one in stable]
    for source, ends, replaced in (
        ("pvc://models/a", traffic.withdraw, 0),
        ("pvc://models/b", traffic.promote, 1),
        ("pvc://models/c", traffic.withdraw, 0),
    ):
        rollout = state(source, model=model, phase="step", step=0)
        done(cluster, lambda rollout=rollout: traffic.prepare(rollout))
        done(cluster, lambda rollout=rollout: traffic.shift(rollout, 50))
        done(cluster, lambda rollout=rollout, ends=ends: ends(rollout))
        cluster.kserve.settle()
        # Of the router's two Deployments only the predictor has a storage.
        assert sum(one.made for one in stable) - sum(made) == replaced
        made = [one.made for one in stable]
    assert [one.template["metadata"]["annotations"].keys() for one in stable] == [
        one["metadata"]["annotations"].keys() for one in before
    ]


def test_an_aborted_promotion_waits_for_the_revision_before(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    """The canary, which answers everything then, goes when the stable service serves again."""
    rollout = state(phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.shift(rollout, 100))
    while service_of(cluster, "small")["spec"]["predictor"]["model"]["storageUri"] == STORAGE:
        with contextlib.suppress(Pending):
            traffic.promote(rollout)
        cluster.kserve.step()
    cluster.kserve.starts = lambda name, template: name != "small-predictor"
    cluster.kserve.deployments["small-predictor"].pods.clear()
    for _ in range(10):
        with pytest.raises(Pending, match="small-predictor"):
            traffic.withdraw(rollout)
        cluster.kserve.step()
    assert ("inferenceservices", "small-canary") in cluster.objects
    cluster.kserve.starts = lambda name, template: True
    done(cluster, lambda: traffic.withdraw(rollout))
    assert ("inferenceservices", "small-canary") not in cluster.objects


def test_an_abort_waits_for_nothing_where_the_stable_service_was_not_changed(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    rollout = state(phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.shift(rollout, 50))
    cluster.kserve.starts = lambda name, template: not name.startswith("small")
    cluster.kserve.deployments["small-predictor"].scale(2)  # and one of them does not start
    done(cluster, lambda: traffic.withdraw(rollout))
    assert ("inferenceservices", "small-canary") not in cluster.objects


def deployed_weights(cluster: Cluster) -> set[tuple[int, ...]]:
    """What every router that answers works by, whatever the graph holds."""
    texts = [
        pod.template["spec"]["containers"][0]["args"][1]
        for pod in cluster.kserve.deployments["gearshift"].pods
    ]
    nodes = [json.loads(text)["nodes"]["canary-small"] for text in texts]
    return {tuple(step["weight"] for step in node["steps"]) for node in nodes}


def test_a_status_of_kserve_is_not_waited_for(cluster: Cluster, traffic: ClusterTraffic) -> None:
    """It counts Deployments' generations, and is Ready all through a rolling update."""
    router = service_of(cluster, "router")
    router["spec"]["predictor"]["minReplicas"] = 1
    router["metadata"]["generation"] = 7  # edits that left the Deployments alone
    rollout = state(model="policy", source="pvc://gearshift-models/policy-2", phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    _, waited = done(cluster, lambda: traffic.promote(rollout))
    assert router["status"]["observedGeneration"] < 7
    assert ("inferenceservices", "router-canary") not in cluster.objects
    assert any(one.startswith("router-predictor: ") for one in waited)
    cluster.kserve.settle()
    assert cluster.kserve.lost == []


@pytest.mark.campaign
@pytest.mark.parametrize("after", range(0, 40, runs(10, 1)))
@pytest.mark.parametrize("begun", ["starting", "shifting", "promoting"])
def test_it_can_be_ended_at_any_moment(
    begun: str, after: int, cluster: Cluster, traffic: ClusterTraffic
) -> None:
    before = copy.deepcopy({key: one["spec"] for key, one in cluster.objects.items()})
    rollout = state(phase="step", step=0)
    if begun != "starting":
        done(cluster, lambda: traffic.prepare(rollout))
    if begun == "promoting":
        done(cluster, lambda: traffic.shift(rollout, 50))
    ask = {"starting": traffic.prepare, "promoting": traffic.promote}.get(
        begun, lambda rollout: traffic.shift(rollout, 25)
    )
    for _ in range(after):
        with contextlib.suppress(Pending):
            ask(rollout)
            break
        cluster.kserve.step()
    if ("inferenceservices", "small-canary") not in cluster.objects and begun == "promoting":
        return  # it had ended
    done(cluster, lambda: traffic.withdraw(rollout))
    done(cluster, lambda: traffic.withdraw(rollout))
    assert {key: one["spec"] for key, one in cluster.objects.items()} == before
    annotations = {MODE: "Standard"}
    assert service_of(cluster, "small")["metadata"]["annotations"] == annotations
    cluster.kserve.settle()
    assert cluster.kserve.lost == []


def apply(cluster: Cluster, documents: list[Document]) -> None:
    for document in documents:
        if document["kind"] in PLURALS:
            cluster.apply(document)


def test_a_promotion_outlives_an_apply(
    cluster: Cluster, traffic: ClusterTraffic, deploy: Path
) -> None:
    rollout = state(phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.promote(rollout))
    assert read_promoted(deploy) == {"small": Promoted(rollout.source, NEW_SHA)}
    before = {key: copy.deepcopy(one["spec"]) for key, one in cluster.objects.items()}
    for _ in range(2):
        apply(cluster, render(deploy / "overlays" / "cpu-shadow"))
        assert {key: one["spec"] for key, one in cluster.objects.items()} == before
    # The next one is rolled out from there, and back to it.
    newer = state("pvc://models/newer", phase="step", step=0, sha256="3" * 64)
    done(cluster, lambda: traffic.prepare(newer))
    done(cluster, lambda: traffic.withdraw(newer))
    assert {key: one["spec"] for key, one in cluster.objects.items()} == before


@pytest.mark.campaign
@pytest.mark.parametrize(
    ("begun", "after"), [("step", 0), *(("promoting", one) for one in range(0, 40, runs(10, 1)))]
)
def test_an_apply_in_the_middle_of_a_rollout_is_got_over(
    begun: str, after: int, cluster: Cluster, traffic: ClusterTraffic
) -> None:
    rollout = state(phase="step", step=1)
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.shift(rollout, 25))
    if begun == "promoting":
        for _ in range(after):
            with contextlib.suppress(Pending):
                traffic.promote(rollout)
            cluster.kserve.step()
    ended = ("inferenceservices", "small-canary") not in cluster.objects
    if not ended:
        apply(cluster, DOCUMENTS)
    if begun == "step":
        assert weight_in(graph_of(cluster), "small") is None and not traffic.flows(rollout)
        done(cluster, lambda: traffic.prepare(rollout))
        done(cluster, lambda: traffic.shift(rollout, 25))
        assert traffic.flows(rollout)
    done(cluster, lambda: traffic.promote(rollout))
    assert service_of(cluster, "small")["spec"]["predictor"]["model"]["storageUri"] == (
        rollout.source
    )
    cluster.kserve.settle()
    assert cluster.kserve.lost == []


def test_withdrawing_takes_traffic_first_and_leaves_nothing(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    before = copy.deepcopy({key: one["spec"] for key, one in cluster.objects.items()})
    rollout = state()
    done(cluster, lambda: traffic.prepare(rollout))
    done(cluster, lambda: traffic.shift(rollout, 25))
    done(cluster, lambda: traffic.withdraw(rollout))
    done(cluster, lambda: traffic.withdraw(rollout))
    assert {key: one["spec"] for key, one in cluster.objects.items()} == before
    assert [(method, name) for method, name, _ in cluster.writes[-2:]] == [
        ("PUT", "gearshift"),
        ("DELETE", "small-canary"),
    ]


@pytest.mark.parametrize("autoscaler", ["hpa", "external"])
def test_a_canary_grows_with_its_share(
    autoscaler: str, cluster: Cluster, traffic: ClusterTraffic
) -> None:
    """Its own autoscaler sees the load too late, and one for KEDA knows no canary."""
    service = service_of(cluster, "small")
    service["spec"]["predictor"]["maxReplicas"] = 4
    service["metadata"]["annotations"]["serving.kserve.io/autoscalerClass"] = autoscaler
    cluster.kserve.deployments["small-predictor"].scale(4)
    cluster.kserve.settle()
    rollout = state(phase="step", step=0)
    done(cluster, lambda: traffic.prepare(rollout))
    canary = cluster.kserve.deployments["small-canary-predictor"]
    for weight, replicas in ((5, 1), (25, 1), (50, 2), (100, 4)):
        done(cluster, lambda weight=weight: traffic.shift(rollout, weight))
        assert (canary.replicas, sum(pod.ready for pod in canary.pods)) == (replicas, replicas)
    done(cluster, lambda: traffic.promote(rollout))
    assert service_of(cluster, "small")["spec"]["predictor"]["minReplicas"] == 1
    assert cluster.kserve.lost == []


def test_knative_mode_is_a_percentage(cluster: Cluster, traffic: ClusterTraffic) -> None:
    service = service_of(cluster, "small")
    service["metadata"]["annotations"][MODE] = "Knative"
    cluster.put("inferenceservices", service)
    before = copy.deepcopy(service_of(cluster, "small")["spec"])
    graph = copy.deepcopy(graph_of(cluster))
    rollout = state(phase="step", step=0)
    ready, _ = done(cluster, lambda: traffic.prepare(rollout))
    assert ready.service == "small"
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
    reported = [(one.get("canaryTrafficPercent"), one["model"]["storageUri"]) for one in written]
    # Never is the canary the newest revision while no percentage holds traffic back.
    assert reported == [(0, rollout.source), (0, STORAGE), (None, STORAGE)]
    traffic.prepare(rollout)
    traffic.promote(rollout)
    predictor = service_of(cluster, "small")["spec"]["predictor"]
    assert "canaryTrafficPercent" not in predictor
    assert predictor["model"]["storageUri"] == rollout.source
    assert graph_of(cluster) == graph
    # The note of what was before makes no revision of its own when it is no longer needed.
    annotations = [document["metadata"]["annotations"] for _, _, document in cluster.writes[-2:]]
    assert (
        annotations[0] == annotations[1] == service_of(cluster, "small")["metadata"]["annotations"]
    )
    with pytest.raises(InvalidInput, match="serves .* already"):
        traffic.prepare(rollout)
    # And the next rollout goes back to what this one promoted.
    traffic.prepare(newer := state("pvc://models/newer", phase="step", step=0, sha256="3" * 64))
    traffic.withdraw(newer)
    assert service_of(cluster, "small")["spec"]["predictor"] == predictor


def test_what_others_write_meanwhile_stays(cluster: Cluster, traffic: ClusterTraffic) -> None:
    rollout = state()
    done(cluster, lambda: traffic.prepare(rollout))

    def other() -> None:
        graph = copy.deepcopy(graph_of(cluster))
        graph["spec"]["routerTimeouts"]["serviceClient"] = 7
        cluster.put("inferencegraphs", graph)

    cluster.meddle = other
    done(cluster, lambda: traffic.shift(rollout, 5))
    assert weights(cluster) == (95, 5)
    assert graph_of(cluster)["spec"]["routerTimeouts"]["serviceClient"] == 7


def test_a_policys_canary_has_a_transformer_of_its_own(
    cluster: Cluster, traffic: ClusterTraffic
) -> None:
    rollout = state(model="policy", source="pvc://gearshift-models/policy-2")
    done(cluster, lambda: traffic.prepare(rollout))
    canary = service_of(cluster, "router-canary")
    arguments = canary["spec"]["transformer"]["containers"][0]["args"]
    assert {"--model_name=router-canary", "--predictor_name=router-canary"} <= set(arguments)
    assert "--shadow_share=0.05" in arguments
    root = graph_of(cluster)["spec"]["nodes"]["root"]["steps"][0]
    assert root == {"name": "route", "nodeName": "canary-router", "dependency": "Hard"}


def test_what_does_not_become_ready_is_reported(cluster: Cluster, traffic: ClusterTraffic) -> None:
    cluster.kserve.starts = lambda name, template: name != "small-canary-predictor"
    for _ in range(20):
        with pytest.raises(Pending) as reported:
            traffic.prepare(state())
        cluster.kserve.step()
    assert str(reported.value) == "small-canary-predictor: 0 of 1 pods are ready"
    assert weights(cluster) is None
    with pytest.raises(InvalidInput, match="serves .* already"):
        traffic.prepare(state(source=STORAGE))
    with pytest.raises(ConfigurationError, match="no cluster is known"):
        connected(ClusterRolloutConfig(kubeconfig=Path("/nowhere/config")))


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
