"""Taking an installation away: what serves goes, data stay unless they shall go too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_graph.control.installer.checks import known_kinds
from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.ownership import (
    by_place,
    is_ours,
    listed,
    named,
    present,
)
from inference_graph.control.installer.pods import TRIAL, UPLOAD
from inference_graph.control.installer.probes import abandoned_probes
from inference_graph.control.installer.secrets import generated
from inference_graph.control.installer.steps import ANSWERED, check_target
from inference_graph.control.manifests.names import ROLLOUT_LABEL, Document

_SECONDS = 300.0
_FIRST = ("deployment.apps/rollout", "inferencegraph.", "inferenceservice.")
"""These go first, and in this order: the controller of a rollout would make its canary again, and a
graph's requests go to the services."""
_TEMPORARY = (f"pod/{UPLOAD}", f"pod/{TRIAL}", f"networkpolicy/{TRIAL}")
"""What an interrupted installation leaves; its pods would hold the claims."""


@dataclass(frozen=True)
class Removal:
    """What is there.

    Attributes:
        objects: what is taken away, as kubectl names it, in that order.
        data: claims and Secrets.
        with_data: whether those are taken away too.
        elsewhere: objects in other namespaces, by these.
        probes: namespaces that killed checks of the cluster left.
        others: what has a name of the installation and is somebody else's; it stays.
    """

    objects: tuple[str, ...]
    data: tuple[str, ...]
    with_data: bool
    elsewhere: tuple[tuple[str, tuple[str, ...]], ...] = ()
    probes: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def goes(self) -> tuple[str, ...]:
        """All that is taken away."""
        elsewhere = [f"{name} in {place}" for place, names in self.elsewhere for name in names]
        data = self.data if self.with_data else ()
        return (*self.objects, *elsewhere, *self.probes, *data)

    def commands(self, namespace: str) -> list[tuple[str, ...]]:
        """Arguments of ``kubectl``, one command after the other."""
        groups = [[one for one in self.objects if one.startswith(first)] for first in _FIRST]
        groups.append([one for one in self.objects if not one.startswith(_FIRST)])
        groups += [[f"--namespace={place}", *names] for place, names in self.elsewhere]
        groups.append(list(self.data) if self.with_data else [])
        found: list[tuple[str, ...]] = [
            ("delete", "--ignore-not-found", f"--timeout={_SECONDS:g}s", *group)
            for group in groups
            if group
        ]
        if found:
            found.append(("annotate", "namespace", namespace, f"{ANSWERED}-"))
        if self.probes:
            found.append(("delete", "--ignore-not-found", "--wait=false", *self.probes))
        return found


def find_installed(kubectl: Kubectl, overlay: Overlay, with_data: bool) -> Removal:
    """What of an overlay is on the cluster, canaries included.

    Args:
        kubectl: the cluster.
        overlay: what was installed.
        with_data: whether claims and Secrets shall go too.

    Raises:
        ConfigurationError: another target is installed in the namespace.
        GearshiftError: as ``Kubectl.run`` does.
    """
    check_target(kubectl.read("namespace", kubectl.namespace), overlay.target)
    known = known_kinds(kubectl)
    found = [*present(kubectl, overlay, known), *listed(kubectl, _TEMPORARY)]
    if any(kind == "InferenceService" for _, kind in known):
        chosen = ("inferenceservices.serving.kserve.io", f"--selector={ROLLOUT_LABEL}")
        found += [one for one in listed(kubectl, chosen) if one not in found]
    data = [
        *(one for one in listed(kubectl, ("pvc",)) if _is_named(one, overlay)),
        *listed(kubectl, ("secret", *generated(overlay))),
    ]
    own = [one for one in found if is_ours(one) or ROLLOUT_LABEL in _labels(one)]
    kept = [one for one in data if is_ours(one) or _is_of_set(one, overlay)]
    others = [one for one in (*found, *data) if one not in own and one not in kept]
    here = [one for one in own if one["metadata"]["namespace"] == kubectl.namespace]
    return Removal(
        _names(here),
        _names(kept),
        with_data,
        tuple(by_place(one for one in own if one not in here)),
        tuple(abandoned_probes(kubectl)),
        _names(others),
    )


def remove(kubectl: Kubectl, removal: Removal) -> None:
    """Take it away, and wait until it is gone.

    Raises:
        GearshiftError: as ``Kubectl.run`` does; it can be run again.
    """
    for arguments in removal.commands(kubectl.namespace):
        kubectl.run(arguments, seconds=_SECONDS + 30)


def _is_named(claim: Document, overlay: Overlay) -> bool:
    name = claim["metadata"]["name"]
    ordinals = (name.removeprefix(f"{begin}-") for begin, _ in overlay.stateful_claims())
    return name in overlay.claims or any(one.isdigit() for one in ordinals)


def _is_of_set(claim: Document, overlay: Overlay) -> bool:
    """Whether a StatefulSet made a claim: it gets the labels that the set selects by."""
    sets = overlay.named("StatefulSet").values()
    selectors = [one["spec"]["selector"]["matchLabels"] for one in sets]
    made = claim["metadata"]["name"] not in overlay.claims
    return made and any(one.items() <= _labels(claim).items() for one in selectors)


def _labels(document: Document) -> dict[str, str]:
    return document["metadata"].get("labels") or {}


def _names(documents: Sequence[Document]) -> tuple[str, ...]:
    return tuple(named(one) for one in documents)
