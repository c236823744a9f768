"""What only a pod can find out: whether NetworkPolicies are enforced, and images can be pulled.

The pods live in a namespace of their own, which is deleted afterwards. Where a check is killed, the
next one or an uninstallation finds the namespace by its label, and that its process has ended.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from foundation.errors import GearshiftError
from inference_graph.control.installer.checks import ClusterCheck, State, surely
from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.pods import (
    CLIENT,
    ENFORCED,
    IMAGES,
    LIFETIME_SECONDS,
    OPEN,
    PROBE_IMAGE,
    SERVER,
    image_probe,
    network_probe,
)
from inference_graph.control.installer.serving import stuck
from inference_graph.control.manifests.names import PART_OF, Document

_Found = TypeVar("_Found")

_PAUSE = 1.0
_PROBE, _HOLDER = "gearshift/probe", "gearshift/probed-by"
"""Label of a probe's namespace, and its annotation: host and process of the check."""
_UNPULLED = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName")
_CNI = (
    "install a CNI that enforces them: "
    "https://kubernetes.io/docs/concepts/services-networking/network-policies"
)


def probe_cluster(
    kubectl: Kubectl, overlay: Overlay, seconds: float, image: str = PROBE_IMAGE
) -> Iterator[ClusterCheck]:
    """Look with pods.

    Args:
        kubectl: the cluster.
        overlay: whose images are tried.
        seconds: how long each probe may take.
        image: with a shell, ``wget`` and ``httpd``, for the probe of NetworkPolicies.

    Yields:
        The checks; one that cannot be made is unknown.
    """
    if left := abandoned_probes(kubectl):
        with suppress(GearshiftError):  # then the next check tries
            kubectl.run(("delete", "--ignore-not-found", "--wait=false", *left))
    # Nothing is given away inside: who takes it may be interrupted, and the namespace would stay.
    yield from surely("NetworkPolicies", lambda: iter([_policies(kubectl, image, seconds)]))
    yield from surely("images", lambda: iter([_images(kubectl, overlay, seconds)]))


def abandoned_probes(kubectl: Kubectl) -> list[str]:
    """Namespaces of checks that were killed, as kubectl names them.

    Those of a process of this machine that has ended, and all whose pods have had their time; none
    where who asks may not list namespaces.
    """
    try:
        found = kubectl.items("namespaces", f"--selector={_PROBE}")
    except GearshiftError:
        return []
    return [
        f"namespace/{one['metadata']['name']}"
        for one in found
        if "deletionTimestamp" not in one["metadata"] and _is_abandoned(one["metadata"])
    ]


def _is_abandoned(metadata: Document) -> bool:
    made = datetime.fromisoformat(metadata["creationTimestamp"])
    if datetime.now(UTC) - made > timedelta(seconds=LIFETIME_SECONDS):
        return True
    host, _, process = (metadata.get("annotations") or {}).get(_HOLDER, "").rpartition("/")
    if host != socket.gethostname() or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's
    return False


@contextmanager
def _namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = f"gearshift-probe-{secrets.token_hex(3)}"
    metadata = {
        "name": name,
        "labels": {_PROBE: "true", **PART_OF},
        "annotations": {_HOLDER: f"{socket.gethostname()}/{os.getpid()}"},
    }
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    try:
        kubectl.run(("create", "--filename=-"), yaml_input([made]))
        yield replace(kubectl, namespace=name)
    finally:
        # Interrupted while it was being made, it may be there all the same.
        with suppress(GearshiftError):  # what failed before is the news
            kubectl.run(("delete", "namespace", name, "--ignore-not-found", "--wait=false"))


def _policies(kubectl: Kubectl, image: str, seconds: float) -> ClusterCheck:
    name = "NetworkPolicies"
    with _namespace(kubectl) as probe:
        probe.apply(*network_probe(image))

        def ended() -> Document | None:
            pods = _pods(probe)
            return pods[CLIENT] if _phase(pods.get(CLIENT)) in ("Succeeded", "Failed") else None

        client = _until(ended, seconds)
        if client is None:
            pods = _pods(probe)
            why = next(filter(None, (_stuck(pods, one, probe) for one in (SERVER, CLIENT))), "")
            return ClusterCheck(
                name,
                State.UNKNOWN,
                f"the probe's pods do not run within {seconds:g} s"
                + (f": {why}" if why else "; name another --probe-image"),
            )
    code = _exit_code(client)
    if code == ENFORCED:
        return ClusterCheck(name, State.OK, "enforced: a refused port was not reached")
    if code == OPEN:
        return ClusterCheck(
            name,
            State.MISSING,
            "not enforced: a refused port was reached; every pod in the cluster reaches the "
            "detectors",
            _CNI,
            needed=False,
        )
    return ClusterCheck(name, State.UNKNOWN, "not even an allowed port was reached by the probe")


def _images(kubectl: Kubectl, overlay: Overlay, seconds: float) -> ClusterCheck:
    images = overlay.images
    with _namespace(kubectl) as probe:
        probe.apply(image_probe(images))

        def pulled() -> dict[str, str] | None:
            states = _image_states(_pods(probe).get(IMAGES, {}), images)
            return None if "" in states.values() else states

        states = _until(pulled, seconds) or _image_states(_pods(probe).get(IMAGES, {}), images)
        waits = _stuck(_pods(probe), IMAGES, probe)
    refused = [image for image, state in states.items() if state in _UNPULLED]
    unknown = [image for image, state in states.items() if not state]
    if refused:
        return ClusterCheck(
            "images",
            State.MISSING,
            f"not pulled: {', '.join(refused)}",
            _image_mend(overlay.target, refused),
        )
    if unknown:
        why = f" ({waits})" if waits else ""
        return ClusterCheck(
            "images",
            State.UNKNOWN,
            f"not there within {seconds:g} s: {', '.join(unknown)}{why}; wait longer: "
            "--probe-seconds",
        )
    return ClusterCheck("images", State.OK, f"all {len(images)} can be pulled")


def _image_mend(target: str, images: Sequence[str]) -> str:
    listed = " ".join(images)
    if target == "kind":
        return f"kind load docker-image {listed}"
    return f"push them to a registry that the nodes reach (docs/install.md), then --image: {listed}"


def _image_states(pod: Document, images: Sequence[str]) -> dict[str, str]:
    """For each image "pulled", why it was not, or nothing while that is open."""
    named = {f"image-{number}": image for number, image in enumerate(images)}
    states = dict.fromkeys(images, "")
    for one in pod.get("status", {}).get("containerStatuses", ()):
        reason = (one.get("state", {}).get("waiting") or {}).get("reason", "")
        if reason in _UNPULLED:
            states[named[one["name"]]] = reason
        elif reason not in ("ContainerCreating", "PodInitializing", "") or one.get("imageID"):
            states[named[one["name"]]] = "pulled"
    return states


def _pods(kubectl: Kubectl) -> dict[str, Document]:
    return {one["metadata"]["name"]: one for one in kubectl.items("pods")}


def _phase(pod: Document | None) -> str:
    return str((pod or {}).get("status", {}).get("phase", ""))


def _stuck(pods: dict[str, Document], name: str, kubectl: Kubectl) -> str:
    return stuck(pods[name], kubectl.namespace) if name in pods else ""


def _exit_code(pod: Document) -> int:
    (container,) = pod["status"]["containerStatuses"]
    code: int = container.get("state", {}).get("terminated", {}).get("exitCode", -1)
    return code


def _until(ask: Callable[[], _Found | None], seconds: float) -> _Found | None:
    end = time.monotonic() + seconds
    while (found := ask()) is None and time.monotonic() < end:
        time.sleep(_PAUSE)
    return found
