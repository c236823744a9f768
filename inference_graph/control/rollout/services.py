"""InferenceServices as a rollout writes them: documents in, documents out.

In Standard mode the canary is a service of its own; in Knative mode the service itself takes the
new revision with a share of the traffic. What was served before stands in annotations of the
canary, in Knative mode of the service: KServe copies annotations to the pods, so writing or
removing one later would replace them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from inference_graph.control.manifests.names import CANARY_SUFFIX, ROLLOUT_LABEL
from inference_graph.control.manifests.promoted import DIGEST
from inference_graph.control.rollout.state import RolloutState

Document = dict[str, Any]

MODE = "serving.kserve.io/deploymentMode"
_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_PERCENT = "canaryTrafficPercent"
_UNKEPT = {
    "creationTimestamp",
    "finalizers",
    "generation",
    "managedFields",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
}
"""Metadata of one object that a copy of it does not have."""
_BEFORE, _BEFORE_DIGEST = "gearshift/storage-before", "gearshift/sha256-before"
"""Annotations: ``storageUri`` and digest (empty for none) to which an aborted rollout returns."""
_OF_OTHERS = (
    "kubectl.kubernetes.io/",
    "argocd.argoproj.io/",
    "kustomize.toolkit.fluxcd.io/",
    "helm.toolkit.fluxcd.io/",
)
"""Labels and annotations by which tools know what they applied; a canary is nothing of theirs."""
_INSTANCE = "app.kubernetes.io/instance"
"""The label that Argo CD uses for this by default."""


def is_knative(service: Mapping[str, Any]) -> bool:
    """Whether its revisions share the traffic by themselves."""
    mode = service["metadata"].get("annotations", {}).get(MODE, "")
    return mode in ("Knative", "Serverless")


def canary_service(stable: Mapping[str, Any], rollout: RolloutState) -> Document:
    """An InferenceService like the stable one, with another name and the new revision."""
    made = copy.deepcopy(dict(stable))
    made.pop("status", None)
    metadata = {key: value for key, value in made["metadata"].items() if key not in _UNKEPT}
    labels = {**_own(metadata.get("labels", {})), ROLLOUT_LABEL: rollout.rollout}
    annotations = _own(metadata.get("annotations", {}))
    name = metadata["name"]
    canary = name + CANARY_SUFFIX
    made["metadata"] = {**metadata, "name": canary, "labels": labels, "annotations": annotations}
    for container in made["spec"].get("transformer", {}).get("containers", ()):
        # A transformer's options name its model, after its service, and its predictor.
        container["args"] = [
            *(
                f"--model_name={canary}" if word == f"--model_name={name}" else word
                for word in container.get("args", ())
            ),
            f"--predictor_name={canary}",
        ]
    _note_storage(made)
    return with_storage(made, rollout.source, rollout.sha256)


def is_canary_of(service: Mapping[str, Any], rollout: RolloutState) -> bool:
    """Whether an InferenceService was made by this rollout."""
    return bool(service["metadata"].get("labels", {}).get(ROLLOUT_LABEL) == rollout.rollout)


def _own(marks: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in marks.items()
        if not key.startswith(_OF_OTHERS) and key != _INSTANCE
    }


def with_storage(service: Document, source: str, sha256: str) -> Document:
    """The service with another storage; with a digest, it loads no other file from there."""
    model = service["spec"]["predictor"]["model"]
    model["storageUri"] = source
    kept = [word for word in model.get("args", ()) if not word.startswith(DIGEST)]
    model["args"] = [*kept, f"{DIGEST}{sha256}"] if sha256 else kept
    return service


def storage_before(service: Mapping[str, Any]) -> tuple[str, str] | None:
    """``storageUri`` and digest from before the rollout under way; None where there is none.

    Args:
        service: a canary, or in Knative mode the service itself. There the annotations stay after
            a rollout; the percentage shows whether one is under way.
    """
    annotations = service["metadata"].get("annotations", {})
    ended = is_knative(service) and _PERCENT not in service["spec"]["predictor"]
    if ended or _BEFORE not in annotations:
        return None
    return str(annotations[_BEFORE]), str(annotations.get(_BEFORE_DIGEST, ""))


def _note_storage(service: Document) -> None:
    annotations = service["metadata"].setdefault("annotations", {})
    annotations |= {_BEFORE: storage(service), _BEFORE_DIGEST: digest(service)}


def with_replicas(service: Document, part: str, replicas: int) -> Document:
    """The service with so many replicas of a part at least, within its own bound."""
    component = service["spec"][part]
    most = component.get("maxReplicas") or replicas
    least = component.get("minReplicas", 1)
    component["minReplicas"] = max(least, min(replicas, most))
    return service


def is_scaled_by_others(service: Mapping[str, Any]) -> bool:
    """Whether KServe leaves its replicas to another autoscaler, such as KEDA."""
    return bool(service["metadata"].get("annotations", {}).get(_AUTOSCALER) == "external")


def digest(service: Mapping[str, Any]) -> str:
    """The digest that a service's file must have; empty where any will do."""
    words = service["spec"]["predictor"].get("model", {}).get("args", ())
    found = [word.removeprefix(DIGEST) for word in words if word.startswith(DIGEST)]
    return str(found[-1]) if found else ""


def storage(service: Mapping[str, Any]) -> str:
    """Where a service's model lies."""
    return str(service["spec"]["predictor"].get("model", {}).get("storageUri", ""))


def with_percent(service: Document, percent: int, rollout: RolloutState) -> Document:
    """Knative: the newest revision, which is the new one, gets this share."""
    if storage_before(service) is None:
        _note_storage(service)
    service["spec"]["predictor"][_PERCENT] = percent
    return with_storage(service, rollout.source, rollout.sha256)


def without_percent(service: Document) -> Document:
    """Knative: the newest revision gets everything, and no rollout is under way."""
    service["spec"]["predictor"].pop(_PERCENT, None)
    return service


def without_traffic(service: Document) -> Document:
    """Knative: the newest revision gets nothing; one that was never rolled out stays as it is."""
    if storage_before(service) is not None:
        service["spec"]["predictor"][_PERCENT] = 0
    return service
