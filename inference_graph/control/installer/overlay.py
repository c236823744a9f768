"""What an overlay is made of, and so what a cluster must have for it: read from its documents."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from foundation.errors import ConfigurationError
from inference_graph.control.manifests.names import GATEWAY, GPU, Document
from inference_graph.control.manifests.options import ManifestOptions
from inference_graph.control.manifests.render import render
from inference_graph.control.manifests.writer import write_manifests

TARGETS = ("kind", "gke", "onprem", "edge")
"""The overlays that install the whole platform."""
CONTROLLED = ("Deployment", "StatefulSet")


@dataclass(frozen=True)
class Overlay:
    """One of the targets, with the options of a cluster.

    Attributes:
        target: which one.
        options: what differs between clusters.
        documents: its Kubernetes documents.
    """

    target: str
    options: ManifestOptions
    documents: tuple[Document, ...]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """The (apiVersion, kind) pairs, each once."""
        return sorted({(one["apiVersion"], one["kind"]) for one in self.documents})

    def named(self, kind: str) -> dict[str, Document]:
        """The documents of a kind, by name."""
        return {one["metadata"]["name"]: one for one in self.documents if one["kind"] == kind}

    @property
    def images(self) -> list[str]:
        """Images of all containers, each once."""
        return sorted({one["image"] for one in self._containers() if one.get("image")})

    @property
    def secrets(self) -> dict[str, bool]:
        """Secrets that are referred to, by name: whether something fails without it."""
        found: dict[str, bool] = {}
        for name, optional in _secrets(self.documents):
            found[name] = found.get(name, False) or not optional
        return found

    @property
    def claims(self) -> list[str]:
        """Claims that pods mount and no StatefulSet makes."""
        found = {str(one["claimName"]) for one in _under(self.documents, "persistentVolumeClaim")}
        addresses = _under(self.documents, "storageUri")
        found |= {
            one.removeprefix("pvc://").partition("/")[0]
            for one in addresses
            if isinstance(one, str) and one.startswith("pvc://")
        }
        made = {name for name, _ in self.stateful_claims()}
        return sorted(one for one in found if not any(one.startswith(f"{name}-") for name in made))

    def stateful_claims(self) -> list[tuple[str, str]]:
        """For each StatefulSet's claim: how its name begins, and its StorageClass or nothing."""
        return [
            (f"{claim['metadata']['name']}-{name}", claim["spec"].get("storageClassName", ""))
            for name, one in self.named("StatefulSet").items()
            for claim in one["spec"].get("volumeClaimTemplates", ())
        ]

    @property
    def gpus(self) -> int:
        """GPUs that its pods ask for together, one replica of each."""
        asked = [one for one in _under(self.documents, "requests") if isinstance(one, dict)]
        return sum(int(one.get(GPU, 0)) for one in asked)

    @property
    def node_labels(self) -> dict[str, str]:
        """Labels that a node must have for its GPUs to be used."""
        found: dict[str, str] = {}
        for one in self.named("InferenceService").values():
            found |= one["spec"]["predictor"].get("nodeSelector", {})
        return found

    @property
    def hosts(self) -> list[str]:
        """Host names it is reached under from outside."""
        listed = [one for kind in ("Ingress", "HTTPRoute") for one in self.named(kind).values()]
        rules = [rule.get("host") for one in listed for rule in one["spec"].get("rules", ())]
        names = [host for one in listed for host in one["spec"].get("hostnames", ())]
        return sorted({str(one) for one in (*rules, *names) if one})

    def _containers(self) -> Iterator[Document]:
        for key in ("containers", "initContainers"):
            for listed in _under(self.documents, key):
                yield from (one for one in listed if isinstance(one, dict))


def read_overlay(target: str, options: ManifestOptions) -> Overlay:
    """The overlay as ``gearshift manifests`` writes it for these options.

    Args:
        target: one of :data:`TARGETS`.
        options: what differs between clusters.

    Raises:
        ConfigurationError: an unknown target.
    """
    with TemporaryDirectory(prefix="gearshift-") as folder:
        return written_overlay(target, options, Path(folder))


def written_overlay(target: str, options: ManifestOptions, folder: Path) -> Overlay:
    """Write all manifests to a folder, and read the overlay there.

    Raises:
        StorageError: the folder cannot be written.
        ConfigurationError: an unknown target, or what lies there does not fit.
    """
    if target not in TARGETS:
        raise ConfigurationError(f"target is {target!r}; give {', '.join(TARGETS)}")
    write_manifests(folder, options)
    documents = tuple(render(folder / "overlays" / target))
    return Overlay(target, options, documents)


def option_words(options: ManifestOptions) -> list[str]:
    """The options of ``gearshift manifests`` that make these manifests."""
    return [
        f"--{field.name.replace('_', '-')}={value}"
        for field in dataclasses.fields(options)
        if (value := getattr(options, field.name)) != field.default
    ]


def option_line(options: ManifestOptions) -> str:
    """The same as they are typed, with a space before them; nothing for the defaults."""
    words = option_words(options)
    return f" {shlex.join(words)}" if words else ""


def gateway_address(overlay: Overlay) -> str:
    """Where the gateway is reached: its host name, or the command that leads to it."""
    name = overlay.options.hostname
    if name in overlay.hosts:
        return f"https://{name}"
    return forward(overlay.options.namespace, GATEWAY, 8600)


def forward(namespace: str, service: str, port: int) -> str:
    """A command behind which a Service is reached on this machine, and where."""
    command = f"kubectl -n {namespace} port-forward service/{service} {port}:80"
    return f"http://127.0.0.1:{port} behind `{command}`"


def _under(content: Any, key: str) -> Iterator[Any]:
    """Every value under a key, however deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            yield from _under(value, key)
    elif isinstance(content, Sequence) and not isinstance(content, str):
        for one in content:
            yield from _under(one, key)


def _secrets(content: Any) -> Iterator[tuple[str, bool]]:
    """Name of every Secret that is referred to, and whether it may be missing."""
    for one in _under(content, "secretKeyRef"):
        yield one["name"], bool(one.get("optional"))
    for one in _under(content, "secretRef"):
        yield one["name"], bool(one.get("optional"))
    for one in _under(content, "secret"):
        if isinstance(one, dict) and "secretName" in one:
            yield one["secretName"], bool(one.get("optional"))
    for one in _under(content, "oauthclientCredentials"):
        yield one["secretName"], False
    for one in _under(content, "authorization"):
        if isinstance(one, dict) and "credentials" in one:
            yield one["credentials"]["name"], True
