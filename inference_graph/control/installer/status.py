"""What an installation is: what runs, which version, weights and canary, and whether it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from foundation.errors import Forbidden, GearshiftError, NotFound
from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.serving import Serving, look
from inference_graph.control.installer.steps import ANSWERED, annotation
from inference_graph.control.manifests.names import (
    CANARY_SUFFIX,
    GATEWAY,
    GRAPH,
    MODEL_LABEL,
    POLICY_FILE,
    ROUTER,
    Document,
)
from inference_graph.control.rollout.splitter import weight_in
from inference_graph.tasks.rung import ENGINE_SUFFIX

_SERVICES = "inferenceservices.serving.kserve.io"
_GRAPHS = "inferencegraphs.serving.kserve.io"


@dataclass(frozen=True)
class CanaryStatus:
    """A new revision beside the one in use.

    Attributes:
        storage: where its weights are.
        percent: its share of the traffic; None where it is not known.
    """

    storage: str
    percent: int | None


@dataclass(frozen=True)
class Model:
    """A rung, or the policy behind the router.

    Attributes:
        name: of its InferenceService; the gateway where there is none.
        storage: where its weights are.
        sha256: their digest, where they lie on a claim that was filled by an installation.
        canary: None if there is none.
    """

    name: str
    storage: str
    sha256: str
    canary: CanaryStatus | None


@dataclass(frozen=True)
class ClusterStatus:
    """What was found.

    Attributes:
        namespace: where.
        answered: target and version that have answered a frame when they were installed; empty
            if none has.
        versions: tags of the images that run.
        serving: workloads and Services.
        models: the rungs, and the policy.
        reachable: whether the gateway answers through the API server; None where that is
            unknown.
        says: what it answered, or why it did not.
    """

    namespace: str
    answered: str
    versions: tuple[str, ...]
    serving: Serving
    models: tuple[Model, ...]
    reachable: bool | None
    says: str

    @property
    def well(self) -> bool:
        """Whether everything serves, and nothing is known to be unreachable."""
        return self.serving.complete and self.reachable is not False


def read_status(kubectl: Kubectl, overlay: Overlay) -> ClusterStatus:
    """Ask the cluster; nothing is changed there.

    Raises:
        GearshiftError: as ``Kubectl.run`` does.
    """
    serving = look(kubectl, overlay)
    namespace = kubectl.read("namespace", kubectl.namespace)
    images = [image for one in serving.workloads for image in one.images]
    mark = (namespace.get("metadata", {}).get("annotations") or {}).get(ANSWERED, "")
    reachable, says = _reachable(kubectl)
    return ClusterStatus(
        kubectl.namespace,
        " ".join(mark.split("_")[:2]),
        tuple(sorted({_tag(one) for one in images if overlay.options.image in one})),
        serving,
        tuple(_models(kubectl, overlay)),
        reachable,
        says,
    )


def _tag(image: str) -> str:
    return image.partition("@")[0].rpartition(":")[2]


def _models(kubectl: Kubectl, overlay: Overlay) -> list[Model]:
    try:
        services = kubectl.items(_SERVICES)
        graph = kubectl.read(_GRAPHS, GRAPH)
    except NotFound:
        services, graph = [], {}
    claims = {
        one["metadata"]["name"]: one["metadata"].get("annotations") or {}
        for one in kubectl.items("pvc")
    }
    named = {one["metadata"]["name"]: one for one in services}
    found = []
    for name in overlay.named("InferenceService"):
        if name not in named:
            continue
        storage = _storage(named[name])
        canary = _canary(name, named, graph)
        found.append(Model(name, storage, _digest(name, storage, claims), canary))
    if not overlay.named("InferenceService"):
        claim = overlay.options.claim
        policy = f"pvc://{claim}/policy"
        found.append(Model(GATEWAY, policy, _digest(ROUTER, policy, claims), None))
    return found


def _storage(service: Document) -> str:
    return str(service["spec"]["predictor"].get("model", {}).get("storageUri", ""))


def _digest(name: str, storage: str, claims: dict[str, dict[str, str]]) -> str:
    claim, _, folder = storage.removeprefix("pvc://").partition("/")
    files = (POLICY_FILE,) if name == ROUTER else (f"{name}.onnx", f"{name}{ENGINE_SUFFIX}")
    known = claims.get(claim, {})
    return next(
        (known[at] for file in files if (at := annotation(f"{folder}/{file}")) in known), ""
    )


def _canary(name: str, services: dict[str, Document], graph: Document) -> CanaryStatus | None:
    listed: Sequence[Document] = services[name]["spec"].get("canary") or ()
    for one in listed:
        predictor = one.get("predictor", {})
        storage = str(predictor.get("model", {}).get("storageUri", ""))
        return CanaryStatus(storage, one.get("trafficPercent"))
    beside = services.get(name + CANARY_SUFFIX)
    if beside is None or beside["metadata"].get("labels", {}).get(MODEL_LABEL) != name:
        return None
    return CanaryStatus(_storage(beside), weight_in(graph, name) if graph else None)


def _reachable(kubectl: Kubectl) -> tuple[bool | None, str]:
    """Whether the gateway is ready, asked through the API server's proxy."""
    path = f"/api/v1/namespaces/{kubectl.namespace}/services/{GATEWAY}:http/proxy/readyz"
    try:
        output = kubectl.run(("get", "--raw", path)).out
    except Forbidden as error:
        return None, str(error)
    except GearshiftError as error:
        return False, str(error)
    try:
        content = json.loads(output)
    except ValueError:
        return True, " ".join(output.split())[:100]
    return True, str(content.get("status", "ready")) if isinstance(content, dict) else "ready"
