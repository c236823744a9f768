"""What serves, and what keeps the rest from serving: read from workloads, pods and endpoints.

KServe's own ``Ready`` is not asked: it stays true all through a rolling update. What KServe makes
is judged as a rollout judges it, other workloads by the rules of ``kubectl rollout status``. A
Service serves when one of its endpoints is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import CONTROLLED, Overlay
from inference_graph.control.installer.snapshot import Snapshot
from inference_graph.control.manifests.names import Document
from inference_graph.control.rollout.objects import Reader
from inference_graph.control.rollout.serving import PARTS, graph_left, service_left
from inference_graph.control.workloads import available_replicas, incomplete, wanted_replicas

_SERVICE, _GRAPH = "serving.kserve.io/inferenceservice", "serving.kserve.io/inferencegraph"
_KEPT: dict[str, tuple[str, Callable[[Reader, Mapping[str, Any]], str]]] = {
    "InferenceService": (_SERVICE, service_left),
    "InferenceGraph": (_GRAPH, graph_left),
}
"""What KServe makes Deployments of: their label, and what is missing until they serve."""
_OF_SERVICE = "kubernetes.io/service-name"
_READ = "deployments.apps,statefulsets.apps,pods,services,endpointslices.discovery.k8s.io"
_KSERVE = "inferenceservices.serving.kserve.io,inferencegraphs.serving.kserve.io"
_MENDS = {
    "ErrImagePull": "make the image {image} pullable (on kind: `kind load docker-image {image}`)",
    "ImagePullBackOff": "make the image {image} pullable (on kind: `kind load docker-image "
    "{image}`)",
    "ErrImageNeverPull": "load the image {image} into the nodes",
    "CrashLoopBackOff": "see `kubectl -n {namespace} logs {pod} -c {container} --previous`",
    "CreateContainerConfigError": "see `kubectl -n {namespace} describe pod {pod}`",
}


@dataclass(frozen=True)
class Workload:
    """A Deployment or StatefulSet that the overlay leads to.

    Attributes:
        name: its kind and name; of one that KServe makes, what it is made for.
        ready: whether its rollout is complete.
        replicas: pods that are available, and those that are wanted.
        images: of its containers.
        reason: what it waits for, and what to do; empty when it is ready.
    """

    name: str
    ready: bool
    replicas: tuple[int, int]
    images: tuple[str, ...]
    reason: str = ""


@dataclass(frozen=True)
class Serving:
    """What was found in a namespace.

    Attributes:
        workloads: in the overlay's order.
        unreachable: Services without a ready endpoint.
    """

    workloads: tuple[Workload, ...]
    unreachable: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether everything serves."""
        return all(one.ready for one in self.workloads) and not self.unreachable

    @property
    def waiting(self) -> str:
        """What is waited for, in one line; empty when everything serves."""
        waiting = [f"{one.name}: {one.reason}" for one in self.workloads if not one.ready]
        waiting += [f"service {one}: no ready endpoint" for one in self.unreachable]
        more = f" (and {len(waiting) - 1} more)" if len(waiting) > 1 else ""
        return waiting[0] + more if waiting else ""


def look(kubectl: Kubectl, overlay: Overlay) -> Serving:
    """Ask the cluster once.

    Raises:
        Unavailable: and the rest, as ``Kubectl.run`` does.
    """
    return judge(overlay, look_at(kubectl, overlay))


def look_at(kubectl: Kubectl, overlay: Overlay) -> list[Document]:
    """What :func:`judge` judges, as it is on the cluster; raises as ``Kubectl.run`` does."""
    return kubectl.items(f"{_READ},{_KSERVE}" if overlay.named("InferenceService") else _READ)


def judge(overlay: Overlay, found: Sequence[Document]) -> Serving:
    """What serves of an overlay.

    Args:
        overlay: what should.
        found: Deployments, StatefulSets, pods, Services and EndpointSlices of the namespace, and
            KServe's objects.
    """
    workloads = list(_workloads(overlay, found))
    resting = [
        one["spec"]["selector"]["matchLabels"]
        for one in found
        if one["kind"] in CONTROLLED and not wanted_replicas(one)
    ]
    reachable = {
        one["metadata"].get("labels", {}).get(_OF_SERVICE)
        for one in found
        if one["kind"] == "EndpointSlice"
        # An absent condition means ready, by the API's definition.
        and any(
            (end.get("conditions") or {}).get("ready", True) is not False
            for end in one.get("endpoints") or ()
        )
    }
    unreachable = []
    for one in found:
        selector = one["spec"].get("selector") if one["kind"] == "Service" else None
        if not selector or one["metadata"]["name"] in reachable:
            continue
        if any(labels.items() <= selector.items() for labels in resting):
            continue  # it is not meant to serve
        unreachable.append(one["metadata"]["name"])
    return Serving(tuple(workloads), tuple(sorted(unreachable)))


def expected(overlay: Overlay) -> list[tuple[str, str, dict[str, str]]]:
    """Kind, name and labels of every workload; only labels of one that KServe names itself."""
    found: list[tuple[str, str, dict[str, str]]] = []
    for one in overlay.documents:
        name = one["metadata"]["name"]
        if one["kind"] in CONTROLLED:
            found.append((one["kind"], name, {}))
        elif one["kind"] == "InferenceService":
            found += [
                ("Deployment", f"{name}-{part}", {_SERVICE: name, "component": part})
                for part in PARTS
                if part in one["spec"]
            ]
        elif one["kind"] == "InferenceGraph":
            found.append(("Deployment", name, {_GRAPH: name}))
    return found


def _workloads(overlay: Overlay, found: Sequence[Document]) -> Iterator[Workload]:
    there = Snapshot(found)
    for one in overlay.documents:
        kind, name = one["kind"], one["metadata"]["name"]
        if kind not in (*CONTROLLED, *_KEPT):
            continue
        live = next((each for each in there.of(kind) if each["metadata"]["name"] == name), None)
        if live is None:
            yield Workload(f"{kind.lower()}/{name}", False, (0, 0), (), "it is not there yet")
        elif kind in CONTROLLED:
            selector = live["spec"]["selector"]["matchLabels"]
            reason = incomplete(live)
            yield _workload(live, reason, [live], there.having("Pod", selector), overlay)
        else:
            label, left = _KEPT[kind]
            labels = {label: name}
            made, pods = there.having("Deployment", labels), there.having("Pod", labels)
            yield _workload(live, left(there, live), made, pods, overlay)


def _workload(
    one: Document,
    reason: str,
    made: Sequence[Document],
    pods: Sequence[Document],
    overlay: Overlay,
) -> Workload:
    if reason:
        namespace = overlay.options.namespace
        reason = next(filter(None, (stuck(pod, namespace) for pod in pods)), reason)
    images = {
        container.get("image", "")
        for each in made
        for container in each["spec"]["template"]["spec"].get("containers", ())
    }
    return Workload(
        f"{one['kind'].lower()}/{one['metadata']['name']}",
        not reason,
        (sum(map(available_replicas, made)), sum(map(wanted_replicas, made))),
        tuple(sorted(images)),
        reason,
    )


def stuck(pod: Document, namespace: str) -> str:
    """What keeps a pod from running, and what to do; empty where nothing is known."""
    status, name = pod.get("status", {}), pod["metadata"]["name"]
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{name} finds no node: {_short(condition.get('message', ''))}"
    for one in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting: dict[str, Any] = one.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if reason in ("", "ContainerCreating", "PodInitializing"):
            continue
        mend = _MENDS.get(reason, "see `kubectl -n {namespace} describe pod {pod}`").format(
            image=one.get("image", ""), namespace=namespace, pod=name, container=one["name"]
        )
        return f"{name}: {reason}; {mend}"
    return ""


def _short(text: str) -> str:
    return " ".join(text.split())[:200].rstrip(".")


def available(one: Document) -> bool:
    """Whether a Deployment's rollout is complete."""
    return not incomplete(one)
