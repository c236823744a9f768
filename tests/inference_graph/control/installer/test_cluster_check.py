"""``gearshift cluster check``: what is missing is found, and the command that mends it named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from cluster_controllers import equip
from cluster_world import World, cli

from inference_graph.control.installer.checks import ClusterCheck, State, check_cluster
from inference_graph.control.installer.overlay import TARGETS, Overlay, read_overlay
from inference_graph.control.installer.probes import probe_cluster
from inference_graph.control.installer.rights import needed
from inference_graph.control.manifests import ManifestOptions

Change = Callable[[World], object]


@cache
def default_overlay(target: str) -> Overlay:
    return read_overlay(target, ManifestOptions())


def checks(world: World, target: str = "kind") -> dict[str, ClusterCheck]:
    overlay = default_overlay(target)
    return {one.name: one for one in check_cluster(world.kubectl(), overlay)}


def without_kinds(world: World, *groups: str) -> None:
    for api in [one for one in world.server.kinds if one.partition("/")[0] in groups]:
        del world.server.kinds[api]


def newer_kserve(world: World) -> None:
    world.server.kinds["serving.kserve.io/v2"] = world.server.kinds.pop("serving.kserve.io/v1beta1")


def without_default_class(world: World) -> None:
    metadata = world.server.get("storageclasses.storage.k8s.io", "standard", "")["metadata"]
    del metadata["annotations"]


def broken_kserve(world: World) -> None:
    manager = world.server.get("deployments.apps", "kserve-controller-manager", "kserve")
    manager["status"]["availableReplicas"] = 0


def remove(world: World, resource: str, place: str, name: str) -> None:
    del world.server.objects[resource, place, name]


FAULTS: list[tuple[str, Change, str, str]] = [
    ("Kubernetes", lambda world: setattr(world.server, "git_version", "v1.29.4"),
     "1.30 or newer", "upgrade the cluster"),
    ("CRDs of serving.kserve.io", lambda world: without_kinds(world, "serving.kserve.io"),
     "InferenceService (serving.kserve.io/v1beta1)", "kserve-resources --version v0.20.0"),
    ("CRDs of serving.kserve.io", newer_kserve,
     "InferenceService (serving.kserve.io/v1beta1, only serving.kserve.io/v2)", "v0.20.0"),
    ("cert-manager", lambda world: without_kinds(world, "cert-manager.io"),
     "CRDs are not known", "oci://quay.io/jetstack/charts/cert-manager"),
    ("cert-manager", lambda world: remove(world, "deployments.apps", *["cert-manager"] * 2),
     "does not run", "helm upgrade --install cert-manager"),
    ("KServe", lambda world: remove(world, "deployments.apps", "kserve",
                                    "kserve-controller-manager"),
     "does not run", "kserve-crd"),
    ("KServe", lambda world: equip(world.server, kserve="v0.19.1"),
     "v0.19.1; 0.20 or newer", "helm upgrade --install kserve"),
    ("KServe", broken_kserve, "not available", "describe deployment kserve-controller-manager"),
    ("KServe's mode", lambda world: equip(world.server, mode="Knative"),
     "Knative; Standard", "kserve.controller.deploymentMode=Standard"),
    ("StorageClass", without_default_class, "none is the default",
     "kubectl annotate storageclass standard "
     "storageclass.kubernetes.io/is-default-class=true"),
    ("StorageClass", lambda world: remove(world, "storageclasses.storage.k8s.io", "", "standard"),
     "there is none", "local-path-provisioner"),
    ("rights", lambda world: world.server.denied.add(("create", "pods/exec")),
     "create pods/exec", "kubectl auth can-i create pods --subresource=exec --namespace gearshift"),
    ("rights", lambda world: world.server.denied.add(("patch", "networkpolicies")),
     "patch networkpolicies.networking.k8s.io",
     "kubectl auth can-i patch networkpolicies.networking.k8s.io"),
]  # fmt: skip


def test_a_cluster_that_has_all_is_well(world: World) -> None:
    found = checks(world)
    assert {one.state for one in found.values()} == {State.OK}
    assert found["KServe"].found == "v0.20.0"
    assert world.server.writes == []


@pytest.mark.parametrize(("name", "fault", "found", "mend"), FAULTS)
def test_what_is_missing_is_named_with_its_command(
    world: World, name: str, fault: Change, found: str, mend: str
) -> None:
    fault(world)
    check = checks(world)[name]
    assert check.state is State.MISSING
    assert check.stops
    assert found in check.found
    assert mend in check.mend


def test_claims_that_exist_need_no_default_class(world: World) -> None:
    without_default_class(world)
    overlay = default_overlay("kind")
    claims = {*overlay.claims, *(f"{name}-0" for name, _ in overlay.stateful_claims())}
    for name in claims:
        claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}}
        metadata = {"name": name, "namespace": "gearshift"}
        world.server.put("persistentvolumeclaims", {**claim, "metadata": metadata})
    assert checks(world)["StorageClass"].state is State.OK


def test_what_may_not_be_read_is_unknown(world: World) -> None:
    world.server.denied |= {("list", "storageclasses"), ("get", "configmaps")}
    found = checks(world)
    assert found["StorageClass"].state is State.UNKNOWN
    assert "cannot list" in found["StorageClass"].found
    assert found["operators"].state is State.UNKNOWN
    assert found["rights"].state is State.OK


def test_canaries_miss_the_gateway_api_and_the_installation_does_not(world: World) -> None:
    without_kinds(world, "gateway.networking.k8s.io")
    check = checks(world)["Gateway API"]
    assert (check.state, check.stops) == (State.MISSING, False)
    assert "gateway-api" in check.mend


def test_on_premises_gpus_issuer_and_ingress_are_looked_for(world: World) -> None:
    found = checks(world, "onprem")
    assert found["GPUs"].found == "0 of 3 that are asked for"
    assert found["CRDs of monitoring.coreos.com"].state is State.MISSING
    assert found["metrics-server"].state is State.MISSING
    node = world.server.get("nodes", "node-1", "")
    node["status"]["allocatable"]["nvidia.com/gpu"] = "4"
    assert checks(world, "onprem")["GPUs"].state is State.OK
    node["spec"]["unschedulable"] = True
    assert checks(world, "onprem")["GPUs"].state is State.MISSING


def test_on_gke_gpus_of_one_kind_and_given_secrets(world: World) -> None:
    node = world.server.get("nodes", "node-1", "")
    node["status"]["allocatable"]["nvidia.com/gpu"] = "4"
    found = checks(world, "gke")
    assert "cloud.google.com/gke-accelerator=nvidia-l4" in found["GPUs"].found
    assert found["GPUs"].state is State.MISSING
    secret = found["Secret gearshift-iap"]
    assert secret.stops
    assert "create secret generic gearshift-iap" in secret.mend


def test_one_node_needs_no_kserve(world: World) -> None:
    without_kinds(world, "serving.kserve.io", "cert-manager.io", "gateway.networking.k8s.io")
    found = checks(world, "edge")
    assert {one.state for one in found.values()} == {State.OK}
    assert "KServe" not in found


@pytest.mark.parametrize("target", TARGETS)
def test_the_rights_of_all_that_is_applied_are_asked_for(target: str) -> None:
    overlay = default_overlay(target)
    plain = {kind: f"{kind.lower()}s" for _, kind in overlay.kinds}
    known = {(api, kind): plain[kind] for api, kind in overlay.kinds}
    asked = {(one.resource, one.verb) for one in needed(overlay, known)}
    for kind in plain.values():
        assert {(kind, verb) for verb in ("get", "create", "patch")} <= asked
    assert {("secrets", "get"), ("pods/exec", "create"), ("pods/log", "get")} <= asked
    kubeflow = {one.resource for one in needed(overlay, known) if one.namespace == "kubeflow"}
    assert kubeflow == ({"roles", "rolebindings"} if target in ("gke", "onprem") else set())


def probes(world: World, seconds: float = 20) -> dict[str, ClusterCheck]:
    overlay = default_overlay("kind")
    return {one.name: one for one in probe_cluster(world.kubectl(), overlay, seconds)}


@pytest.mark.parametrize(
    ("enforced", "state", "text"),
    [
        (True, State.OK, "enforced"),
        (False, State.MISSING, "not enforced"),
        (None, State.UNKNOWN, "do not run within"),
    ],
)
def test_enforcement_is_tried_and_nothing_stays(
    world: World, enforced: bool | None, state: State, text: str
) -> None:
    world.controllers.policies = enforced
    before = set(world.server.objects)
    check = probes(world, seconds=1 if enforced is None else 20)["NetworkPolicies"]
    assert check.state is state
    assert text in check.found
    assert set(world.server.objects) == before


def test_images_that_cannot_be_pulled_are_named(world: World) -> None:
    world.controllers.unpulled = {"gearshift:0.1.0", "gearshift-mlflow:0.1.0"}
    check = probes(world)["images"]
    assert check.stops
    assert check.mend == "kind load docker-image gearshift-mlflow:0.1.0 gearshift:0.1.0"


def test_without_the_right_to_probe_it_is_unknown(world: World) -> None:
    world.server.denied.add(("create", "namespaces"))
    found = probes(world)
    assert {one.state for one in found.values()} == {State.UNKNOWN}
    assert "cannot create" in found["images"].found


def test_the_verb_prints_json_and_fails_where_something_is_missing(world: World) -> None:
    code, lines, notes = cli(*world.words("check", "--no-probe", "--json"))
    reported: Any = json.loads("\n".join(lines))
    assert (code, notes) == (0, "")
    assert {one["state"] for one in reported["checks"]} == {"ok"}

    equip(world.server, mode="Knative")
    code, lines, notes = cli(*world.words("check", "--no-probe"))
    assert code == 1
    assert any(line.startswith("missing  KServe's mode") for line in lines)
    assert "found something missing: KServe's mode" in notes
    code, lines, notes = cli(*world.words("install"), *world.weights)
    assert (code, lines, world.server.writes) == (1, [], [])
    assert "mend it: helm upgrade" in notes
