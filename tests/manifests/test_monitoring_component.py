"""The monitoring component on the base, as kubectl renders it: it selects what is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from overlays import kustomized

from foundation.errors import ConfigurationError
from inference_graph.control.manifests import ManifestOptions, render, write_manifests
from inference_graph.control.monitoring.alerts import alert_rules
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.rules import rule_groups

OVERLAY = {
    "apiVersion": "kustomize.config.k8s.io/v1beta1",
    "kind": "Kustomization",
    "resources": ["../../base"],
    "components": ["../../monitoring"],
}


def rendered(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Base and component, by kind and name."""
    overlay = folder / "overlays" / "mine"
    overlay.mkdir(parents=True)
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(OVERLAY))
    text = kustomized(overlay)
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text)}


@pytest.fixture
def documents(tmp_path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    write_manifests(tmp_path, ManifestOptions(namespace="fleet"))
    return rendered(tmp_path)


def test_the_gateway_is_scraped_through_its_service(documents: dict[Any, Any]) -> None:
    monitor = documents["ServiceMonitor", "gearshift-gateway"]
    service = documents["Service", "gateway"]
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"] == "fleet"
    assert (
        monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    )
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "gearshift-scrape", "key": "token"},
    }


def test_the_services_pods_are_scraped(documents: dict[Any, Any]) -> None:
    monitor = documents["PodMonitor", "gearshift-services"]
    assert monitor["spec"]["selector"]["matchExpressions"] == [
        {"key": "gearshift/model", "operator": "Exists"}
    ]
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    containers = [
        *documents["ServingRuntime", "gearshift-detector"]["spec"]["containers"],
        *documents["ServingRuntime", "gearshift-router"]["spec"]["containers"],
        *documents["InferenceService", "router"]["spec"]["transformer"]["containers"],
    ]
    for container in containers:
        assert {"name": endpoint["port"], "containerPort": 8080, "protocol": "TCP"} in container[
            "ports"
        ]


def test_a_canary_has_its_services_name_and_a_track_of_its_own(documents: dict[Any, Any]) -> None:
    """The relabelings, done as Prometheus does them: its expressions match the whole value."""
    (endpoint,) = documents["PodMonitor", "gearshift-services"]["spec"]["podMetricsEndpoints"]
    service = documents["InferenceService", "small"]["metadata"]["labels"]

    def labels(pod: dict[str, str]) -> dict[str, str]:
        reported = {
            "__meta_kubernetes_pod_label_" + name.replace("/", "_").replace(".", "_"): value
            for name, value in pod.items()
        }
        for one in endpoint["relabelings"]:
            value = ";".join(reported.get(name, "") for name in one.get("sourceLabels", ()))
            found = re.fullmatch(one.get("regex", "(.*)"), value)
            if found:
                replacement = one.get("replacement", "$1")
                reported[one["targetLabel"]] = replacement.replace(
                    "$1", "".join(found.groups()[:1])
                )
        return {name: reported[name] for name in ("job", "service", "component", "track")}

    pod = service | {"component": "predictor"}
    expected = {"job": "gearshift-services", "service": "small", "component": "predictor"}
    assert labels(pod) == expected | {"track": "stable"}
    assert labels(pod | {"gearshift/rollout": "r1"}) == expected | {"track": "canary"}


def test_jobs_are_those_that_the_rules_ask_for(documents: dict[Any, Any]) -> None:
    jobs = set()
    for kind, key in (("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")):
        (monitor,) = (one for (found, _), one in documents.items() if found == kind)
        (job,) = (
            one["replacement"]
            for one in monitor["spec"][key][0]["relabelings"]
            if one["targetLabel"] == "job"
        )
        jobs.add(job)
    (down,) = (rule for rule in alert_rules(Objectives()) if rule["alert"].endswith("TargetDown"))
    assert all(job in down["expr"] for job in jobs)
    assert jobs == {"gearshift-gateway", "gearshift-services"}


def test_the_rules_are_those_of_the_default_objectives(documents: dict[Any, Any]) -> None:
    rule = documents["PrometheusRule", "gearshift"]
    assert rule["spec"] == rule_groups(Objectives()), "put what `gearshift rules` writes into spec"
    for kind, name in (
        ("PrometheusRule", "gearshift"),
        ("ServiceMonitor", "gearshift-gateway"),
        ("PodMonitor", "gearshift-services"),
    ):
        assert documents[kind, name]["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        assert documents[kind, name]["apiVersion"] == "monitoring.coreos.com/v1"


def test_another_operator_selects_by_its_own_release(tmp_path: Path) -> None:
    for release in ("mine", ""):
        write_manifests(tmp_path, ManifestOptions(prometheus_release=release))
        found = [
            one["metadata"]["labels"]["release"]
            for one in render(tmp_path / "overlays" / "onprem")
            if one["apiVersion"] == "monitoring.coreos.com/v1"
        ]
        assert found == [release] * 3
    with pytest.raises(ConfigurationError, match="prometheus_release is 'a b'"):
        ManifestOptions(prometheus_release="a b")
