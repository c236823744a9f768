"""What differs between clusters: the options of ``gearshift manifests``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from foundation.addresses import split_address
from foundation.configuration import configuration
from foundation.errors import ConfigurationError
from foundation.path_roles import InputPath
from inference_graph.gateway.oidc_config import OidcConfig

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", "a DNS label"
_PLAIN = r"[^\"\\\x00-\x1f]"
"""What YAML's quotation marks hold as it is: the triggers file has these values in them."""
_URL = rf"[a-z0-9+]+://{_PLAIN}+", "an address such as pvc://claim or http://name.namespace:80"
_PATTERNS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        (
            "namespace",
            "claim",
            "prometheus_namespace",
            "kubeflow_namespace",
            "gateway_class",
            "kafka_namespace",
            "kafka_cluster",
        ),
        _LABEL,
    ),
    "version": (r"[\w][\w.-]{0,120}", "an image's tag"),
    "image": (r"[a-z0-9][\w.:/-]*[a-z0-9]", "its name without a tag"),
    "registry": (r"([a-z0-9][\w.:/-]*[a-z0-9])?", "host and path, as registry.example/team"),
    "storage": _URL,
    "events_url": _URL,
    "log_url": (f"{_PLAIN}+", "a folder, s3:// or gs://"),
    "prometheus_release": (r"([A-Za-z0-9][\w.-]{0,61})?", "a label's value"),
    "hostname": (r"[a-z0-9]([-.a-z0-9]{0,200}[a-z0-9])?", "a DNS name"),
    "bucket": (r"[a-z0-9][-.a-z0-9]{1,61}[a-z0-9]", "a bucket's name"),
    "kubeflow_experiment": (f"{_PLAIN}+", "its name"),
    "pipeline_id": (r"[\w.-]{1,100}", "Kubeflow's id"),
    "pipeline_reference": (f"{_PLAIN}*", "an address"),
    "pipeline_champion": (f"{_PLAIN}*", "an address"),
    "kafka_security": (
        "plaintext|ssl|sasl_plaintext|sasl_ssl",
        "plaintext, ssl, sasl_plaintext or sasl_ssl",
    ),
    "kafka_mechanism": (
        "PLAIN|SCRAM-SHA-256|SCRAM-SHA-512",
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    ),
    "kafka_bootstrap": (r"[\w.-]+:[0-9]{1,5}(,[\w.-]+:[0-9]{1,5})*", "brokers as HOST:PORT"),
}
"""What each option must be, as an expression and in words."""


@configuration
class ClusterOptions:
    """Where everything is on a cluster, and how much of it there is.

    Attributes:
        namespace: where everything lives.
        image: the one image, without its tag; the others' names begin with it.
        registry: host and path put before every image, those of PostgreSQL and of the store too;
            without it, these come from docker.io and ours as `image` names it.
        version: its tag; the image with GPU libraries has ``-gpu`` behind it.
        task: of the ladder: detection; ocr or speech, whose engines run on CPUs, in the image with
            ``-ocr`` or ``-speech`` behind its tag.
        storage: where the weights are, as KServe's ``storageUri``: ``ladder/<rung>.onnx`` and
            ``policy/policy.onnx`` below it. pvc://, s3://, gs:// or https://.
        claim: PersistentVolumeClaim the gateway reads ``policy/policy.onnx`` from.
        log_url: the gateway's prediction log.
        events_url: where detectors post their requests and answers, as CloudEvents; with
            credentials as http://NAME:TOKEN@host/... The gateway's gets its own.
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
        kafka_bootstrap: brokers that frames come from, in the overlay `kafka`, as HOST:PORT.
        kafka_namespace: where Strimzi keeps that Kafka and its topics.
        kafka_cluster: name of the Kafka there.
        kafka_security: how its brokers are reached: plaintext, ssl (with a client's certificate),
            sasl_plaintext or sasl_ssl; the Secret `gearshift-kafka` holds what it takes.
        kafka_mechanism: of SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
        trust: trust file of `gearshift key trust`; whatever loads a model then refuses one that
            none of its keys signed. Its keys are public, and written into the manifests.
    """

    namespace: str = "gearshift"
    image: str = "gearshift"
    registry: str = ""
    version: str = "0.1.0"
    task: Literal["detection", "ocr", "speech"] = "detection"
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
    kafka_bootstrap: str = "kafka-kafka-bootstrap.kafka:9092"
    kafka_namespace: str = "kafka"
    kafka_cluster: str = "kafka"
    kafka_security: str = "plaintext"
    kafka_mechanism: str = "SCRAM-SHA-512"
    trust: InputPath | None = None

    def __post_init__(self) -> None:
        """Refuse values Kubernetes would refuse.

        Raises:
            ConfigurationError: names the value and what it must be.
        """
        for name, (pattern, wanted) in _PATTERNS.items():
            if not re.fullmatch(pattern, getattr(self, name), re.ASCII):
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}; give {wanted}")
        for name in ("prometheus_url", "kubeflow_url"):
            url = getattr(self, name)
            if not (re.fullmatch(f"https?://{_PLAIN}+", url) and split_address(url).hostname):
                raise ConfigurationError(f"{name} is {url!r}; give one as http://name.namespace:80")
        if not 0 <= self.shadow_share <= 1:
            raise ConfigurationError(f"shadow_share is {self.shadow_share}; give 0 to 1")


@configuration
class ManifestOptions(OidcConfig, ClusterOptions):
    """What differs between clusters, and whose tokens the gateway takes beside its tokens file."""

    def __post_init__(self) -> None:
        """Refuse values that Kubernetes or the gateway would refuse.

        Raises:
            ConfigurationError: names the value and what it must be.
        """
        ClusterOptions.__post_init__(self)
        OidcConfig.__post_init__(self)
        for name in ("oidc_issuer", "oidc_jwks"):
            url = getattr(self, name)
            if url is not None and not url.startswith("https://"):
                raise ConfigurationError(
                    f"{name} is {url[:80]!r}; give an https:// URL, which pods reach as well"
                )
