"""The one part of the manifests that is written: what is a cluster's own.

``site/settings`` is a ConfigMap of values, which the kustomizations copy from by ``replacements``
and which is never applied. The others are components that choose between hand-written ones:
``site/namespace``, ``site/access`` (whose models and tokens count), ``site/weights`` (where weights
come from), ``site/kubeflow`` (where Kubeflow is) and ``site/kafka`` (how its brokers are reached).
"""

from __future__ import annotations

from typing import Any

import yaml

from feature_transformer.makers import DETECTION
from foundation.addresses import split_address
from foundation.signing.trust import read_trust
from inference_graph.control.manifests.names import GATEWAY, MANIFESTS, PART_OF, Document
from inference_graph.control.manifests.options import ManifestOptions
from inference_graph.control.manifests.render import KUSTOMIZATION

_KAFKA_SECRET = "/etc/kafka"
_KEDA_SASL = {
    "PLAIN": "plaintext",
    "SCRAM-SHA-256": "scram_sha256",
    "SCRAM-SHA-512": "scram_sha512",
}


def site_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """Documents by file name below the folder of the manifests.

    Args:
        options: what differs between clusters.

    Raises:
        ConfigurationError: the trust file is none.
    """
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "gearshift-settings",
            "annotations": {"config.kubernetes.io/local-config": "true"},
        },
        "data": _settings(options),
    }
    inside = _kubeflow_namespace(options) is not None
    return {
        "site/settings/settings.yaml": [settings],
        f"site/settings/{KUSTOMIZATION}": [_kustomization(resources=["settings.yaml"])],
        f"site/namespace/{KUSTOMIZATION}": [
            _component(namespace=options.namespace, labels=[{"pairs": PART_OF}])
        ],
        f"site/kubeflow/{KUSTOMIZATION}": [
            _choice("kubeflow-inside" if inside else "kubeflow-outside")
        ],
        f"site/weights/{KUSTOMIZATION}": [_choice(*_weights(options))],
        **_access(options),
        **_kafka(options),
    }


def _settings(options: ManifestOptions) -> dict[str, str]:
    own = _in_registry(options, options.image)
    tag = options.version
    engines = "" if options.task == DETECTION else f"-{options.task}"
    log = f"s3://{options.bucket}/log?endpoint_override=objects%s:8333&scheme=http&region=us-east-1"
    return {
        "namespace": options.namespace,
        "image-cpu": f"{own}:{tag}{engines}",
        "image-gpu": f"{own}:{tag}{engines or '-gpu'}",
        **{
            f"image-{role}": f"{own}-{role}:{tag}"
            for role in ("python", "dashboard", "mlflow", "flink")
        },
        **_store_images(options),
        "ladder": f"{options.storage}/ladder",
        "policy": f"{options.storage}/policy",
        "weights-port": str(_port(options.storage)),
        "claim": options.claim,
        "log-url": options.log_url,
        "log-gs": f"gs://{options.bucket}/log",
        "log-s3": log % "",
        # Pods of a run on Kubeflow are of another namespace.
        "log-s3-elsewhere": log % f".{options.namespace}.svc",
        "bucket": options.bucket,
        "shadow-share": str(options.shadow_share),
        "hostname": options.hostname,
        "dashboard-hostname": f"dashboard.{options.hostname}",
        "login-hostname": f"login.{options.hostname}",
        "gateway-class": options.gateway_class,
        "prometheus-release": options.prometheus_release,
        "prometheus-url": options.prometheus_url,
        "prometheus-namespace": options.prometheus_namespace,
        "kubeflow-url": options.kubeflow_url,
        "kubeflow-api-namespace": _kubeflow_namespace(options) or "",
        "kubeflow-api-port": str(_port(options.kubeflow_url)),
        "kubeflow-namespace": options.kubeflow_namespace,
        "kubeflow-experiment": options.kubeflow_experiment,
        "pipeline-id": options.pipeline_id,
        "pipeline-reference": options.pipeline_reference,
        "pipeline-champion": options.pipeline_champion,
        "kafka-bootstrap": options.kafka_bootstrap,
        "kafka-namespace": options.kafka_namespace,
        "kafka-cluster": options.kafka_cluster,
        "kafka-port": options.kafka_bootstrap.rpartition(":")[2],
    }


def _access(options: ManifestOptions) -> dict[str, list[Any]]:
    """The trust file, and the issuer whose tokens the gateway takes beside its tokens file."""
    files: dict[str, list[Any]] = {}
    resources: list[str] = []
    chosen: list[str] = []
    fields: dict[str, Any] = {}
    if options.trust is not None:
        trust = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "gearshift-trust"},
            "data": {"trust.json": read_trust(options.trust).text()},
        }
        files["site/access/trust.yaml"] = [trust]
        resources.append("trust.yaml")
        chosen.append("trust")
    if options.oidc_issuer is not None:
        arguments = [
            {
                "op": "add",
                "path": "/spec/template/spec/containers/0/args/-",
                "value": f"--{name}={value}",
            }
            for name, value in options.changed.items()
        ]
        files["site/access/issuer.yaml"] = [_issuer_policy(options)]
        files["site/access/arguments.yaml"] = [arguments]
        resources.append("issuer.yaml")
        target = {"kind": "StatefulSet", "name": GATEWAY}
        fields["patches"] = [{"path": "arguments.yaml", "target": target}]
    if resources:
        fields["resources"] = resources
    return {**files, f"site/access/{KUSTOMIZATION}": [_choice(*chosen, **fields)]}


def _kafka(options: ManifestOptions) -> dict[str, list[Any]]:
    """Worker, Flink's job and KEDA's trigger with what the brokers ask of their clients."""
    folder, security = "site/kafka", options.kafka_security
    if security == "plaintext":
        return {f"{folder}/{KUSTOMIZATION}": [_choice()]}
    over_tls, by_password = security.endswith("ssl"), security.startswith("sasl")
    arguments = [f"--security={security}"]
    scaler = {"tls": "enable" if over_tls else "disable"}
    keys: dict[str, str] = {}
    if over_tls:
        arguments.append(f"--ca={_KAFKA_SECRET}/ca.crt")
        keys["ca"] = "ca.crt"
    if by_password:
        arguments += [f"--mechanism={options.kafka_mechanism}", f"--credentials={_KAFKA_SECRET}"]
        scaler["sasl"] = _KEDA_SASL[options.kafka_mechanism]
        keys |= {"username": "username", "password": "password"}
    else:
        arguments.append(f"--certificate={_KAFKA_SECRET}/user.crt")
        arguments.append(f"--private_key={_KAFKA_SECRET}/user.key")
        keys |= {"cert": "user.crt", "key": "user.key"}
    authentication = {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "TriggerAuthentication",
        "metadata": {"name": "kafka-worker"},
        "spec": {
            "secretTargetRef": [
                {"parameter": name, "name": "gearshift-kafka", "key": key}
                for name, key in keys.items()
            ]
        },
    }
    additions = (
        (
            "worker.yaml",
            "StatefulSet",
            "kafka-worker",
            [("/spec/template/spec/containers/0/args/-", one) for one in arguments],
        ),
        (
            "preparation.yaml",
            "FlinkDeployment",
            "preparation",
            [("/spec/job/args/-", one) for one in arguments],
        ),
        (
            "scaler.yaml",
            "ScaledObject",
            "kafka-worker",
            [(f"/spec/triggers/0/metadata/{name}", one) for name, one in scaler.items()],
        ),
    )
    files: dict[str, list[Any]] = {f"{folder}/authentication.yaml": [authentication]}
    patches = []
    for file, kind, name, added in additions:
        files[f"{folder}/{file}"] = [
            [{"op": "add", "path": path, "value": value} for path, value in added]
        ]
        patches.append({"path": file, "target": {"kind": kind, "name": name}})
    chosen = _choice("kafka-secret", resources=["authentication.yaml"], patches=patches)
    return {**files, f"{folder}/{KUSTOMIZATION}": [chosen]}


def _issuer_policy(options: ManifestOptions) -> Document:
    """Let the gateway ask its issuer for keys, wherever outside of the cluster that is."""
    ports = sorted({_port(url) for url in (options.oidc_issuer, options.oidc_jwks) if url})
    rule = {
        "to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}],
        "ports": [{"protocol": "TCP", "port": port} for port in ports],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "issuer-gateway"},
        "spec": {
            "podSelector": {"matchLabels": {"app": GATEWAY}},
            "policyTypes": ["Egress"],
            "egress": [rule],
        },
    }


def _weights(options: ManifestOptions) -> list[str]:
    """Components for where the weights are, and on what they run.

    A claim or an image is what the node brings.
    """
    scheme = split_address(options.storage).scheme
    chosen = [] if options.task == DETECTION else ["engines"]
    if scheme in ("pvc", "oci"):
        return chosen
    return [*chosen, f"weights-{scheme}" if scheme in ("s3", "gs") else "weights-outside"]


def _kubeflow_namespace(options: ManifestOptions) -> str | None:
    """Of SERVICE.NAMESPACE, with or without what the cluster puts behind it; None elsewhere."""
    name, *rest = (split_address(options.kubeflow_url).hostname or "").split(".")
    return rest[0] if name and rest and (len(rest) == 1 or rest[1] == "svc") else None


def _port(url: str) -> int:
    """An address's port; of a store without one that of HTTPS."""
    parts = split_address(url)
    return parts.port or (80 if parts.scheme == "http" else 443)


def _store_images(options: ManifestOptions) -> dict[str, str]:
    """The images that are not ours, as they stand in the tree, from the registry."""
    text = (MANIFESTS / "components" / "stores" / "stores.yaml").read_text("utf-8")
    stores = [one for one in yaml.safe_load_all(text) if one["kind"] == "StatefulSet"]
    return {
        f"image-{one['metadata']['name']}": _in_registry(
            options, one["spec"]["template"]["spec"]["containers"][0]["image"]
        )
        for one in stores
    }


def _in_registry(options: ManifestOptions, name: str) -> str:
    """An image's name with the registry before it, in place of docker.io."""
    if not options.registry:
        return name
    return f"{options.registry}/{name.removeprefix('docker.io/')}"


def _choice(*components: str, **fields: Any) -> Document:
    """A component of others; kustomize refuses an empty one, so it sets the namespace again."""
    names = [f"../../components/{name}" for name in components]
    return _component(**fields, components=[*names, "../namespace"])


def _component(**fields: Any) -> Document:
    return {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", **fields}


def _kustomization(**fields: Any) -> Document:
    return {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", **fields}
