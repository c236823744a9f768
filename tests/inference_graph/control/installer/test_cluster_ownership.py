"""What somebody else made under a name of the installation is neither changed nor taken away."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest
from cluster_world import World, cli

from foundation.errors import Conflict
from inference_graph.control.installer.install import install
from inference_graph.control.installer.overlay import TARGETS, read_overlay
from inference_graph.control.installer.uninstall import find_installed, remove
from inference_graph.control.manifests import ManifestOptions
from inference_graph.control.manifests.names import PART_OF

THEIRS: dict[str, dict[str, Any]] = {
    "networkpolicies.networking.k8s.io": {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "gateway", "namespace": "gearshift", "labels": {"team": "vision"}},
        "spec": {"podSelector": {"matchLabels": {"app": "gateway"}}, "policyTypes": ["Ingress"]},
    },
    "serviceaccounts": {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "gateway", "namespace": "gearshift"},
    },
    "secrets": {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "gearshift-trial", "namespace": "gearshift"},
        "data": {"token": "dG9rZW4tb2YtdGhlaXJzLXRva2VuLW9mLXRoZWlycw=="},
    },
    "persistentvolumeclaims": {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "gearshift-models", "namespace": "gearshift"},
        "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "9Gi"}}},
    },
    "configmaps": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "of-others", "namespace": "gearshift"},
    },
}


def run(world: World) -> Any:
    return install(world.kubectl(), world.plan("edge"), lambda text: None, lambda _, one: None)


def given(world: World, *resources: str) -> dict[str, Any]:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "gearshift"}}
    world.server.put("namespaces", space)
    return {one: copy.deepcopy(world.server.put(one, THEIRS[one])) for one in resources}


def there(world: World, resource: str) -> Any:
    return world.server.get(resource, THEIRS[resource]["metadata"]["name"])


@pytest.mark.parametrize("target", TARGETS)
def test_all_that_is_installed_is_labelled_and_its_pods_are_as_before(target: str) -> None:
    for one in read_overlay(target, ManifestOptions()).documents:
        assert PART_OF.items() <= one["metadata"]["labels"].items(), one["metadata"]["name"]
        assert "part-of" not in json.dumps(one.get("spec", {}))


def test_an_installation_writes_nothing_over(world: World) -> None:
    theirs = given(world, "networkpolicies.networking.k8s.io", "serviceaccounts")
    names = {"networkpolicy.networking.k8s.io/gateway", "serviceaccount/gateway"}
    with pytest.raises(Conflict, match="somebody else made") as met:
        run(world)
    assert all(name in str(met.value) for name in names)
    assert world.server.writes == []
    # What it says to do, where they are Gearshift's after all.
    command = str(met.value).rpartition("say so: ")[2].split()
    world.kubectl().run(command[command.index("label") :])
    assert run(world).answers
    assert there(world, "serviceaccounts") != theirs["serviceaccounts"]


def test_an_uninstallation_leaves_what_it_did_not_install_and_says_so(world: World) -> None:
    theirs = given(world, "secrets", "persistentvolumeclaims", "configmaps")
    run(world)
    theirs["persistentvolumeclaims"] = copy.deepcopy(there(world, "persistentvolumeclaims"))
    # The installation's own is gone, and somebody has made another one.
    for resource in ("networkpolicies.networking.k8s.io", "serviceaccounts"):
        del world.server.objects[resource, "gearshift", "gateway"]
        theirs |= given(world, resource)
    code, lines, _ = cli(*world.words("uninstall", "--data", "--yes", target="edge"))
    assert code == 0
    assert {line for line in lines if line.startswith("stays")} == {
        f"stays  {name} (somebody else's: without the label app.kubernetes.io/part-of=gearshift)"
        for name in (
            "networkpolicy.networking.k8s.io/gateway",
            "serviceaccount/gateway",
            "secret/gearshift-trial",
            "persistentvolumeclaim/gearshift-models",
        )
    }
    left = {one[::2] for one in world.server.objects if one[1] == "gearshift"}
    assert left == {(one, THEIRS[one]["metadata"]["name"]) for one in THEIRS}
    assert {one: there(world, one) for one in theirs} == theirs


def test_what_belongs_to_another_namespace_is_installed_and_goes_again(world: World) -> None:
    """With Kubeflow an overlay has a role where that is, and kubectl takes one namespace alone."""
    place = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kubeflow"}}
    world.server.put("namespaces", place)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "gearshift-runs", "namespace": "kubeflow", "labels": dict(PART_OF)},
        "rules": [],
    }
    plan = world.plan("edge")
    folder = plan.folder / "components" / "runs"
    folder.mkdir()
    (folder / "role.yaml").write_text(json.dumps(role))
    component = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    whole = json.dumps({**component, "resources": ["role.yaml"]})
    (folder / "kustomization.yaml").write_text(whole)
    kustomization = plan.kustomization / "kustomization.yaml"
    last = "  - ../../site/namespace\n"
    text = kustomization.read_text().replace(last, f"{last}  - ../../components/runs\n")
    kustomization.write_text(text)
    install(world.kubectl(), plan, lambda text: None, lambda _, one: None)
    assert set(world.server.named("roles.rbac.authorization.k8s.io", "kubeflow")) == {
        "gearshift-runs"
    }
    overlay = replace(plan.overlay, documents=(*plan.overlay.documents, role))
    removal = find_installed(world.kubectl(), overlay, False)
    assert "role.rbac.authorization.k8s.io/gearshift-runs in kubeflow" in removal.goes
    remove(world.kubectl(), removal)
    assert world.server.named("roles.rbac.authorization.k8s.io", "kubeflow") == {}
