"""InferenceServices as a rollout writes them: documents in, documents out.

In Standard mode the canary is a service of its own; in Knative mode the service itself takes the
new revision with a share of the traffic, and remembers what it served before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from inference_graph.control.manifests.parts import CANARY_SUFFIX, ROLLOUT_LABEL
from inference_graph.control.manifests.promoted import DIGEST
from inference_graph.control.rollout.state import RolloutState

Document = dict[str, Any]

MODE = "serving.kserve.io/deploymentMode"
_AUTOSCALER = "serving.kserve.io/autoscalerClass"
_UNKEPT = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid",
           "selfLink", "ownerReferences", "finalizers")  # fmt: skip
_BEFORE, _BEFORE_DIGEST = "gearshift/storage-before", "gearshift/sha256-before"
"""Annotations: the ``storageUri``, and its file's digest if one was asked for, to which a rollout
goes back that is ended after the service was changed."""
_OF_OTHERS = ("kubectl.kubernetes.io/", "argocd.argoproj.io/", "kustomize.toolkit.fluxcd.io/",
              "helm.toolkit.fluxcd.io/")  # fmt: skip
"""Labels and annotations by which tools know what they applied; a canary is nothing of theirs."""
_INSTANCE = "app.kubernetes.io/instance"
"""The label by which Argo CD does, unless it is told otherwise."""


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
        # A transformer is told its model's name, which is its service's, and its predictor's.
        container["args"] = [
            *(
                f"--model_name={canary}" if word == f"--model_name={name}" else word
                for word in container.get("args", ())
            ),
            f"--predictor_name={canary}",
        ]
    return with_storage(made, rollout)


def _own(marks: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in marks.items()
        if not key.startswith(_OF_OTHERS) and key != _INSTANCE
    }


def with_storage(service: Document, rollout: RolloutState) -> Document:
    """The service with the new revision, which must be the very file that the rollout names."""
    return _serving(service, rollout.source, rollout.sha256)


def taking_over(service: Document, rollout: RolloutState) -> Document:
    """The service with the new revision, and a note of the one before."""
    if storage(service) != rollout.source:
        annotations = service["metadata"].setdefault("annotations", {})
        annotations[_BEFORE], annotations[_BEFORE_DIGEST] = storage(service), digest(service)
    return with_storage(service, rollout)


def is_taking_over(service: Mapping[str, Any]) -> bool:
    """Whether a rollout changed it and has not ended."""
    return _BEFORE in service["metadata"].get("annotations", {})


def with_replicas(service: Document, part: str, replicas: int) -> Document:
    """The service with so many replicas of a part at least, within its own bound."""
    component = service["spec"][part]
    most = component.get("maxReplicas") or replicas
    least = component.get("minReplicas", 1)
    component["minReplicas"] = max(least, min(replicas, most))
    return service


def is_scaled_by_others(service: Mapping[str, Any]) -> bool:
    """Whether KServe leaves its replicas to somebody else, KEDA for example."""
    return bool(service["metadata"].get("annotations", {}).get(_AUTOSCALER) == "external")


def _serving(service: Document, source: str, sha256: str) -> Document:
    """The service with another storage; with a digest, no other file of it is loaded."""
    model = service["spec"]["predictor"]["model"]
    model["storageUri"] = source
    kept = [word for word in model.get("args", ()) if not word.startswith(DIGEST)]
    model["args"] = [*kept, f"{DIGEST}{sha256}"] if sha256 else kept
    return service


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
    service["spec"]["predictor"]["canaryTrafficPercent"] = percent
    return taking_over(service, rollout)


def settled(service: Document) -> Document:
    """The service as it is, with no note of a rollout.

    Knative: without a percentage the newest revision gets everything.
    """
    service["spec"]["predictor"].pop("canaryTrafficPercent", None)
    for name in (_BEFORE, _BEFORE_DIGEST):
        service["metadata"].get("annotations", {}).pop(name, None)
    return service


def without_traffic(service: Document) -> Document:
    """Knative: the newest revision gets nothing; one that was never rolled out stays as it is."""
    if is_taking_over(service):
        service["spec"]["predictor"]["canaryTrafficPercent"] = 0
    return service


def with_storage_before(service: Document) -> Document:
    """The storage from before the rollout; in Knative mode a newest revision without traffic."""
    annotations = service["metadata"].get("annotations", {})
    if _BEFORE not in annotations:
        return service
    return _serving(service, annotations[_BEFORE], annotations.get(_BEFORE_DIGEST, ""))
