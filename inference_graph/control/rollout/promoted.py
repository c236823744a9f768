"""What a cluster serves in place of the manifests' own weights."""

from __future__ import annotations

from inference_graph.control.manifests.promoted import SERVICES, Promoted
from inference_graph.control.rollout.objects import Reader
from inference_graph.control.rollout.services import (
    digest,
    is_taking_over,
    storage,
    with_storage_before,
)


def promoted_on(objects: Reader) -> dict[str, Promoted]:
    """By InferenceService: what a rollout put there; of one under way, what was there before.

    A promoted service loads no other file than the one whose digest it was given, by which it is
    known.

    Raises:
        Unavailable: the API does not answer.
        AccessError: it does not let us.
    """
    found = {}
    for name in SERVICES:
        service = objects.read("inferenceservices", name)
        if service is None:
            continue
        if is_taking_over(service):
            service = with_storage_before(service)
        if sha256 := digest(service):
            found[name] = Promoted(storage(service), sha256)
    return found
