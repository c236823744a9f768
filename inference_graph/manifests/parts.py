"""What the documents have in common: options, names, and the parts every container has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from feature_transformer.errors import ConfigurationError

Document = dict[str, Any]

MODELS = "/mnt/models"
"""Where KServe's storage initializer puts what ``storageUri`` names."""
POLICY_FILE = "policy.onnx"
HTTP_PORT, GRPC_PORT = 8080, 8081
ROUTER = "router"
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}
"""Plain Deployments; Knative would serve one port only, so no gRPC beside REST."""


@dataclass(frozen=True)
class ManifestOptions:
    """What differs between clusters.

    Attributes:
        namespace: where everything lives.
        image: the one image, without its tag.
        version: its tag; the image with GPU libraries has ``-gpu`` behind it.
        storage: where the weights are, as KServe's ``storageUri``: ``ladder/<rung>.onnx`` and
            ``policy/policy.onnx`` below it. pvc://, s3://, gs:// or https://.
        claim: PersistentVolumeClaim the gateway reads ``policy/policy.onnx`` from.
        log_url: the gateway's prediction log.
        events_url: where KServe's payload logger posts to. Its credentials can only stand in
            here, as http://NAME:TOKEN@host/...
        shadow_share: share of the graph's requests that the reference looks at too, 0..1.
        prometheus_release: label `release` by which the Prometheus operator chooses monitors and
            rules; the chart's own release, or nothing where it takes them all.
    """

    namespace: str = "gearshift"
    image: str = "gearshift"
    version: str = "0.1.0"
    storage: str = "pvc://gearshift-models"
    claim: str = "gearshift-models"
    log_url: str = "/var/lib/gearshift/log"
    events_url: str = "http://gateway/v1/events"
    shadow_share: float = 0.05
    prometheus_release: str = "kube-prometheus-stack"

    def __post_init__(self) -> None:
        """Refuse values Kubernetes would refuse.

        Raises:
            ConfigurationError: names the value and what it must be.
        """
        for name in ("namespace", "claim"):
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", getattr(self, name)):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; give a DNS label")
        if not re.fullmatch(r"[\w][\w.-]{0,120}", self.version, re.ASCII):
            raise ConfigurationError(f"version is {self.version!r}; give an image's tag")
        if not re.fullmatch(r"[a-z0-9][\w.:/-]*[a-z0-9]", self.image, re.ASCII):
            raise ConfigurationError(f"image is {self.image!r}; give its name without a tag")
        if "://" not in self.storage or "://" not in self.events_url:
            raise ConfigurationError(
                f"storage {self.storage!r} and events_url must be urls such as pvc://claim"
            )
        if not re.fullmatch(r"([A-Za-z0-9][\w.-]{0,61})?", self.prometheus_release, re.ASCII):
            raise ConfigurationError(
                f"prometheus_release is {self.prometheus_release!r}; give a label's value"
            )
        if not 0 <= self.shadow_share <= 1:
            raise ConfigurationError(f"shadow_share is {self.shadow_share}; give 0 to 1")


def image(options: ManifestOptions) -> Document:
    """The image every container runs, with GPU libraries; an overlay may choose the other one."""
    return {"image": f"{options.image}:{options.version}-gpu", "imagePullPolicy": "IfNotPresent"}


def probes(live: str, ready: str, port: int) -> Document:
    """Startup, liveness and readiness."""

    def probe(path: str, **times: int) -> Document:
        return {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 2, **times}

    return {
        # Loading a rung and comparing its provider with fp32 may take minutes.
        "startupProbe": probe(live, periodSeconds=2, failureThreshold=150),
        "livenessProbe": probe(live, periodSeconds=10, failureThreshold=3),
        "readinessProbe": probe(ready, periodSeconds=5, failureThreshold=2),
    }


def resources(cores: str, memory: str) -> dict[str, dict[str, str]]:
    """Memory is bounded; a bound on CPU would throttle a burst of frames."""
    return {"requests": {"cpu": cores, "memory": memory}, "limits": {"memory": memory}}


def confined() -> Document:
    """No root, no privileges, nothing to write but mounted volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def scratch() -> Document:
    """The volume behind /tmp."""
    return {"name": "tmp", "emptyDir": {}}
