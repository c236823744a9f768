"""Taking an installation away: what serves goes, data stay unless they shall go too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from inference_graph.control.installer.checks import group_of, known_kinds
from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.pods import TRIAL, UPLOAD
from inference_graph.control.installer.secrets import generated
from inference_graph.control.installer.steps import ANSWERED, check_target
from inference_graph.control.manifests.names import ROLLOUT_LABEL

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
    """

    objects: tuple[str, ...]
    data: tuple[str, ...]
    with_data: bool

    def commands(self, namespace: str) -> list[tuple[str, ...]]:
        """Arguments of ``kubectl``, one command after the other."""
        groups = [[one for one in self.objects if one.startswith(first)] for first in _FIRST]
        groups.append([one for one in self.objects if not one.startswith(_FIRST)])
        groups.append(list(self.data) if self.with_data else [])
        found: list[tuple[str, ...]] = [
            ("delete", "--ignore-not-found", f"--timeout={_SECONDS:g}s", *group)
            for group in groups
            if group
        ]
        if found:
            found.append(("annotate", "namespace", namespace, f"{ANSWERED}-"))
        return found


def find_installed(kubectl: Kubectl, overlay: Overlay, with_data: bool) -> Removal:
    """What of an overlay is in the namespace, canaries included.

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
    # Any version that is served names the same objects.
    served = {(group_of(api), kind): api for api, kind in known}
    documents = [
        {**one, "apiVersion": api}
        for one in overlay.documents
        if one["kind"] != "Namespace"
        and (api := served.get((group_of(one["apiVersion"]), one["kind"])))
    ]
    objects = _names(kubectl, ("get", "--filename=-"), yaml_input(documents))
    objects += _names(kubectl, ("get", *_TEMPORARY))
    if any(kind == "InferenceService" for _, kind in known):
        chosen = ("get", "inferenceservices.serving.kserve.io", f"--selector={ROLLOUT_LABEL}")
        objects += [one for one in _names(kubectl, chosen) if one not in objects]
    claims = [
        one for one in _names(kubectl, ("get", "pvc")) if _is_ours(one.rpartition("/")[2], overlay)
    ]
    secrets = _names(kubectl, ("get", "secret", *generated(overlay)))
    return Removal(tuple(objects), (*claims, *secrets), with_data)


def remove(kubectl: Kubectl, removal: Removal) -> None:
    """Take it away, and wait until it is gone.

    Raises:
        GearshiftError: as ``Kubectl.run`` does; it can be run again.
    """
    for arguments in removal.commands(kubectl.namespace):
        kubectl.run(arguments, seconds=_SECONDS + 30)


def _is_ours(claim: str, overlay: Overlay) -> bool:
    ordinals = (claim.removeprefix(f"{name}-") for name, _ in overlay.stateful_claims())
    return claim in overlay.claims or any(one.isdigit() for one in ordinals)


def _names(kubectl: Kubectl, arguments: Sequence[str], stdin: bytes | None = None) -> list[str]:
    command = (*arguments, "--ignore-not-found", "--output=name")
    return kubectl.run(command, stdin).out.split()
