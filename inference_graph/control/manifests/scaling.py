"""How many of each there are: budgets for a drain, and autoscaling by load."""

from __future__ import annotations

from typing import Any

from foundation.metrics import REQUEST_SECONDS, WAITING
from inference_graph.contract import LADDER
from inference_graph.control.manifests.documents import TRANSFORMER
from inference_graph.control.manifests.flows import parties
from inference_graph.control.manifests.gateway import GATEWAY
from inference_graph.control.manifests.graphs import GRAPH, GRAPH_ACCOUNT
from inference_graph.control.manifests.parts import ROUTER, Document, ManifestOptions, component
from inference_graph.metric_names import STREAMS

MOST = 4
"""Replicas of a service at most, whatever the load says."""
UNDER_WAY_TARGET = 2
"""Requests under way per replica: one that is looked at, and one that waits for its turn."""
WAITING_TARGET = 2
"""Requests per replica that wait for a worker at this moment."""
STREAMS_TARGET = 24
"""Streams per gateway, of the 64 that one lets in."""

_UNCOUNTED: list[Document] = [{"op": "remove", "path": "/spec/replicas"}]
"""An autoscaler says how many there are; each apply would end the streams of those above."""


def disruption_budgets() -> list[Document]:
    """A drain takes one pod of each kind at a time.

    `maxUnavailable` rather than `minAvailable`: with a single replica the latter would stop every
    drain for ever.
    """
    known = parties()
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": known[name].labels}},
        }
        for name in (*LADDER, ROUTER, TRANSFORMER, GRAPH_ACCOUNT, GATEWAY)
    ]


def hpa_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``hpa``: by CPU, with what every cluster has. KServe writes its own HPAs."""
    spread = [
        {"op": "add", "path": f"/spec/{part}/{field}", "value": value}
        for part in ("predictor", "transformer")
        for field, value in (("maxReplicas", MOST), ("scaleMetric", "cpu"), ("scaleTarget", 70))
    ]
    graph = [
        {"op": "add", "path": "/spec/minReplicas", "value": 1},
        {"op": "add", "path": "/spec/maxReplicas", "value": MOST},
        {"op": "add", "path": "/spec/scaleMetric", "value": "cpu"},
        {"op": "add", "path": "/spec/scaleTarget", "value": 70},
    ]
    names = "|".join(LADDER)
    return {
        "components/hpa/gateway.yaml": [_gateway_hpa()],
        "components/hpa/stateful.yaml": [_UNCOUNTED],
        "components/hpa/detectors.yaml": [spread[:3]],
        "components/hpa/router.yaml": [spread],
        "components/hpa/graph.yaml": [graph],
        **component(
            "hpa",
            options,
            resources=["gateway.yaml"],
            patches=[
                {"path": "detectors.yaml", "target": {"kind": "InferenceService", "name": names}},
                {"path": "router.yaml", "target": {"kind": "InferenceService", "name": ROUTER}},
                {"path": "graph.yaml", "target": {"kind": "InferenceGraph", "name": GRAPH}},
                {"path": "stateful.yaml", "target": {"kind": "StatefulSet", "name": GATEWAY}},
            ],
        ),
    }


def _gateway_hpa() -> Document:
    target = {"type": "Utilization", "averageUtilization": 70}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": GATEWAY},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": GATEWAY},
            "minReplicas": 2,
            "maxReplicas": MOST,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
            # A stream stays where it began, so a gateway is let go slowly.
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
        },
    }


def keda_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """The component ``keda``: by what Prometheus knows of the rungs and the gateway.

    CPU says little of a rung on a GPU. By Little's law the seconds that requests took per second
    are the requests under way, whatever they run on; with those that wait now, that is the load.
    """
    external = [
        {
            "op": "add",
            "path": "/metadata/annotations/serving.kserve.io~1autoscalerClass",
            "value": "external",
        }
    ]
    names = "|".join(LADDER)
    documents = [
        *(
            _scaled(
                rung,
                {"name": f"{rung}-predictor"},
                1,
                {under_way_query(rung): UNDER_WAY_TARGET, waiting_query(rung): WAITING_TARGET},
                options,
            )
            for rung in LADDER
        ),
        _scaled(
            GATEWAY,
            {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": GATEWAY},
            2,
            {f"sum({STREAMS.name})": STREAMS_TARGET},
            options,
        ),
    ]
    return {
        "components/keda/scaledobjects.yaml": documents,
        "components/keda/detectors.yaml": [external],
        "components/keda/stateful.yaml": [_UNCOUNTED],
        **component(
            "keda",
            options,
            resources=["scaledobjects.yaml"],
            patches=[
                {"path": "detectors.yaml", "target": {"kind": "InferenceService", "name": names}},
                {"path": "stateful.yaml", "target": {"kind": "StatefulSet", "name": GATEWAY}},
            ],
        ),
    }


def under_way_query(rung: str) -> str:
    """PromQL: requests that a rung has under way, as a mean over the last minute."""
    return f'sum(rate({REQUEST_SECONDS.name}_sum{{model="{rung}"}}[1m]))'


def waiting_query(rung: str) -> str:
    """PromQL: requests that wait for a worker of a rung."""
    return f'sum({WAITING["detector"].name}{{model="{rung}"}})'


def _scaled(
    name: str, target: Document, least: int, queries: dict[str, float], options: ManifestOptions
) -> Document:
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": target,
            "minReplicaCount": least,
            "maxReplicaCount": MOST,
            "pollingInterval": 15,
            "cooldownPeriod": 600,
            # Without figures the number stays in the middle rather than falling to the least.
            "fallback": {"failureThreshold": 4, "replicas": 2},
            "triggers": [
                {
                    "type": "prometheus",
                    "metricType": "AverageValue",
                    "metadata": {
                        "serverAddress": options.prometheus_url,
                        "query": query,
                        "threshold": str(threshold),
                    },
                }
                for query, threshold in queries.items()
            ],
        },
    }
