"""What only a pod can find out: whether NetworkPolicies are enforced, and images can be pulled.

The pods live in a namespace of their own, which is deleted afterwards, whatever happens.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from foundation.errors import GearshiftError
from inference_graph.control.installer.checks import ClusterCheck, State, surely
from inference_graph.control.installer.kubectl import Kubectl, yaml_input
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.pods import (
    CLIENT,
    ENFORCED,
    IMAGES,
    OPEN,
    PROBE_IMAGE,
    SERVER,
    image_probe,
    network_probe,
)
from inference_graph.control.installer.serving import stuck
from inference_graph.control.manifests.names import Document

_Found = TypeVar("_Found")

_PAUSE = 1.0
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
    yield from surely("NetworkPolicies", lambda: _policies(kubectl, image, seconds))
    yield from surely("images", lambda: _images(kubectl, overlay, seconds))


@contextmanager
def _namespace(kubectl: Kubectl) -> Iterator[Kubectl]:
    name = f"gearshift-probe-{secrets.token_hex(3)}"
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kubectl.run(("create", "--filename=-"), yaml_input([made]))
    try:
        yield replace(kubectl, namespace=name)
    finally:
        with suppress(GearshiftError):  # what failed before is the news
            kubectl.run(("delete", "namespace", name, "--wait=false"))


def _policies(kubectl: Kubectl, image: str, seconds: float) -> Iterator[ClusterCheck]:
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
            yield ClusterCheck(
                name,
                State.UNKNOWN,
                f"the probe's pods do not run within {seconds:g} s"
                + (f": {why}" if why else "; name another --probe-image"),
            )
            return
        code = _exit_code(client)
        if code == ENFORCED:
            yield ClusterCheck(name, State.OK, "enforced: a refused port was not reached")
        elif code == OPEN:
            yield ClusterCheck(
                name,
                State.MISSING,
                "not enforced: a refused port was reached; every pod in the cluster reaches the "
                "detectors",
                _CNI,
                needed=False,
            )
        else:
            yield ClusterCheck(
                name, State.UNKNOWN, "not even an allowed port was reached by the probe"
            )


def _images(kubectl: Kubectl, overlay: Overlay, seconds: float) -> Iterator[ClusterCheck]:
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
        yield ClusterCheck(
            "images",
            State.MISSING,
            f"not pulled: {', '.join(refused)}",
            _image_mend(overlay.target, refused),
        )
    elif unknown:
        why = f" ({waits})" if waits else ""
        yield ClusterCheck(
            "images",
            State.UNKNOWN,
            f"not there within {seconds:g} s: {', '.join(unknown)}{why}; wait longer: "
            "--probe-seconds",
        )
    else:
        yield ClusterCheck("images", State.OK, f"all {len(images)} can be pulled")


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
