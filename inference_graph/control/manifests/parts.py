"""What the documents have in common: options, names, and the parts every container has."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from foundation.addresses import split_address
from foundation.errors import ConfigurationError
from foundation.path_roles import InputPath
from inference_graph.gateway.oidc_config import OidcConfig

Document = dict[str, Any]

MODELS = "/mnt/models"
"""Where KServe's storage initializer puts what ``storageUri`` names."""
POLICY_FILE = "policy.onnx"
HTTP_PORT, GRPC_PORT = 8080, 8081
PODS = "-pods"
"""Behind a rung's name: the Service that resolves to each of its pods."""
ROUTER = "router"
USER = 65532
"""Who the containers run as: nobody's number on a node."""
MODEL_LABEL, ROLLOUT_LABEL = "gearshift/model", "gearshift/rollout"
"""Labels of an InferenceService, which KServe hands on to its pods: which rung, or the router, it
serves, as its own name or as that one's canary; and of a canary the rollout that it belongs to."""
CANARY_SUFFIX = "-canary"
"""Behind the name of an InferenceService: its canary's."""
S3_SECRET = "gearshift-s3"
"""Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and with s3.json, which grants them."""
STANDARD = {"serving.kserve.io/deploymentMode": "Standard"}
"""Plain Deployments; Knative would serve one port only, so no gRPC beside REST."""


DRAIN_SECONDS = 45
"""How long a model server that ends goes on answering. KServe's agent, which the payload logger
puts before it, takes requests for 30 s after SIGTERM and would find nobody behind it; routers keep
their connections, and gateways look names up again every 30 s."""
GATEWAY_DRAIN_SECONDS = 15
"""The same of a gateway: until no Service leads to it any more."""
_LAST_SECONDS = 45
"""What a container is given after that: its requests end, its log is closed."""


@dataclass(frozen=True)
class ClusterOptions:
    """Where everything is on a cluster, and how much of it there is.

    Attributes:
        namespace: where everything lives.
        image: the one image, without its tag; the others' names begin with it.
        registry: host and path put before every image, those of PostgreSQL and of the store too;
            without it, these come from docker.io and ours as `image` says.
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
        prometheus_url: where KEDA asks for the figures it scales by.
        prometheus_namespace: from where metrics are scraped.
        hostname: under which the gateway is reached from outside; the dashboard is reached under
            `dashboard.` and the same.
        gateway_class: GatewayClass of the controller that serves these names, where the Gateway
            API does.
        bucket: name of the bucket that the overlays `gke` (gs://) and `onprem` (s3://) keep the
            log and MLflow's artifacts in.
        kubeflow_url: Kubeflow Pipelines' API, which triggers launch a retraining on.
        kubeflow_namespace: where its runs have their pods: where Kubeflow is, or, where it serves
            several users, the one's. They reach MLflow and the store, and triggers may start runs.
        kubeflow_experiment: name of the experiment that triggered runs are listed in.
        pipeline_id: which of its pipelines; Kubeflow shows the id.
        pipeline_reference: its parameter `reference`, as the run's pods find it; the log is named
            by the overlay.
        pipeline_champion: its parameter `champion`, likewise.
        trust: trust file of `gearshift key trust`; whatever loads a model then refuses one that
            none of its keys signed. Its keys are public, and written into the manifests.
    """

    namespace: str = "gearshift"
    image: str = "gearshift"
    registry: str = ""
    version: str = "0.1.0"
    storage: str = "pvc://gearshift-models"
    claim: str = "gearshift-models"
    log_url: str = "/var/lib/gearshift/log"
    events_url: str = "http://gateway/v1/events"
    shadow_share: float = 0.05
    prometheus_release: str = "kube-prometheus-stack"
    prometheus_url: str = "http://prometheus-operated.monitoring:9090"
    prometheus_namespace: str = "monitoring"
    hostname: str = "gearshift.example.com"
    gateway_class: str = "envoy"
    bucket: str = "gearshift"
    kubeflow_url: str = "http://ml-pipeline.kubeflow:8888"
    kubeflow_namespace: str = "kubeflow"
    kubeflow_experiment: str = "gearshift"
    pipeline_id: str = "00000000-0000-0000-0000-000000000000"
    pipeline_reference: str = ""
    pipeline_champion: str = ""
    trust: InputPath | None = None

    def __post_init__(self) -> None:
        """Refuse values Kubernetes would refuse.

        Raises:
            ConfigurationError: names the value and what it must be.
        """
        labels = ("namespace", "claim", "prometheus_namespace", "kubeflow_namespace",
                  "gateway_class")  # fmt: skip
        for name in labels:
            if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", getattr(self, name)):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; give a DNS label")
        if not re.fullmatch(r"[\w][\w.-]{0,120}", self.version, re.ASCII):
            raise ConfigurationError(f"version is {self.version!r}; give an image's tag")
        if not re.fullmatch(r"[a-z0-9][\w.:/-]*[a-z0-9]", self.image, re.ASCII):
            raise ConfigurationError(f"image is {self.image!r}; give its name without a tag")
        if not re.fullmatch(r"([a-z0-9][\w.:/-]*[a-z0-9])?", self.registry, re.ASCII):
            raise ConfigurationError(
                f"registry is {self.registry!r}; give host and path, as registry.example/team"
            )
        if "://" not in self.storage or "://" not in self.events_url:
            raise ConfigurationError(
                f"storage {self.storage!r} and events_url must be urls such as pvc://claim"
            )
        if not re.fullmatch(r"([A-Za-z0-9][\w.-]{0,61})?", self.prometheus_release, re.ASCII):
            raise ConfigurationError(
                f"prometheus_release is {self.prometheus_release!r}; give a label's value"
            )
        for name in ("prometheus_url", "kubeflow_url"):
            url = getattr(self, name)
            if not (url.startswith(("http://", "https://")) and split_address(url).hostname):
                raise ConfigurationError(f"{name} is {url!r}; give one as http://name.namespace:80")
        if not re.fullmatch(r"[a-z0-9]([-.a-z0-9]{0,200}[a-z0-9])?", self.hostname):
            raise ConfigurationError(f"hostname is {self.hostname!r}; give a DNS name")
        if not re.fullmatch(r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]", self.bucket):
            raise ConfigurationError(f"bucket is {self.bucket!r}; give a bucket's name")
        if not self.kubeflow_experiment:
            raise ConfigurationError("kubeflow_experiment is empty; give its name")
        if not re.fullmatch(r"[\w.-]{1,100}", self.pipeline_id, re.ASCII):
            raise ConfigurationError(f"pipeline_id is {self.pipeline_id!r}; give Kubeflow's id")
        if not 0 <= self.shadow_share <= 1:
            raise ConfigurationError(f"shadow_share is {self.shadow_share}; give 0 to 1")


@dataclass(frozen=True)
class ManifestOptions(OidcConfig, ClusterOptions):
    """What differs between clusters, and whose tokens the gateway takes beside its tokens file."""

    def __post_init__(self) -> None:
        """Refuse values Kubernetes, or the gateway, would refuse.

        Raises:
            ConfigurationError: names the value and what it must be.
        """
        ClusterOptions.__post_init__(self)
        OidcConfig.__post_init__(self)
        for name in ("oidc_issuer", "oidc_jwks"):
            told = getattr(self, name)
            if told is not None and not told.startswith("https://"):
                raise ConfigurationError(
                    f"{name} is {told[:80]!r}; give an https:// URL, which pods reach as well"
                )


def image(options: ManifestOptions, role: str = "") -> Document:
    """The image a container runs, one of those that ``images/`` builds.

    Args:
        options: what differs between clusters.
        role: "python", "dashboard" or "mlflow"; without it the image of the serving commands, with
            GPU libraries, whose other build an overlay may choose.
    """
    own = in_registry(options, options.image)
    name = f"{own}-{role}:{options.version}" if role else f"{own}:{options.version}-gpu"
    return {"image": name, "imagePullPolicy": "IfNotPresent"}


def in_registry(options: ManifestOptions, name: str) -> str:
    """An image's name with the registry before it, in place of docker.io."""
    if not options.registry:
        return name
    return f"{options.registry}/{name.removeprefix('docker.io/')}"


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


def draining(seconds: int) -> Document:
    """A container that is told to end so many seconds after its pod is: it answers meanwhile."""
    return {"lifecycle": {"preStop": {"sleep": {"seconds": seconds}}}}


def grace(seconds: int) -> Document:
    """A pod whose containers drain for so long."""
    return {"terminationGracePeriodSeconds": seconds + _LAST_SECONDS}


def resources(cores: str, memory: str) -> dict[str, dict[str, str]]:
    """What a container asks for, and its bounds.

    Memory cannot be taken back, so it is bounded by what was asked for. Cores can: four times as
    many leave room for a burst of frames, and keep a process that runs wild from its neighbours.
    """
    thousandths = int(cores[:-1]) if cores.endswith("m") else int(cores) * 1000
    most = thousandths * 4
    bound = f"{most}m" if most % 1000 else str(most // 1000)
    return {
        "requests": {"cpu": cores, "memory": memory},
        "limits": {"cpu": bound, "memory": memory},
    }


def confined(user: int = USER) -> Document:
    """No root, no privileges, nothing to write but mounted volumes."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pod(
    account: str, containers: Sequence[Document], volumes: Sequence[Document], **more: Any
) -> Document:
    """A pod that is no user of the cluster's API and may write to its volumes only.

    Args:
        account: its ServiceAccount, which is its name to a mesh.
        containers: each confined.
        volumes: besides the one behind /tmp.
        more: further fields.
    """
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # nothing here reads the addresses of Services as variables
        "securityContext": {
            "fsGroup": USER,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **more,
        "containers": list(containers),
        "volumes": [scratch(), *volumes],
    }


def deployment(name: str, spec: Document, **more: Any) -> Document:
    """A Deployment of one pod.

    Args:
        name: its own and its pods' label ``app``.
        spec: of the pod, see :func:`pod`.
        more: fields of the Deployment's own spec, for example its strategy.
    """
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {
            "replicas": 1,
            **more,
            "selector": {"matchLabels": dict(labels)},
            "template": {"metadata": {"labels": dict(labels)}, "spec": spec},
        },
    }


def scratch() -> Document:
    """The volume behind /tmp."""
    return {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}


def claim_template(name: str, size: str) -> Document:
    """A claim of each pod of a StatefulSet, with all that the cluster would fill in.

    It compares the list as a whole: left out, each apply would find the StatefulSet changed.
    """
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
            "volumeMode": "Filesystem",
        },
        "status": {"phase": "Pending"},
    }


def service(name: str, port: int, target: int, **more: Any) -> Document:
    """A Service over the pods labelled with its name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            **more,
            "selector": {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": target, "protocol": "TCP"}],
        },
    }


def component(name: str, options: ManifestOptions, **fields: Any) -> dict[str, list[Any]]:
    """The kustomization of a component in ``components/``, by its path.

    Args:
        name: the component's folder.
        options: what differs between clusters.
        fields: resources, patches and so on.
    """
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "namespace": options.namespace,
        **fields,
    }
    return {f"components/{name}/kustomization.yaml": [content]}
