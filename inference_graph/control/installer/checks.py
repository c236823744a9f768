"""What a cluster must have for an overlay, checked by reading, each with the command that mends it.

What an overlay needs is read from its documents, so a part that brings a new kind, image or Secret
is checked for without a line here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from foundation.errors import ConfigurationError, GearshiftError
from inference_graph.control.installer.kubectl import Kubectl
from inference_graph.control.installer.overlay import Overlay
from inference_graph.control.installer.rights import denied
from inference_graph.control.installer.secrets import given, present
from inference_graph.control.installer.serving import available
from inference_graph.control.manifests.names import GPU, Document

OLDEST = (1, 30)
KSERVE = (0, 20)
_HELM = "helm upgrade --install"
_CERT_MANAGER = (
    f"{_HELM} cert-manager oci://quay.io/jetstack/charts/cert-manager --namespace cert-manager "
    "--create-namespace --set crds.enabled=true"
)
_KSERVE_CHARTS = "oci://ghcr.io/kserve/charts"
_KSERVE_CRDS = f"{_HELM} kserve-crd {_KSERVE_CHARTS}/kserve-crd --version v0.20.0"
_KSERVE = (
    f"{_KSERVE_CRDS} --namespace kserve --create-namespace && {_HELM} kserve "
    f"{_KSERVE_CHARTS}/kserve-resources --version v0.20.0 --namespace kserve "
    "--set kserve.controller.deploymentMode=Standard"
)
_GATEWAY_API = (
    "kubectl apply --server-side --filename=https://github.com/kubernetes-sigs/gateway-api/"
    "releases/download/v1.5.1/standard-install.yaml"
)
_BRINGS = {
    "serving.kserve.io": _KSERVE,
    "cert-manager.io": _CERT_MANAGER,
    "gateway.networking.k8s.io": _GATEWAY_API,
    "keda.sh": f"{_HELM} keda keda --repo https://kedacore.github.io/charts --namespace keda "
    "--create-namespace",
    "monitoring.coreos.com": f"{_HELM} kube-prometheus-stack "
    "oci://ghcr.io/prometheus-community/charts/kube-prometheus-stack --namespace monitoring "
    "--create-namespace",
    "security.istio.io": "istioctl install --set profile=ambient",
    "metrics.k8s.io": "kubectl apply --filename=https://github.com/kubernetes-sigs/"
    "metrics-server/releases/download/v0.8.0/components.yaml",
    "cloud.google.com": "gcloud container clusters create-auto gearshift",
    "networking.gke.io": "gcloud container clusters create-auto gearshift",
}
"""By API group, what brings it."""
_DEVICE_PLUGIN = (
    f"{_HELM} nvidia-device-plugin nvidia-device-plugin "
    "--repo https://nvidia.github.io/k8s-device-plugin --namespace nvidia-device-plugin "
    "--create-namespace"
)
_STANDARD = ("Standard", "RawDeployment")


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ClusterCheck:
    """The result of one check.

    Attributes:
        name: what.
        state: whether it is there.
        found: what was seen, or why nothing could be.
        mend: the command that mends it; empty where nothing is to be done.
        needed: whether the installation fails without it.
    """

    name: str
    state: State
    found: str
    mend: str = ""
    needed: bool = True

    @property
    def stops(self) -> bool:
        """Whether nothing should be installed before it is mended."""
        return self.needed and self.state is State.MISSING


def check_cluster(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    """Look at a cluster by reading; nothing is made there.

    Args:
        kubectl: the cluster.
        overlay: what it shall have.

    Yields:
        The checks, each when it is done.

    Raises:
        GearshiftError: the cluster cannot be asked at all.
    """
    version = json.loads(kubectl.run(("version", "--output=json")).out)
    yield _kubernetes(version)
    known = known_kinds(kubectl)
    looks: list[tuple[str, Callable[[], Iterator[ClusterCheck]]]] = [
        ("CRDs", lambda: _kinds(overlay, known)),
        ("operators", lambda: _operators(kubectl, overlay, known)),
        ("Gateway API", lambda: _gateway_api(overlay, known)),
        ("GPUs", lambda: _nodes(kubectl, overlay)),
        ("StorageClass", lambda: _storage(kubectl, overlay)),
        ("ClusterIssuer", lambda: _issuers(kubectl, overlay)),
        ("IngressClass", lambda: _ingress_classes(kubectl, overlay)),
        ("Secrets", lambda: _given_secrets(kubectl, overlay)),
        ("rights", lambda: _rights(kubectl, overlay, known)),
    ]
    for name, look in looks:
        yield from surely(name, look)


def surely(name: str, look: Callable[[], Iterator[ClusterCheck]]) -> Iterator[ClusterCheck]:
    """The checks of a look; where it is refused or fails, what it is about is unknown.

    Args:
        name: what is looked for.
        look: does it.
    """
    try:
        yield from look()
    except GearshiftError as error:
        yield ClusterCheck(name, State.UNKNOWN, str(error))


def _kubernetes(version: Document) -> ClusterCheck:
    server = version.get("serverVersion", {})
    found = (_number(server.get("major", "")), _number(server.get("minor", "")))
    text = str(server.get("gitVersion", "unknown"))
    oldest = ".".join(map(str, OLDEST))
    if found >= OLDEST:
        return ClusterCheck("Kubernetes", State.OK, text)
    return ClusterCheck(
        "Kubernetes",
        State.MISSING,
        f"{text}; it must be {oldest} or newer",
        "upgrade the cluster (on a laptop: `kind create cluster`)",
    )


def known_kinds(kubectl: Kubectl) -> dict[tuple[str, str], str]:
    """The resource's name (``deployments``) by apiVersion and kind, as the cluster serves them."""
    # Where an aggregated API is away the rest is listed all the same, and the exit code is 1.
    listed = kubectl.run(("api-resources", "--no-headers"), accepted=(0, 1)).out
    found = {}
    for line in listed.splitlines():
        words = line.split()
        if len(words) >= 4 and words[-2] in ("true", "false"):
            found[words[-3], words[-1]] = words[0]
    if not found:
        raise ConfigurationError("the cluster lists no kinds; check `kubectl api-resources`")
    return found


def group_of(api_version: str) -> str:
    """The API group of an apiVersion; empty for the core."""
    group, _, version = api_version.rpartition("/")
    return group if version else ""


def _kinds(overlay: Overlay, known: dict[tuple[str, str], str]) -> Iterator[ClusterCheck]:
    absent: dict[str, list[str]] = {}
    for api, kind in overlay.kinds:
        if (api, kind) not in known:
            same = (group_of(api), kind)
            others = [one for one, other in known if (group_of(one), other) == same]
            instead = f", only {', '.join(others)}" if others else ""
            absent.setdefault(same[0], []).append(f"{kind} ({api}{instead})")
    for group, kinds in absent.items():
        mend = _BRINGS.get(group, f"install what brings {group or 'it'}")
        yield ClusterCheck(
            f"CRDs of {group}", State.MISSING, f"not known: {', '.join(kinds)}", mend
        )
    if not absent:
        yield ClusterCheck("CRDs", State.OK, f"all {len(overlay.kinds)} kinds are known")
    scaled = "HorizontalPodAutoscaler" in {kind for _, kind in overlay.kinds}
    if scaled and not any(group_of(api) == "metrics.k8s.io" for api, _ in known):
        yield ClusterCheck(
            "metrics-server", State.MISSING, "no figures to scale by", _BRINGS["metrics.k8s.io"]
        )


def _operators(
    kubectl: Kubectl, overlay: Overlay, known: dict[tuple[str, str], str]
) -> Iterator[ClusterCheck]:
    groups = {group_of(api) for api, _ in overlay.kinds}
    if "serving.kserve.io" not in groups:
        return
    running = {
        one["metadata"]["name"]: one for one in kubectl.items("deployments", "--all-namespaces")
    }
    managers = [one for name, one in running.items() if name.startswith("cert-manager")]
    if not any(group_of(api) == "cert-manager.io" for api, _ in known):
        yield ClusterCheck("cert-manager", State.MISSING, "its CRDs are not known", _CERT_MANAGER)
    elif not managers or not all(map(available, managers)):
        detail = "it does not run" if not managers else "not all of its pods are available"
        yield ClusterCheck("cert-manager", State.MISSING, detail, _CERT_MANAGER)
    else:
        yield ClusterCheck("cert-manager", State.OK, _tag(managers[0]))
    manager = running.get("kserve-controller-manager")
    if manager is None:
        yield ClusterCheck("KServe", State.MISSING, "its controller does not run", _KSERVE)
        return
    yield _kserve_version(manager)
    yield _kserve_mode(kubectl, manager["metadata"]["namespace"])


def _kserve_version(manager: Document) -> ClusterCheck:
    tag = _tag(manager)
    number = tuple(_number(part) for part in tag.removeprefix("v").split(".")[:2])
    wanted = ".".join(map(str, KSERVE))
    if not available(manager):
        place = manager["metadata"]["namespace"]
        return ClusterCheck(
            "KServe",
            State.MISSING,
            f"{tag}, but its controller is not available",
            f"kubectl --namespace {place} describe deployment kserve-controller-manager",
        )
    if not tag.removeprefix("v")[:1].isdigit():
        return ClusterCheck(
            "KServe", State.UNKNOWN, f"its image is {tag}; {wanted} or newer is needed"
        )
    if number < KSERVE:
        return ClusterCheck("KServe", State.MISSING, f"{tag}; {wanted} or newer is needed", _KSERVE)
    return ClusterCheck("KServe", State.OK, tag)


def _kserve_mode(kubectl: Kubectl, namespace: str) -> ClusterCheck:
    settings = kubectl.read("configmap", "inferenceservice-config", f"--namespace={namespace}")
    name = "KServe's mode"
    try:
        deploy = json.loads(settings["data"]["deploy"])
        mode = str(deploy["defaultDeploymentMode"])
    except (KeyError, ValueError, TypeError):
        return ClusterCheck(
            name, State.UNKNOWN, f"inferenceservice-config in {namespace} does not say it", _KSERVE
        )
    if mode in _STANDARD:
        return ClusterCheck(name, State.OK, mode)
    return ClusterCheck(name, State.MISSING, f"{mode}; Standard is needed", _KSERVE)


def _gateway_api(overlay: Overlay, known: dict[tuple[str, str], str]) -> Iterator[ClusterCheck]:
    group = "gateway.networking.k8s.io"
    groups = {group_of(api) for api, _ in overlay.kinds}
    if "serving.kserve.io" not in groups or group in groups:
        return  # not used, or among the CRDs above
    if any(group_of(api) == group for api, _ in known):
        yield ClusterCheck("Gateway API", State.OK, "its CRDs are known", needed=False)
    else:
        yield ClusterCheck(
            "Gateway API",
            State.MISSING,
            "not known; KServe's own canaries need it",
            _GATEWAY_API,
            needed=False,
        )


def _nodes(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    if not overlay.gpus:
        return
    wanted = overlay.node_labels
    nodes = [
        one
        for one in kubectl.items("nodes")
        if wanted.items() <= one["metadata"].get("labels", {}).items()
        and not one["spec"].get("unschedulable")
    ]
    there = sum(_number(one["status"].get("allocatable", {}).get(GPU, "0")) for one in nodes)
    labelled = "".join(f" on nodes with {key}={value}" for key, value in wanted.items())
    found = f"{there} of {overlay.gpus} that are asked for{labelled}"
    if there >= overlay.gpus:
        yield ClusterCheck("GPUs", State.OK, found)
    else:
        yield ClusterCheck("GPUs", State.MISSING, found, f"add GPU nodes, then {_DEVICE_PLUGIN}")


def _storage(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    classes = kubectl.items("storageclasses")
    key = "storageclass.kubernetes.io/is-default-class"
    keys = (key, "storageclass.beta.kubernetes.io/is-default-class")
    default = [
        one["metadata"]["name"]
        for one in classes
        if any((one["metadata"].get("annotations") or {}).get(name) == "true" for name in keys)
    ]
    claims = {*overlay.claims, *(f"{one}-0" for one, own in overlay.stateful_claims() if not own)}
    if default:
        yield ClusterCheck("StorageClass", State.OK, f"{default[0]} is the default")
    elif claims <= {one["metadata"]["name"] for one in kubectl.items("pvc")}:
        yield ClusterCheck("StorageClass", State.OK, "none is the default, but all claims exist")
    elif classes:
        name = classes[0]["metadata"]["name"]
        yield ClusterCheck(
            "StorageClass",
            State.MISSING,
            "none is the default",
            f"kubectl annotate storageclass {name} {key}=true",
        )
    else:
        yield ClusterCheck(
            "StorageClass",
            State.MISSING,
            "there is none",
            "kubectl apply --filename=https://raw.githubusercontent.com/rancher/"
            "local-path-provisioner/v0.0.31/deploy/local-path-storage.yaml",
        )


def _issuers(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    key = "cert-manager.io/cluster-issuer"
    names = {
        issuer
        for one in overlay.documents
        if (issuer := (one["metadata"].get("annotations") or {}).get(key))
    }
    for name in sorted(names):
        if kubectl.read("clusterissuers.cert-manager.io", name):
            yield ClusterCheck("ClusterIssuer", State.OK, name)
        else:
            yield ClusterCheck(
                "ClusterIssuer",
                State.MISSING,
                f"there is no {name}",
                f"kubectl apply --filename=FILE (a ClusterIssuer called {name}: "
                "https://cert-manager.io/docs/configuration/acme)",
            )


def _ingress_classes(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    names = {
        name
        for one in overlay.named("Ingress").values()
        if (name := one["spec"].get("ingressClassName"))
    }
    for name in sorted(names):
        if kubectl.read("ingressclass", name):
            yield ClusterCheck("IngressClass", State.OK, name)
        else:
            yield ClusterCheck(
                "IngressClass",
                State.MISSING,
                f"there is no {name}",
                f"{_HELM} ingress-nginx ingress-nginx --repo "
                "https://kubernetes.github.io/ingress-nginx --namespace ingress-nginx "
                "--create-namespace"
                if name == "nginx"
                else f"install the ingress controller of the class {name}",
            )


def _given_secrets(kubectl: Kubectl, overlay: Overlay) -> Iterator[ClusterCheck]:
    wanted = given(overlay)
    if not wanted:
        return
    there = present(kubectl, wanted)
    for name, (command, what) in wanted.items():
        if name in there:
            yield ClusterCheck(f"Secret {name}", State.OK, "it is there")
        else:
            namespace = overlay.options.namespace
            made = f"kubectl create namespace {namespace}; {command}"
            yield ClusterCheck(f"Secret {name}", State.MISSING, what, made)


def _rights(
    kubectl: Kubectl, overlay: Overlay, known: dict[tuple[str, str], str]
) -> Iterator[ClusterCheck]:
    refused = denied(kubectl, overlay, known)
    if not refused:
        yield ClusterCheck("rights", State.OK, "all that an installation does is allowed")
        return
    first = refused[0]
    more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
    yield ClusterCheck(
        "rights",
        State.MISSING,
        f"not allowed: {first.text}{more}",
        f"ask the cluster's administrator for the role admin of the namespace, then "
        f"`{first.command}`",
    )


def _tag(deployment: Document) -> str:
    image: Any = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    text = str(image).partition("@")[0]
    return text.rpartition(":")[2] if ":" in text.rpartition("/")[2] else text


def _number(text: object) -> int:
    digits = "".join(letter for letter in str(text) if letter.isdigit())
    return int(digits) if digits else 0
