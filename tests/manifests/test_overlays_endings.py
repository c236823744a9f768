"""How pods begin and end: what is asked of one that starts, and how long one that ends answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml
from overlays import MANIFESTS, OVERLAYS, named, pods, rendered

from inference_graph.control.rollout.plan import RolloutPlan
from serving_kit.inference_protocol import RENEW_SECONDS

AGENT_SECONDS = ROUTER_SECONDS = 30
"""KServe's agent and graph router take requests for so long after SIGTERM: ``drainSleepDuration``
in cmd/agent/main.go and cmd/router/main.go of KServe 0.20.0."""


def asked(overlay: str) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Pods that are asked over HTTP or gRPC, and their containers."""
    for where, spec in pods(rendered(overlay)):
        for container in spec["containers"]:
            if where.startswith(("InferenceService", "StatefulSet gateway")):
                yield where, spec, container


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_ends_answers_until_no_one_asks_it(overlay: str) -> None:
    found = list(asked(overlay))
    assert found
    for where, spec, container in found:
        seconds = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        # Measured: 32 s behind the agent did not suffice, 45 s did.
        least = 15 if "gateway" in where else max(45, AGENT_SECONDS, RENEW_SECONDS)
        assert seconds >= least, where
        assert spec["terminationGracePeriodSeconds"] >= seconds + 30, where


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_rollout_waits_longer_than_a_pod_may_take_to_start(overlay: str) -> None:
    for where, spec, container in asked(overlay):
        probe = container["startupProbe"]
        longest = probe["periodSeconds"] * probe["failureThreshold"]
        ending = spec["terminationGracePeriodSeconds"]
        assert RolloutPlan().ready_seconds > longest + ending, where


@pytest.mark.parametrize("overlay", [one for one in OVERLAYS if one != "edge"])
def test_replaced_pods_need_one_spare_place(overlay: str) -> None:
    for service in named(rendered(overlay), "InferenceService").values():
        for part in service["spec"].values():
            assert part["deploymentStrategy"] == {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            }


def test_routers_of_a_graph_are_given_time_where_the_cluster_can() -> None:
    text = (MANIFESTS / "components" / "graph-drain" / "policy.yaml").read_text()
    policy, binding = yaml.safe_load_all(text)
    for document in (policy, binding):
        for version in ("1.36", "1.37"):
            kubernetes_validate.validate(document, version, strict=True)
    (mutation,) = policy["spec"]["mutations"]
    assert mutation["applyConfiguration"]["expression"] == (
        "Object{spec: Object.spec{terminationGracePeriodSeconds: 90}}"
    )
    assert ROUTER_SECONDS + 30 < 90
    assert binding["spec"]["policyName"] == policy["metadata"]["name"]
