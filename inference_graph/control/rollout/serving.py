"""What a cluster serves, read from Deployments and endpoints: KServe's status does not show it.

In KServe 0.20 and 0.21 ``status.observedGeneration`` of an
InferenceService is the generation of a *Deployment*, of the component reconciled last, and
``Ready`` stays True all through a rolling update (``PropagateRawStatus`` in
``pkg/apis/serving/v1beta1/inference_service_status.go``). Of an InferenceGraph, ``Ready`` is set
once its Deployment has a condition ``Available``, whatever its value
(``pkg/controller/v1alpha1/inferencegraph/raw_ig.go``).

Every function returns what is missing as text; empty where nothing is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inference_graph.control.rollout.objects import Reader
from inference_graph.control.workloads import incomplete, wanted_replicas

Document = dict[str, Any]

_CONTAINER = "kserve-container"
_STORAGE = "internal.serving.kserve.io/storage-initializer-sourceuri"
"""Annotation of a predictor's pods: its ``storageUri``, for KServe's storage initializer."""
_SERVICE = "kubernetes.io/service-name"
"""Label of an EndpointSlice: whose it is."""
PARTS = ("predictor", "transformer")


def service_left(objects: Reader, service: Mapping[str, Any]) -> str:
    """What is missing until an InferenceService in Standard mode serves as specified."""
    for part in (one for one in PARTS if one in service["spec"]):
        name = f"{service['metadata']['name']}-{part}"
        deployment = objects.read("deployments", name)
        if deployment is None or not _is_made_of(deployment, service["spec"][part]):
            return f"KServe has not made the Deployment {name} of it yet"
        if left := _pods_left(objects, deployment, old_ones_too=False):
            return left
    return ""


def graph_left(objects: Reader, graph: Mapping[str, Any]) -> str:
    """What is missing until every router of an InferenceGraph works by its document.

    The nodes are an argument of the router, so a change replaces its pods. Those before answer by
    the nodes before until they have ended.
    """
    name = graph["metadata"]["name"]
    deployment = objects.read("deployments", name)
    if deployment is None or _deployed_nodes(deployment) != _plain_nodes(graph["spec"]["nodes"]):
        return f"KServe has not given the graph {name} its nodes yet"
    return _pods_left(objects, deployment, old_ones_too=True)


def revision_left(objects: Reader, service: Mapping[str, Any]) -> str:
    """What is missing until the newest revision in Knative mode serves as specified."""
    name = f"{service['metadata']['name']}-predictor"
    found = objects.read("services", name)
    if found is None or not _has(found["spec"]["template"], service["spec"]["predictor"]):
        return f"KServe has not made the Knative Service {name} of it yet"
    status = found.get("status", {})
    seen = status.get("observedGeneration", 0) >= found["metadata"].get("generation", 0)
    newest = status.get("latestCreatedRevisionName")
    ready = {one["type"]: one for one in status.get("conditions", ())}.get("Ready", {})
    if seen and newest == status.get("latestReadyRevisionName") and ready.get("status") == "True":
        return ""
    message = ready.get("message") or ready.get("reason") or "no reason is given"
    return f"the newest revision of {name} is not ready: {message}"


def _is_made_of(deployment: Mapping[str, Any], component: Mapping[str, Any]) -> bool:
    return _has(deployment["spec"]["template"], component)


def _has(template: Mapping[str, Any], component: Mapping[str, Any]) -> bool:
    """Whether pods are those of a predictor's or a transformer's document.

    KServe puts a runtime's arguments before a model's, and its own behind a transformer's.
    """
    model = component.get("model")
    wanted = (model or component["containers"][0]).get("args", ())
    (container,) = (one for one in template["spec"]["containers"] if one["name"] == _CONTAINER)
    given = list(container.get("args", ()))
    if any(given.count(word) < list(wanted).count(word) for word in wanted):
        return False
    if model is None:
        return True
    # An argument that was taken away, a digest for example, would still be there.
    digests = [word for word in given if word.startswith("--sha256=")]
    if digests != [word for word in wanted if word.startswith("--sha256=")]:
        return False
    annotations = template.get("metadata", {}).get("annotations", {})
    return bool(annotations.get(_STORAGE) == model.get("storageUri"))


def _pods_left(objects: Reader, deployment: Mapping[str, Any], old_ones_too: bool) -> str:
    """Its rollout, then whether those who call its Service reach its pods."""
    name, replicas = deployment["metadata"]["name"], wanted_replicas(deployment)
    if reason := incomplete(deployment):
        return f"{name}: {reason}"
    endpoints = _endpoints(objects.labelled("endpointslices", f"{_SERVICE}={name}"))
    ready = sum(1 for one in endpoints.values() if one == "ready")
    if ready < replicas:
        return f"of {replicas} pods of {name} the Service leads to {ready}"
    ending = sum(1 for one in endpoints.values() if one == "ending")
    if old_ones_too and ending:
        return f"{ending} pods before of {name} have not ended yet"
    return ""


def _endpoints(slices: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Pods by name: ready, ending, or neither; a pod with two addresses stands in two slices."""
    found = {}
    for one in (endpoint for part in slices for endpoint in part.get("endpoints") or ()):
        conditions = one.get("conditions", {})
        name = one.get("targetRef", {}).get("name") or one["addresses"][0]
        ready = conditions.get("ready") is not False
        found[name] = "ending" if conditions.get("terminating") else "ready" if ready else ""
    return found


def _deployed_nodes(deployment: Mapping[str, Any]) -> Document:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    words = list(container.get("args", ()))
    text = words[words.index("--graph-json") + 1] if "--graph-json" in words else "{}"
    return _plain_nodes(json.loads(text).get("nodes", {}))


def _plain_nodes(nodes: Mapping[str, Any]) -> Document:
    """Without the addresses that KServe puts beside the names of services, and without blanks."""

    def plain(step: Mapping[str, Any]) -> Document:
        skipped = ("serviceUrl",) if step.get("serviceName") else ()
        return {
            key: value
            for key, value in step.items()
            if key not in skipped and value is not None and value is not False and value != ""
        }

    return {
        name: {"routerType": node["routerType"], "steps": [plain(one) for one in node["steps"]]}
        for name, node in nodes.items()
    }
