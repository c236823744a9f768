"""What an installation does to a cluster, and which of it is not allowed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import Overlay

_CLUSTER_WIDE = frozenset({"namespaces"})
_APPLIED = ("get", "create", "patch")
_BESIDE = (
    ("", "secrets", "get"),
    ("", "secrets", "create"),
    ("", "secrets", "update"),
    ("", "persistentvolumeclaims", "create"),
    ("", "persistentvolumeclaims", "patch"),
    ("", "pods", "create"),
    ("", "pods", "list"),
    ("", "pods", "delete"),
    ("", "pods/exec", "create"),
    ("", "pods/log", "get"),
    ("networking.k8s.io", "networkpolicies", "delete"),
    ("discovery.k8s.io", "endpointslices", "list"),
)
"""Beside applying the overlay: (API group, resource, verb)."""


@dataclass(frozen=True)
class Right:
    """A verb on a resource.

    Attributes:
        group: API group; empty for the core.
        resource: its plural name, with ``/`` and a subresource.
        verb: of the API.
        namespace: where; empty for the whole cluster.
    """

    group: str
    resource: str
    verb: str
    namespace: str

    @property
    def text(self) -> str:
        """The right in plain words."""
        name = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {name}"

    @property
    def command(self) -> str:
        """What asks for it again."""
        plain, _, part = self.resource.partition("/")
        name = f"{plain}.{self.group}" if self.group else plain
        more = f" --subresource={part}" if part else ""
        where = f" --namespace {self.namespace}" if self.namespace else ""
        return f"kubectl auth can-i {self.verb} {name}{more}{where}"


def needed(overlay: Overlay, known: Mapping[tuple[str, str], str]) -> list[Right]:
    """All that an installation of an overlay does.

    Args:
        overlay: what is applied.
        known: resource by apiVersion and kind; a kind that is not known is left out.
    """
    found = set()
    for one in overlay.documents:
        resource = known.get((one["apiVersion"], one["kind"]))
        if resource is None:
            continue
        group = one["apiVersion"].rpartition("/")[0]
        own = one["metadata"].get("namespace", overlay.options.namespace)
        place = "" if resource in _CLUSTER_WIDE else own
        found |= {Right(group, resource, verb, place) for verb in _APPLIED}
    found |= {Right(*one, overlay.options.namespace) for one in _BESIDE}
    return sorted(found, key=lambda one: (one.group, one.resource, one.verb))


def denied(kubectl: Kubectl, overlay: Overlay, known: Mapping[tuple[str, str], str]) -> list[Right]:
    """The rights that who asks does not have: what ``kubectl auth can-i`` asks, all at once.

    Raises:
        GearshiftError: as ``Kubectl.run`` does.
    """
    rights = needed(overlay, known)
    reviews = [_review(one) for one in rights]
    # Validating what can only be created means reading CRDs, which few may.
    asked = ("create", "--filename=-", "--validate=false", "--output=json")
    output = kubectl.run(asked, yaml_input(reviews)).out
    answers = _answers(output)
    return [
        one
        for one, answer in zip(rights, answers, strict=True)
        if not answer.get("status", {}).get("allowed", False)
    ]


def _review(one: Right) -> dict[str, object]:
    resource, _, part = one.resource.partition("/")
    attributes = {"group": one.group, "resource": resource, "subresource": part, "verb": one.verb}
    if one.namespace:
        attributes["namespace"] = one.namespace
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }


def _answers(text: str) -> list[dict[str, dict[str, bool]]]:
    """The documents that kubectl prints one after the other, without a list around them."""
    found = []
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        document, end = decoder.raw_decode(text, at)
        found += document.get("items", [document])
        at = end + len(text[end:]) - len(text[end:].lstrip())
    return found
