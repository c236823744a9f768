"""What KServe and Kubernetes do with the objects that a rollout writes, stated case by case.

A step is one reconciliation of everything. Sources are KServe 0.20.0's own files, below ``pkg/``,
and what its controller, router and agent did over real pods:

*   A component of an InferenceService in Standard mode is a Deployment ``<service>-<part>``.
    Arguments of a model stand behind its runtime's, ``storageUri`` is an annotation of the pods
    (``controller/v1beta1/inferenceservice/components/predictor.go``), and a transformer is given
    ``--predictor_host``. Annotations of the InferenceService stand on the pods as well, so a
    change of one replaces them.
*   Replicas are an autoscaler's: KServe leaves those of a Deployment alone unless the class is
    ``none``; its HPA raises them to ``minReplicas``, and with the class ``external`` no
    controller does (``.../reconcilers/deployment``, ``.../reconcilers/hpa``).
*   ``status.observedGeneration`` is that of the Deployment which was reconciled last, ``Ready``
    follows the condition Available, which stays True while a pod of before serves
    (``apis/serving/v1beta1/inference_service_status.go``, ``PropagateRawStatus``).
*   An InferenceGraph is a Deployment of its own name, its nodes are an argument with the addresses
    of services filled in, so a change replaces its pods. It is reconciled when the graph or its
    Deployment changes, never for an InferenceService (``controller/v1alpha1/inferencegraph``); with
    a service that is not there it keeps what it had.
*   A Deployment rolls with one pod more and none less (25 % of one, rounded up and down); a pod
    that ends stays in the EndpointSlice, not ready, until it is gone; graph routers and agents go
    on answering for 30 s after SIGTERM (``cmd/router/main.go``, ``cmd/agent/main.go``).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

ENDING_STEPS = 3
_STORAGE = "internal.serving.kserve.io/storage-initializer-sourceuri"
_MODE = "serving.kserve.io/deploymentMode"
_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_RUNTIME_ARGUMENTS = ["--model_name={}", "--http_port=8080", "--grpc_port=8081"]


@dataclass
class Pod:
    """A pod of a Deployment, as its template was."""

    name: str
    template: Document
    ready: bool = False
    ending: int = 0


@dataclass
class Deployment:
    """A Deployment and its pods."""

    name: str
    template: Document
    replicas: int = 1
    generation: int = 1
    observed: int = 0
    pods: list[Pod] = field(default_factory=list)
    made: int = 0

    def give(self, template: Document) -> None:
        """Another template; the same is no change."""
        if template != self.template:
            self.template, self.generation = template, self.generation + 1

    def scale(self, replicas: int) -> None:
        """Other replicas; likewise."""
        if replicas != self.replicas:
            self.replicas, self.generation = replicas, self.generation + 1

    @property
    def new(self) -> list[Pod]:
        return [one for one in self.pods if one.template == self.template and not one.ending]

    @property
    def old(self) -> list[Pod]:
        return [one for one in self.pods if one.template != self.template and not one.ending]

    def step(self, starts: Callable[[str, Document], bool]) -> None:
        """What the controllers do next; one thing at a time."""
        for pod in [one for one in self.pods if one.ending]:
            pod.ending += 1
            if pod.ending > ENDING_STEPS:
                self.pods.remove(pod)
        if self.observed < self.generation:
            self.observed = self.generation
        elif len(self.new) < self.replicas and len(self.new + self.old) <= self.replicas:
            self.made += 1
            self.pods.append(Pod(f"{self.name}-{self.made}", self.template))
        elif waiting := [one for one in self.new if not one.ready]:
            waiting[0].ready = starts(self.name, waiting[0].template)
        elif self.old:
            self._end(self.old[0])
        elif len(self.new) > self.replicas:
            self._end(self.new[-1])

    def _end(self, pod: Pod) -> None:
        pod.ready, pod.ending = False, 1

    def document(self) -> Document:
        """As the API shows it."""
        kept = self.new + self.old
        ready = sum(one.ready for one in kept)
        available = {"type": "Available", "status": str(ready >= min(self.replicas, 1))}
        return {
            "metadata": {"name": self.name, "generation": self.generation},
            "spec": {"replicas": self.replicas, "template": copy.deepcopy(self.template)},
            "status": {
                "observedGeneration": self.observed,
                "replicas": len(kept),
                "updatedReplicas": len(self.new),
                "availableReplicas": ready,
                "unavailableReplicas": len(kept) - ready,
                "conditions": [available],
            },
        }

    def endpoints(self) -> Document:
        """Its Service's EndpointSlice."""
        return {
            "endpoints": [
                {
                    "addresses": [f"10.0.0.{place}"],
                    "targetRef": {"kind": "Pod", "name": one.name},
                    "conditions": {
                        "ready": one.ready,
                        "serving": True,
                        "terminating": bool(one.ending),
                    },
                }
                for place, one in enumerate(self.pods)
            ]
        }


class KServe:
    """KServe's and Kubernetes' controllers over the objects of a namespace.

    Attributes:
        deployments: by name.
        starts: whether a pod of a Deployment with a template becomes ready.
        lost: requests that would have got no answer, or that of an unwanted revision.
    """

    def __init__(self, objects: dict[tuple[str, str], Document]) -> None:
        self._objects = objects
        self.deployments: dict[str, Deployment] = {}
        self.starts: Callable[[str, Document], bool] = lambda name, template: True
        self.lost: list[str] = []
        self._leaving: list[Deployment] = []

    def step(self) -> None:
        """Reconcile everything once, then see who would lose a request."""
        names = {name for name, _ in self._components()}
        graphs = [one for (plural, _), one in self._objects.items() if plural == "inferencegraphs"]
        for name in set(self.deployments) - names - {one["metadata"]["name"] for one in graphs}:
            gone = self.deployments.pop(name)
            for pod in gone.pods:
                pod.ready, pod.ending = False, max(pod.ending, 1)
            self._leaving.append(gone)
        for name, template in self._components():
            self._put(name, template)
        for service in self._services():
            self._autoscale(service)
        for graph in graphs:
            if (template := self._graph_template(graph)) is not None:
                self._put(graph["metadata"]["name"], template)
        for one in (*self.deployments.values(), *self._leaving):
            one.step(self.starts)
        for service in self._services():
            service["status"] = self._status(service)
        self._look(graphs)

    def settle(self) -> None:
        """Until nothing changes any more."""
        for _ in range(40):
            self.step()

    def knative(self, name: str) -> Document | None:
        """The Knative Service of a predictor, whose newest revision is ready or is not."""
        service = self._objects.get(("inferenceservices", name.removesuffix("-predictor")))
        if service is None:
            return None
        template = _template(service, "predictor", service["spec"]["predictor"])
        well = self.starts(name, template)
        return {
            "metadata": {"name": name, "generation": 3},
            "spec": {"template": template},
            "status": {
                "observedGeneration": 3,
                "latestCreatedRevisionName": f"{name}-00002",
                "latestReadyRevisionName": f"{name}-0000{2 if well else 1}",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def _services(self) -> list[Document]:
        """Those in Standard mode."""
        return [
            one
            for (plural, _), one in self._objects.items()
            if plural == "inferenceservices" and one["metadata"]["annotations"][_MODE] != "Knative"
        ]

    def _components(self) -> Iterator[tuple[str, Document]]:
        for service in self._services():
            name = service["metadata"]["name"]
            for part, component in service["spec"].items():
                yield f"{name}-{part}", _template(service, part, component)

    def _put(self, name: str, template: Document) -> None:
        if name not in self.deployments:
            self.deployments[name] = Deployment(name, template)
        self.deployments[name].give(template)

    def _autoscale(self, service: Document) -> None:
        if service["metadata"].get("annotations", {}).get(_AUTOSCALER) == "external":
            return
        for part, component in service["spec"].items():
            deployment = self.deployments[f"{service['metadata']['name']}-{part}"]
            least = component.get("minReplicas", 1)
            most = max(component.get("maxReplicas", 0), least)
            deployment.scale(min(max(deployment.replicas, least), most))

    def _graph_template(self, graph: Document) -> Document | None:
        nodes = copy.deepcopy(graph["spec"]["nodes"])
        for node in nodes.values():
            for step in node["steps"]:
                if name := step.get("serviceName"):
                    service = self._objects.get(("inferenceservices", name))
                    if service is None or "address" not in service.get("status", {}):
                        return None
                    step["serviceUrl"] = f"{service['status']['address']['url']}/v1/models/{name}"
        text = json.dumps({"nodes": nodes, "resources": {}})
        container = {"name": graph["metadata"]["name"], "args": ["--graph-json", text]}
        return {"metadata": {}, "spec": {"containers": [container]}}

    def _status(self, service: Document) -> Document:
        name = service["metadata"]["name"]
        parts = [self.deployments[f"{name}-{part}"].document() for part in service["spec"]]
        well = all(
            one["status"]["conditions"][0]["status"] == "True" and one["status"]["replicas"]
            for one in parts
        )
        status: Document = {
            "observedGeneration": parts[-1]["status"]["observedGeneration"],
            "conditions": [{"type": "Ready", "status": str(well)}],
        }
        entrance = "transformer" if "transformer" in service["spec"] else "predictor"
        before = service.get("status", {})
        if well or "address" in before:
            status["address"] = {"url": f"http://{name}-{entrance}.gearshift.svc.cluster.local"}
        return status

    def _look(self, graphs: list[Document]) -> None:
        """Every router that answers must lead to services with a pod that is ready."""
        for graph in graphs:
            deployment = self.deployments.get(graph["metadata"]["name"])
            for router in deployment.pods if deployment else ():
                if not router.ready and not router.ending:
                    continue
                text = router.template["spec"]["containers"][0]["args"][1]
                for target in _targets(json.loads(text)["nodes"]):
                    behind = self.deployments.get(target)
                    if behind is None or not any(one.ready for one in behind.pods):
                        self.lost.append(f"{router.name} asks {target}, where no pod is ready")


def _targets(nodes: Document) -> Iterator[str]:
    """Deployments behind the services that a router may ask."""
    for node in nodes.values():
        for step in node["steps"]:
            if "serviceUrl" in step and step.get("weight") != 0:
                yield step["serviceUrl"].removeprefix("http://").partition(".")[0]


def _template(service: Document, part: str, component: Document) -> Document:
    name = service["metadata"]["name"]
    annotations = dict(service["metadata"].get("annotations", {}))
    model = component.get("model")
    if model is None:
        host = f"{name}-predictor.gearshift"
        arguments = [*component["containers"][0]["args"], "--predictor_host", host]
    else:
        arguments = [word.format(name) for word in _RUNTIME_ARGUMENTS] + model["args"]
        annotations[_STORAGE] = model["storageUri"]
    return {
        "metadata": {"annotations": annotations},
        "spec": {"containers": [{"name": "kserve-container", "args": arguments}]},
    }
