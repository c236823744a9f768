"""Whose an object is: all that is installed has a label, and nothing else is taken or changed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace

from foundation.errors import Conflict
from inference_graph.control.installer.checks import group_of, known_kinds
from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.manifests.names import PART_OF, Document

MARK = "=".join(*PART_OF.items())
"""The label as kubectl writes it."""


def is_ours(document: Document) -> bool:
    """Whether an object was installed by Gearshift."""
    return PART_OF.items() <= (document["metadata"].get("labels") or {}).items()


def named(document: Document) -> str:
    """An object as kubectl names it: ``deployment.apps/dashboard``."""
    group = group_of(document["apiVersion"])
    kind = document["kind"].lower()
    return f"{kind}{'.' if group else ''}{group}/{document['metadata']['name']}"


def listed(
    kubectl: Kubectl, arguments: Sequence[str], stdin: bytes | None = None
) -> list[Document]:
    """The objects that ``kubectl get`` finds.

    Raises:
        GearshiftError: as ``Kubectl.run`` does.
    """
    command = ("get", *arguments, "--ignore-not-found", "--output=json")
    output = kubectl.run(command, stdin).out
    found = json.loads(output) if output.strip() else {"items": []}
    objects: list[Document] = found.get("items", [found])
    return objects


def present(kubectl: Kubectl, overlay: Overlay, known: Iterable[tuple[str, str]]) -> list[Document]:
    """What is on the cluster under the names of an overlay's objects, whosever it is.

    The namespace itself is left out.

    Args:
        kubectl: the cluster.
        overlay: names them.
        known: each apiVersion and kind that the cluster serves.

    Raises:
        GearshiftError: as ``Kubectl.run`` does.
    """
    # Any version that is served names the same objects.
    served = {(group_of(api), kind): api for api, kind in known}
    places: dict[str, list[Document]] = {}
    for one in overlay.documents:
        api = served.get((group_of(one["apiVersion"]), one["kind"]))
        if api and one["kind"] != "Namespace":
            place = one["metadata"].get("namespace", kubectl.namespace)
            places.setdefault(place, []).append({**one, "apiVersion": api})
    return [
        one
        for place, documents in places.items()
        for one in listed(
            replace(kubectl, namespace=place), ("--filename=-",), yaml_input(documents)
        )
    ]


def refuse_others(kubectl: Kubectl, overlay: Overlay) -> None:
    """Refuse to write over objects that somebody else made under the same names.

    Raises:
        Conflict: there are some.
        GearshiftError: as ``Kubectl.run`` does.
    """
    found = present(kubectl, overlay, known_kinds(kubectl))
    for place, names in by_place(one for one in found if not is_ours(one)):
        label = replace(kubectl, namespace=place).line(("label", *names, MARK))
        raise Conflict(
            f"in the namespace {place} somebody else made {', '.join(names)}, which would be "
            f"written over; name another --namespace, or, if that is Gearshift's, say so: {label}"
        )


def by_place(documents: Iterable[Document]) -> list[tuple[str, tuple[str, ...]]]:
    """Names of objects by their namespace."""
    found: dict[str, list[str]] = {}
    for one in documents:
        found.setdefault(one["metadata"]["namespace"], []).append(named(one))
    return [(place, tuple(names)) for place, names in found.items()]
