"""What a security officer asks of every pod that an overlay makes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from overlays import OVERLAYS, named, pods, rendered

_PINNED = re.compile(r"[^@:]+(:\d+/[^@:]+)?:[\w][\w.-]*(@sha256:[0-9a-f]{64})?")
BUILT = {"gearshift", "gearshift-python", "gearshift-dashboard", "gearshift-mlflow"}
"""The images that images/ builds; all others are pinned by digest."""


def containers(overlay: str) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{where} {container['name']}", container)
        for where, spec in pods(rendered(overlay))
        for container in (*spec.get("initContainers", ()), *spec["containers"])
    ]


@pytest.mark.parametrize("overlay", OVERLAYS)
class TestEveryPod:
    def test_is_confined(self, overlay: str) -> None:
        for where, container in containers(overlay):
            context = container["securityContext"]
            assert context["runAsNonRoot"] is True and context["runAsUser"] > 0, where
            assert context["readOnlyRootFilesystem"] is True, where
            assert context["allowPrivilegeEscalation"] is False, where
            assert context["capabilities"] == {"drop": ["ALL"]}, where
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}, where
            assert not context.get("privileged"), where

    def test_has_requests_and_limits(self, overlay: str) -> None:
        for where, container in containers(overlay):
            asked, bound = (container["resources"][side] for side in ("requests", "limits"))
            assert {"cpu", "memory"} <= asked.keys() and {"cpu", "memory"} <= bound.keys(), where
            assert asked["memory"] == bound["memory"], where

    def test_runs_a_pinned_image(self, overlay: str) -> None:
        for where, container in containers(overlay):
            image = container["image"]
            assert _PINNED.fullmatch(image), (where, image)
            assert not re.search(r":latest\b", image), where
            name = image.partition(":")[0]
            assert name in BUILT or "@sha256:" in image, (where, image)

    def test_is_no_user_of_the_clusters_api_but_a_rollouts_controller(self, overlay: str) -> None:
        known = named(rendered(overlay), "ServiceAccount")
        for where, spec in pods(rendered(overlay)):
            user = where == "Deployment rollout"
            assert spec["automountServiceAccountToken"] is user, where
            account = known[spec["serviceAccountName"]]
            assert account["automountServiceAccountToken"] is False, where

    def test_shares_nothing_with_its_node(self, overlay: str) -> None:
        for where, spec in pods(rendered(overlay)):
            for field in ("hostNetwork", "hostPID", "hostIPC"):
                assert not spec.get(field), (where, field)
            for volume in spec.get("volumes", ()):
                assert "hostPath" not in volume, where
                if "emptyDir" in volume:
                    assert "sizeLimit" in volume["emptyDir"], where

    def test_reports_its_state(self, overlay: str) -> None:
        for where, spec in pods(rendered(overlay)):
            if where.startswith("CronJob"):
                assert spec["restartPolicy"] == "Never", where
                continue
            for container in spec["containers"]:
                if container.get("ports"):
                    ports = {one["containerPort"] for one in container["ports"]}
                    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                        asked = container[probe]
                        assert "exec" in asked or asked["httpGet"]["port"] in ports, where

    def test_mounts_what_there_is(self, overlay: str) -> None:
        for where, spec in pods(rendered(overlay)):
            volumes = {one["name"] for one in spec.get("volumes", ())}
            if where.startswith("StatefulSet"):
                stateful = named(rendered(overlay), "StatefulSet")[where.split()[1]]
                claims = stateful["spec"].get("volumeClaimTemplates", ())
                volumes |= {one["metadata"]["name"] for one in claims}
            mounted = {
                mount["name"]
                for container in (*spec.get("initContainers", ()), *spec["containers"])
                for mount in container["volumeMounts"]
            }
            assert mounted == volumes, where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_is_in_a_manifest(overlay: str) -> None:
    documents = rendered(overlay)
    assert named(documents, "Secret") == {}
    for where, container in containers(overlay):
        for variable in container.get("env", ()):
            if re.search(r"PASSWORD|TOKEN|SECRET|_KEY|STORE_URI", variable["name"]):
                assert "secretKeyRef" in variable["valueFrom"], (where, variable["name"])
    assert not re.search(r"://[^/\s'\"]+:[^/\s'\"@]+@", str(documents))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_one_account_may_change_two_kinds_of_this_namespace(overlay: str) -> None:
    documents = rendered(overlay)
    assert not named(documents, "ClusterRole") and not named(documents, "ClusterRoleBinding")
    roles = named(documents, "Role")
    # Flink's job manager starts task managers; it is in the overlay with Kafka alone.
    assert ("preparation" in roles) == (overlay == "kafka")
    roles.pop("preparation", None)
    assert set(roles) <= {"rollout", "gearshift-runs"}
    roles.pop("gearshift-runs", None)
    ours = {"nano", "small", "large", "router"}
    canaries = {f"{name}-canary" for name in ours}
    beside = {f"{name}-predictor" for name in canaries} | {"router-canary-transformer"}
    stable = {f"{name}-predictor" for name in ours} | {"router-transformer", "gearshift"}
    for role in roles.values():
        granted = {
            (kind, verb, name)
            for rule in role["rules"]
            for kind in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames", ["any"])
        }
        assert granted == {
            *(
                ("inferenceservices", verb, name)
                for verb in ("get", "update")
                for name in ours | canaries
            ),
            *(("inferenceservices", "delete", name) for name in canaries),
            ("inferenceservices", "create", "any"),  # Kubernetes cannot ask for a name there
            *(("inferencegraphs", verb, "gearshift") for verb in ("get", "update")),
            *(("deployments", "get", name) for name in stable | beside),
            *(("deployments/scale", "patch", name) for name in beside),
            ("endpointslices", "list", "any"),
        }
        groups = {rule["resources"][0]: rule["apiGroups"] for rule in role["rules"]}
        assert groups == {
            "inferenceservices": ["serving.kserve.io"],
            "inferencegraphs": ["serving.kserve.io"],
            "deployments": ["apps"],
            "deployments/scale": ["apps"],
            "endpointslices": ["discovery.k8s.io"],
        }
    for name, binding in named(documents, "RoleBinding").items():
        accounts = {(one["kind"], one["name"]) for one in binding["subjects"]}
        own = name in ("rollout", "preparation")
        users = (name,) if own else ("gateway", "triggers")
        assert accounts == {("ServiceAccount", user) for user in users}


@pytest.mark.parametrize("overlay", ["gke", "onprem"])
def test_who_launches_a_retraining_may_start_runs_where_they_are(overlay: str) -> None:
    role = named(rendered(overlay), "Role")["gearshift-runs"]
    assert role["metadata"]["namespace"] == "kubeflow"
    granted = {
        (kind, verb)
        for rule in role["rules"]
        for kind in rule["resources"]
        for verb in rule["verbs"]
        if rule["apiGroups"] == ["pipelines.kubeflow.org"]
    }
    assert granted == {
        ("runs", "create"),
        ("runs", "get"),
        ("runs", "terminate"),
        ("experiments", "list"),
        ("experiments", "create"),
        ("experiments", "get"),
        ("pipelines", "get"),
    }


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_drain_takes_one_pod_at_a_time_and_never_waits_for_ever(overlay: str) -> None:
    budgets = named(rendered(overlay), "PodDisruptionBudget")
    for one in budgets.values():
        assert one["spec"]["maxUnavailable"] == 1
        # Or pods that never become ready would hold up every drain.
        assert one["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert set(budgets) == (
        set()
        if overlay == "edge"
        else {"nano", "small", "large", "router", "transformer", "graph", "gateway"}
        | ({"kafka-worker"} if overlay == "kafka" else set())
    )
