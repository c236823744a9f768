"""What a cluster's controllers and nodes make of the installer's objects, all of it at once.

Deployments and StatefulSets come to the status of a complete rollout (fields of
``kubectl rollout status``); KServe makes a Deployment and a Service ``<name>-<component>`` with the
labels ``serving.kserve.io/inferenceservice`` and ``component`` for each part of an
InferenceService, and both under the graph's name with ``serving.kserve.io/inferencegraph`` for an
InferenceGraph (``raw_ig.go``, KServe 0.20); a Service with a selector gets an EndpointSlice.
"""

from __future__ import annotations

import json
from typing import Any

from api_server import ApiServer, Document

ANSWERS = {
    "gateway": {"rung": "nano", "detections": 3, "milliseconds": 41.2},
    "graph": {"rung": "small", "detections": 3, "milliseconds": 95.0},
}


class Controllers:
    """All of them.

    Attributes:
        stuck: names of workloads whose pods cannot pull their image.
        policies: whether NetworkPolicies are enforced; None where pods of the probe stay pending.
        unpulled: images that cannot be pulled.
        trial: phase and log of the pod that sends a frame.
    """

    def __init__(self) -> None:
        self.stuck: set[str] = set()
        self.policies: bool | None = True
        self.unpulled: set[str] = set()
        self.trial: tuple[str, str] = ("Succeeded", json.dumps(ANSWERS))

    def __call__(self, server: ApiServer, resource: str, document: Document, gone: bool) -> None:
        name, place = document["metadata"]["name"], document["metadata"].get("namespace", "")
        if gone:
            self._gone(server, resource, name, place)
        elif resource in ("deployments.apps", "statefulsets.apps"):
            self._workload(server, resource, document)
        elif resource == "inferenceservices.serving.kserve.io":
            for part in ("predictor", "transformer"):
                if part in document["spec"]:
                    labels = {"serving.kserve.io/inferenceservice": name, "component": part}
                    self._served(server, place, f"{name}-{part}", labels, _template(document, part))
        elif resource == "inferencegraphs.serving.kserve.io":
            graph = json.dumps({"nodes": document["spec"]["nodes"]})
            container = {"name": name, "image": "router", "args": ["--graph-json", graph]}
            labels = {"serving.kserve.io/inferencegraph": name}
            self._served(server, place, name, labels, {"spec": {"containers": [container]}})
        elif resource == "services" and document["spec"].get("selector"):
            self._slice(server, document)
        elif resource == "pods":
            self._pod(server, document)

    def _gone(self, server: ApiServer, resource: str, name: str, place: str) -> None:
        kind = {
            "inferenceservices.serving.kserve.io": "serving.kserve.io/inferenceservice",
            "inferencegraphs.serving.kserve.io": "serving.kserve.io/inferencegraph",
        }.get(resource)
        services = {name} if resource == "services" else set()
        for key, one in list(server.objects.items()):
            if kind and key[1] == place and one["metadata"].get("labels", {}).get(kind) == name:
                services |= {key[2]} if key[0] == "services" else set()
                server.objects.pop(key, None)
        for one in services:
            server.objects.pop(("endpointslices.discovery.k8s.io", place, f"{one}-abcde"), None)

    def _workload(self, server: ApiServer, resource: str, document: Document) -> None:
        name, spec = document["metadata"]["name"], document["spec"]
        defaults: Document = {"replicas": 1}
        if resource == "statefulsets.apps":
            defaults["updateStrategy"] = {"type": "RollingUpdate"}
        document = {**document, "spec": {**defaults, **spec}}
        document["metadata"]["generation"] = server.put(resource, document)["metadata"][
            "generation"
        ]
        replicas = document["spec"]["replicas"]
        ready = 0 if name in self.stuck else replicas
        status: Document = {
            "observedGeneration": document["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        if resource == "statefulsets.apps":
            status |= {"currentRevision": f"{name}-1", "updateRevision": f"{name}-1"}
            for claim in spec.get("volumeClaimTemplates", ()):
                made = {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "spec": claim["spec"],
                    "metadata": {
                        "name": f"{claim['metadata']['name']}-{name}-0",
                        "namespace": document["metadata"]["namespace"],
                        "labels": dict(spec["selector"]["matchLabels"]),
                    },
                }
                server.put("persistentvolumeclaims", made)
        server.put(resource, {**document, "status": status})
        if name in self.stuck:
            waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}
            image = spec["template"]["spec"]["containers"][0]["image"]
            server.put(
                "pods",
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": f"{name}-0",
                        "namespace": document["metadata"]["namespace"],
                        "labels": spec["selector"]["matchLabels"],
                    },
                    "spec": {},
                    "status": {
                        "phase": "Pending",
                        "containerStatuses": [
                            {"name": "main", "image": image, "state": {"waiting": waiting}}
                        ],
                    },
                },
            )

    def _served(
        self, server: ApiServer, place: str, name: str, labels: dict[str, str], template: Document
    ) -> None:
        metadata = {"name": name, "namespace": place, "labels": labels}
        selector = {"app": f"isvc.{name}"}
        metadata_of_pods = {**template.get("metadata", {}), "labels": {**labels, **selector}}
        pods = {**template, "metadata": metadata_of_pods}
        deployment = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 1, "selector": {"matchLabels": selector}, "template": pods},
        }
        self._workload(server, "deployments.apps", server.put("deployments.apps", deployment))
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": selector},
        }
        self._slice(server, server.put("services", service))

    def _slice(self, server: ApiServer, service: Document) -> None:
        name, place = service["metadata"]["name"], service["metadata"]["namespace"]
        labels = {"kubernetes.io/service-name": name}
        server.put(
            "endpointslices.discovery.k8s.io",
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{name}-abcde", "namespace": place, "labels": labels},
                "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}],
            },
        )

    def _pod(self, server: ApiServer, document: Document) -> None:
        name = document["metadata"]["name"]
        status: Document = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        if name == "gearshift-trial":
            phase, text = self.trial
            status, server.logs[name] = {"phase": phase}, text
        elif name == "client" and self.policies is None:
            status = {"phase": "Pending"}
        elif name == "client":
            code = 0 if self.policies else 10
            terminated = {"state": {"terminated": {"exitCode": code}}}
            status = {
                "phase": "Succeeded" if code == 0 else "Failed",
                "containerStatuses": [{"name": "probe", **terminated}],
            }
        elif name == "images":
            status = {
                "phase": "Pending",
                "containerStatuses": [self._pulled(one) for one in document["spec"]["containers"]],
            }
        server.put("pods", {**document, "status": status})

    def _pulled(self, container: Document) -> Document:
        image = container["image"]
        state: dict[str, Any] = {"terminated": {"exitCode": 0}}
        if image in self.unpulled:
            state = {"waiting": {"reason": "ErrImagePull"}}
        return {
            "name": container["name"],
            "image": image,
            "state": state,
            "imageID": "" if image in self.unpulled else "sha256:1",
        }


def _template(service: Document, part: str) -> Document:
    """What KServe makes of a component for its pods, as far as a rollout looks at it."""
    spec = service["spec"][part]
    model = spec.get("model")
    arguments = (model or spec["containers"][0]).get("args", [])
    container = {"name": "kserve-container", "image": "gearshift:0.1.0", "args": arguments}
    source = "internal.serving.kserve.io/storage-initializer-sourceuri"
    annotations = {source: model["storageUri"]} if model else {}
    return {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}


def equip(server: ApiServer, kserve: str = "v0.20.0", mode: str = "Standard") -> None:
    """What a cluster for Gearshift has: KServe, cert-manager, a node, a default StorageClass."""
    for name, image in (
        ("kserve-controller-manager", f"docker.io/kserve/kserve-controller:{kserve}"),
        ("cert-manager", "quay.io/jetstack/cert-manager-controller:v1.17.0"),
    ):
        place = name.removesuffix("-controller-manager")
        server.put(
            "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": place}}
        )
        server.put(
            "deployments.apps",
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "namespace": place},
                "spec": {
                    "replicas": 1,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {"spec": {"containers": [{"name": "manager", "image": image}]}},
                },
                "status": {
                    "observedGeneration": 9,
                    "replicas": 1,
                    "updatedReplicas": 1,
                    "availableReplicas": 1,
                },
            },
        )
    server.put(
        "configmaps",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "inferenceservice-config", "namespace": "kserve"},
            "data": {"deploy": json.dumps({"defaultDeploymentMode": mode})},
        },
    )
    server.put(
        "storageclasses.storage.k8s.io",
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {
                "name": "standard",
                "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
            },
            "provisioner": "rancher.io/local-path",
        },
    )
    server.put(
        "nodes",
        {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node-1", "labels": {}},
            "spec": {},
            "status": {"allocatable": {"cpu": "8"}},
        },
    )
    path = "/api/v1/namespaces/gearshift/services/gateway:http/proxy/readyz"
    server.proxied[path] = (200, '{"status": "ready"}')
