"""``gearshift cluster status`` and ``uninstall``, and what counts as serving."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from api_server import Document
from cluster_world import World, cli, running_world

from inference_graph.control.installer.install import install
from inference_graph.control.installer.overlay import read_overlay
from inference_graph.control.installer.serving import judge
from inference_graph.control.installer.uninstall import find_installed, remove
from inference_graph.control.manifests import ManifestOptions
from inference_graph.control.manifests.names import PART_OF

DEPLOYMENT: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "dashboard", "generation": 3},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "dashboard"}},
        "template": {"spec": {"containers": [{"image": "gearshift-dashboard:0.1.0"}]}},
    },
    "status": {
        "observedGeneration": 3,
        "replicas": 2,
        "updatedReplicas": 2,
        "availableReplicas": 2,
    },
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, kubectl_program: str) -> Iterator[World]:
    with running_world(tmp_path_factory.mktemp("installed")) as world:
        install(world.kubectl(), world.plan(), lambda text: None, lambda _, one: None)
        yield world


def status(world: World) -> tuple[int, Any, str]:
    code, lines, notes = cli(*world.words("status", "--json"))
    return code, json.loads("\n".join(lines)), notes


def test_what_runs_is_shown(installed: World) -> None:
    code, found, _ = status(installed)
    assert code == 0
    assert found["answered"] == "kind 0.1.0"
    assert found["versions"] == ["0.1.0"]
    assert found["reachable"] is True
    assert {one["name"]: one["storage"] for one in found["models"]} == {
        **{rung: "pvc://gearshift-models/ladder" for rung in ("nano", "small", "large")},
        "router": "pvc://gearshift-models/policy",
    }
    assert all(len(one["sha256"]) == 64 and one["canary"] is None for one in found["models"])
    code, lines, _ = cli(*installed.words("status"))
    assert code == 0
    assert lines[0] == "kind in gearshift: 0.1.0; answered a frame: kind 0.1.0"


def test_canaries_of_both_kinds_are_shown(installed: World) -> None:
    server = installed.server
    services = "inferenceservices.serving.kserve.io"
    small, router = (copy.deepcopy(server.get(services, one)) for one in ("small", "router"))
    native = copy.deepcopy(small)
    native["spec"]["canary"] = [
        {
            "trafficPercent": 25,
            "predictor": {
                "name": "next",
                "model": {"storageUri": "pvc://gearshift-models/ladder-2"},
            },
        }
    ]
    beside = copy.deepcopy(router)
    beside["metadata"]["name"] = "router-canary"
    beside["spec"]["predictor"]["model"]["storageUri"] = "pvc://gearshift-models/policy-2"
    server.put(services, native)
    server.put(services, beside)
    try:
        _, found, _ = status(installed)
        canaries = {one["name"]: one["canary"] for one in found["models"]}
        assert canaries["small"] == {"storage": "pvc://gearshift-models/ladder-2", "percent": 25}
        assert canaries["router"] == {"storage": "pvc://gearshift-models/policy-2", "percent": None}
        assert canaries["nano"] is None
    finally:
        server.put(services, small)
        del server.objects[services, "gearshift", "router-canary"]


def test_a_gateway_that_does_not_answer_is_no_success(installed: World) -> None:
    (path,) = installed.server.proxied
    before = installed.server.proxied[path]
    installed.server.proxied[path] = (503, "no rung is ready")
    try:
        code, found, notes = status(installed)
        assert (code, found["reachable"]) == (1, False)
        assert "no rung is ready" in notes
    finally:
        installed.server.proxied[path] = before


def test_a_change_that_kserve_has_not_taken_up_does_not_serve_yet(installed: World) -> None:
    services = "inferenceservices.serving.kserve.io"
    before = installed.server.get(services, "nano")
    changed = copy.deepcopy(before)
    changed["spec"]["predictor"]["model"]["args"].append("--threads=2")
    installed.server.put(services, changed)
    try:
        code, _, notes = status(installed)
        assert code == 1
        assert "KServe has not made the Deployment nano-predictor of it yet" in notes
    finally:
        installed.server.put(services, copy.deepcopy(before))


def test_before_an_installation_nothing_is_there(world: World) -> None:
    code, found, notes = status(world)
    assert (code, found["answered"], found["models"]) == (1, "", [])
    assert "inferenceservice/nano: it is not there yet" in notes
    code, lines, notes = cli(*world.words("uninstall", "--yes"))
    assert (code, lines) == (0, [])
    assert "nothing is installed" in notes


def test_an_uninstallation_lists_first_and_names_its_commands(installed: World) -> None:
    writes = len(installed.server.writes)
    code, lines, notes = cli(*installed.words("uninstall"))
    assert code == 1
    assert "nothing was taken away; say --yes" in notes
    assert "goes   inferenceservice.serving.kserve.io/nano" in lines
    assert not any("namespace/" in line for line in lines)
    stays = {line.split("/")[1] for line in lines if line.startswith("stays")}
    assert stays == {
        "gearshift-models",
        "log-gateway-0",
        "data-postgres-0",
        "data-objects-0",
        "gearshift-tokens",
        "gearshift-scrape",
        "gearshift-operate",
        "gearshift-events",
        "gearshift-trial",
        "gearshift-s3",
        "gearshift-mlflow",
    }

    code, dry, _ = cli(*installed.words("uninstall", "--dry-run"))
    controller, graph, services, rest, mark = dry
    assert controller.endswith("deployment.apps/rollout")
    assert graph.endswith("inferencegraph.serving.kserve.io/gearshift")
    assert "inferenceservice.serving.kserve.io/nano" in services
    assert "statefulset.apps/gateway" in rest
    assert "secret/" not in rest
    assert "persistentvolumeclaim/" not in rest
    assert mark.endswith("annotate namespace gearshift gearshift/answered-")
    code, dry, _ = cli(*installed.words("uninstall", "--dry-run", "--data"))
    assert "secret/gearshift-tokens" in dry[-2]
    assert len(installed.server.writes) == writes


def test_an_uninstallation_leaves_the_data_and_an_installation_finds_them(world: World) -> None:
    def again() -> Any:
        plan = world.plan("edge")
        return install(world.kubectl(), plan, lambda text: None, lambda _, one: None)

    def left() -> set[str]:
        return {resource for resource, place, _ in world.server.objects if place == "gearshift"}

    again()
    secrets = dict(world.server.named("secrets"))
    code, _, notes = cli(*world.words("uninstall", "--yes", target="edge"))
    assert code == 0, notes
    assert left() == {"persistentvolumeclaims", "secrets"}
    assert set(world.server.named("persistentvolumeclaims")) == {
        "gearshift-models",
        "log-gateway-0",
    }

    result = again()
    assert result.answers["gateway"]["rung"] == "nano"
    assert not any("secret" in one or "stored" in one for one in result.changed)
    assert world.server.named("secrets") == secrets

    code, _, _ = cli(*world.words("uninstall", "--yes", "--data", target="edge"))
    assert code == 0
    assert left() == set()


def test_an_uninstallation_removes_the_pods_of_an_interrupted_installation(world: World) -> None:
    install(world.kubectl(), world.plan("edge"), lambda text: None, lambda _, one: None)
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": []}}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-others"}}
    kubectl = world.kubectl()
    for name in ("gearshift-upload", "of-others"):
        metadata = {"name": name, "namespace": "gearshift", "labels": dict(PART_OF)}
        world.server.put("pods", {**pod, "metadata": metadata})
    kubectl.apply(other)
    # The kinds of another version name the same objects.
    overlay = read_overlay("edge", ManifestOptions())
    older = [
        {**one, "apiVersion": one["apiVersion"].replace("/v1", "/v1beta9")}
        for one in overlay.documents
    ]
    removal = find_installed(kubectl, dataclasses.replace(overlay, documents=tuple(older)), True)
    assert "statefulset.apps/gateway" in removal.objects
    remove(kubectl, removal)
    assert set(world.server.named("pods")) == {"of-others"}
    assert set(world.server.named("configmaps")) == {"of-others"}


def test_another_target_in_the_namespace_is_left_alone(world: World) -> None:
    install(world.kubectl(), world.plan("edge"), lambda text: None, lambda _, one: None)
    writes = len(world.server.writes)
    reason = "--target edge is installed in the namespace gearshift; uninstall that one first"
    for verb, more in (("install", world.weights), ("uninstall", ["--yes"])):
        code, lines, notes = cli(*world.words(verb, target="kind"), *more)
        assert (code, lines) == (1, [])
        assert reason in notes
    assert len(world.server.writes) == writes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"observedGeneration": 2}, "its change is not seen yet"),
        ({"updatedReplicas": 1}, "1 of 2 pods are updated"),
        ({"replicas": 3}, "1 pods of before have not ended"),
        ({"availableReplicas": 1}, "1 of 2 pods are ready"),
        (
            {
                "conditions": [
                    {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
                ]
            },
            "do not become ready",
        ),
    ],
)
def test_a_deployment_serves_by_the_rules_of_rollout_status(
    change: dict[str, Any], reason: str
) -> None:
    found = copy.deepcopy(DEPLOYMENT)
    found["status"] |= change
    serving = judge(read_overlay("kind", ManifestOptions()), [found])
    (one,) = (each for each in serving.workloads if each.name == "deployment/dashboard")
    assert one.ready is not bool(reason)
    assert reason in one.reason


def test_a_service_is_reached_when_an_endpoint_is_ready_or_none_shall_serve_it() -> None:
    overlay = read_overlay("edge", ManifestOptions())

    def service(name: str) -> Document:
        return {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}}}

    def endpoints(name: str, *conditions: dict[str, Any]) -> Document:
        labels = {"kubernetes.io/service-name": name}
        ends = [{"conditions": one} for one in conditions]
        return {"kind": "EndpointSlice", "metadata": {"labels": labels}, "endpoints": ends}

    resting = copy.deepcopy(DEPLOYMENT)
    resting["spec"]["replicas"] = 0
    found = [
        service("a"),
        endpoints("a", {"ready": False}, {"ready": True}),
        service("b"),
        endpoints("b", {"ready": False}),
        service("c"),
        endpoints("c"),
        service("d"),
        endpoints("d", {}),
        service("dashboard"),
        resting,
        {"kind": "Service", "metadata": {"name": "outside"}, "spec": {"type": "ExternalName"}},
    ]
    assert judge(overlay, found).unreachable == ("b", "c")


def test_what_a_pod_waits_for_is_reported() -> None:
    deployment = copy.deepcopy(DEPLOYMENT)
    deployment["status"]["availableReplicas"] = 0
    pod: Document = {
        "kind": "Pod",
        "metadata": {"name": "dashboard-1", "labels": {"app": "dashboard"}},
        "status": {
            "conditions": [
                {
                    "type": "PodScheduled",
                    "status": "False",
                    "message": "0/3 nodes: Insufficient nvidia.com/gpu.",
                }
            ]
        },
    }
    overlay = read_overlay("kind", ManifestOptions())

    def reason() -> str:
        serving = judge(overlay, [deployment, pod])
        return next(one.reason for one in serving.workloads if one.name == "deployment/dashboard")

    assert reason() == "dashboard-1 finds no node: 0/3 nodes: Insufficient nvidia.com/gpu"
    waiting = {"reason": "CrashLoopBackOff"}
    pod["status"] = {"containerStatuses": [{"name": "main", "state": {"waiting": waiting}}]}
    assert reason() == (
        "dashboard-1: CrashLoopBackOff; see `kubectl -n gearshift logs dashboard-1 -c main "
        "--previous`"
    )
