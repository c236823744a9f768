"""What a cluster serves in place of the manifests' own weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from inference_graph.control.manifests.names import CANARY_SUFFIX
from inference_graph.control.manifests.promoted import SERVICES, Promoted
from inference_graph.control.rollout.objects import Reader
from inference_graph.control.rollout.services import digest, is_knative, storage, storage_before


def before_rollout(objects: Reader, service: Mapping[str, Any]) -> tuple[str, str] | None:
    """``storageUri`` and digest of an InferenceService from before the rollout under way.

    Returns:
        None where no rollout of it is under way.

    Raises:
        Unavailable: the API does not answer.
        AccessError: the API refuses the account.
    """
    if is_knative(service):
        return storage_before(service)
    name = service["metadata"]["name"] + CANARY_SUFFIX
    canary = objects.read("inferenceservices", name)
    return None if canary is None else storage_before(canary)


def promoted_on(objects: Reader) -> dict[str, Promoted]:
    """By InferenceService: what a rollout put there; of one under way, what was there before.

    A promoted service is recognized by the digest that its file must have.

    Raises:
        Unavailable: the API does not answer.
        AccessError: the API refuses the account.
    """
    found = {}
    for name in SERVICES:
        service = objects.read("inferenceservices", name)
        if service is None:
            continue
        source, sha256 = before_rollout(objects, service) or (storage(service), digest(service))
        if sha256:
            found[name] = Promoted(source, sha256)
    return found
