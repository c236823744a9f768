"""The rules, and what is scraped, as the Prometheus operator takes them: a kustomize component.

The names of pods' labels are KServe's, those of ports the manifests' own.
"""

from __future__ import annotations

import re
from typing import Any

from inference_graph.control.manifests.gateway import GATEWAY
from inference_graph.control.manifests.network import from_namespace
from inference_graph.control.manifests.parts import (
    HTTP_PORT,
    MODEL_LABEL,
    ROLLOUT_LABEL,
    Document,
    ManifestOptions,
)
from inference_graph.control.monitoring.alerts import GATEWAY_JOB, SERVICES_JOB
from inference_graph.control.monitoring.objectives import Objectives
from inference_graph.control.monitoring.rules import rule_groups
from inference_graph.metric_names import CANARY, STABLE, TRACK

SCRAPE_SECRET = "gearshift-scrape"
"""Secret with a token of the role watch, under the key ``token``."""
_POD_LABEL = "__meta_kubernetes_pod_label_"
_OPERATOR = "monitoring.coreos.com/v1"


def monitoring_files(options: ManifestOptions, objectives: Objectives) -> dict[str, list[Any]]:
    """Documents by file name below the folder of the manifests.

    Args:
        options: what differs between clusters.
        objectives: when somebody is told.
    """
    documents = {
        "monitors.yaml": [
            _gateway_monitor(options, objectives),
            _services_monitor(options, objectives),
        ],
        "rules.yaml": [prometheus_rule(options, objectives)],
        "network.yaml": [
            from_namespace(
                "scrape-services",
                {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]},
                options.prometheus_namespace,
                (HTTP_PORT,),
            )
        ],
    }
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "namespace": options.namespace,
        "resources": list(documents),
    }
    return {
        f"monitoring/{name}": found
        for name, found in (*documents.items(), ("kustomization.yaml", [kustomization]))
    }


def prometheus_rule(options: ManifestOptions, objectives: Objectives) -> Document:
    """Recording rules and alerts."""
    return _document("PrometheusRule", "gearshift", options, rule_groups(objectives))


def _gateway_monitor(options: ManifestOptions, objectives: Objectives) -> Document:
    endpoint = {
        "port": "http",
        "path": "/metrics",
        "interval": f"{objectives.scrape_seconds}s",
        "authorization": {
            "type": "Bearer",
            "credentials": {"name": SCRAPE_SECRET, "key": "token"},
        },
        "relabelings": [_constant("job", GATEWAY_JOB)],
    }
    spec = {"selector": {"matchLabels": {"app": GATEWAY}}, "endpoints": [endpoint]}
    return _document("ServiceMonitor", GATEWAY_JOB, options, spec)


def _services_monitor(options: ManifestOptions, objectives: Objectives) -> Document:
    endpoint = {
        "port": "http1",
        "path": "/metrics",
        "interval": f"{objectives.scrape_seconds}s",
        "relabelings": [
            _constant("job", SERVICES_JOB),
            # A canary is told apart by its track, not by its service's name.
            _copied("service", _meta(MODEL_LABEL)),
            _copied("component", "component"),
            _constant(TRACK, STABLE),
            {
                "action": "replace",
                "sourceLabels": [_POD_LABEL + _meta(ROLLOUT_LABEL)],
                "regex": ".+",
                "targetLabel": TRACK,
                "replacement": CANARY,
            },
        ],
    }
    spec = {
        "selector": {"matchExpressions": [{"key": MODEL_LABEL, "operator": "Exists"}]},
        "podMetricsEndpoints": [endpoint],
    }
    return _document("PodMonitor", SERVICES_JOB, options, spec)


def _document(kind: str, name: str, options: ManifestOptions, spec: Document) -> Document:
    labels = {"app.kubernetes.io/part-of": "gearshift"}
    if options.prometheus_release:
        labels["release"] = options.prometheus_release
    return {
        "apiVersion": _OPERATOR,
        "kind": kind,
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def _constant(label: str, value: str) -> Document:
    return {"action": "replace", "targetLabel": label, "replacement": value}


def _copied(label: str, pod_label: str) -> Document:
    return {
        "action": "replace",
        "sourceLabels": [_POD_LABEL + pod_label],
        "targetLabel": label,
    }


def _meta(label: str) -> str:
    """A label's name as Prometheus spells it."""
    return re.sub(r"\W", "_", label)
