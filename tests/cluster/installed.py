"""Our manifests in a namespace of a cluster: applied, looked at, changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from control_plane import Cluster, Document, wait
from kserve_controller import documents
from overlays import MANIFESTS

NAMESPACE = "gearshift"
ABSENT = {"BackendConfig", "FrontendConfig"}
"""Kinds of GKE's load balancer, whose CRDs no Go module has."""
_APIS = {
    "inferenceservices": "/apis/serving.kserve.io/v1beta1",
    "inferencegraphs": "/apis/serving.kserve.io/v1alpha1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "httproutes": "/apis/gateway.networking.k8s.io/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
}
_CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "gearshift-models"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "2Gi"}}},
}
"""The claim that docs/install.md has people make."""


def kustomized(cluster: Cluster, overlay: str) -> list[Document]:
    """An overlay as kustomize renders it, without the kinds that are absent."""
    rendered = documents(cluster.kubectl("kustomize", str(MANIFESTS / "overlays" / overlay)))
    return [one for one in rendered if one["kind"] not in ABSENT]


@dataclass(frozen=True)
class Installed:
    """A namespace with our objects in it.

    Attributes:
        cluster: where it is.
        namespace: its name.
        start_seconds: until pods serve, at most.
    """

    cluster: Cluster
    namespace: str = NAMESPACE
    start_seconds: float = 120.0

    def apply(self, rendered: Sequence[Mapping[str, Any]]) -> None:
        """Apply documents here, and wait until KServe reports that they serve."""
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}}
        mine = [deepcopy(dict(one)) for one in [*rendered, _CLAIM] if one["kind"] != "Namespace"]
        for one in mine:  # what lies in others' namespaces stays there
            if one["metadata"].get("namespace", NAMESPACE) == NAMESPACE:
                one["metadata"]["namespace"] = self.namespace
        self.cluster.apply([space])
        self.cluster.apply(mine, "--force-conflicts")
        for one in mine:
            name = one["metadata"]["name"]
            if one["kind"] == "InferenceService":
                self._wait(f"InferenceService {name}", lambda name=name: self.is_ready(name))
        for one in mine:
            name = one["metadata"]["name"]
            if one["kind"] == "InferenceGraph":
                self._wait(f"the pods of graph {name}", lambda name=name: self.is_complete(name))

    def _wait(self, what: str, done: Callable[[], bool]) -> None:
        wait(what, done, self.start_seconds)

    def delete(self) -> None:
        """Take the namespace away; returns when it is gone."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--timeout=120s")

    def path(self, plural: str, name: str = "") -> str:
        """Of an object, or of all of a kind."""
        api = _APIS.get(plural, "/api/v1")
        path = f"{api}/namespaces/{self.namespace}/{plural}"
        return f"{path}/{name}" if name else path

    def find(self, plural: str, name: str) -> Document | None:
        """An object; None where there is none."""
        return self.cluster.find(self.path(plural, name))

    def read(self, plural: str, name: str) -> Document:
        """An object that is there."""
        return self.cluster.ask(self.path(plural, name))

    def names(self, plural: str) -> set[str]:
        """The names of all of a kind."""
        return {one["metadata"]["name"] for one in self.cluster.ask(self.path(plural))["items"]}

    def change(self, plural: str, name: str, patch: Mapping[str, Any]) -> Document:
        """Merge a patch into an object."""
        return self.cluster.change(self.path(plural, name), patch)

    def is_ready(self, name: str) -> bool:
        """Whether KServe reports that an InferenceService is ready."""
        found = self.find("inferenceservices", name)
        return found is not None and condition(found, "Ready") == "True"

    def is_complete(self, name: str) -> bool:
        """Whether every pod of a Deployment is of its newest revision and available."""
        found = self.find("deployments", name)
        if found is None:
            return False
        status, wanted = found["status"], found["spec"]["replicas"]
        seen = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        keys = ("replicas", "updatedReplicas", "availableReplicas")
        return bool(seen and {status.get(key, 0) for key in keys} == {wanted})

    def graph_calls(self, name: str) -> set[str]:
        """The hosts that the pods of a graph are configured to call."""
        template = self.read("deployments", name)["spec"]["template"]
        (container,) = template["spec"]["containers"]
        words = str(container["args"]).split('"serviceUrl":"http://')[1:]
        return {word.partition("/")[0].partition(".")[0] for word in words}


def condition(found: Document, kind: str) -> str:
    """The status of a condition; empty where there is none."""
    conditions: Iterable[Document] = found.get("status", {}).get("conditions", ())
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")
