"""Writes the manifests: a kustomize base, components and overlays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foundation.errors import ConfigurationError
from foundation.storage import atomic_path
from inference_graph.contract import LADDER
from inference_graph.control.manifests.bucket import bucket_files
from inference_graph.control.manifests.dashboard import dashboard_files
from inference_graph.control.manifests.documents import (
    DETECTOR,
    GPU,
    TRANSFORMER,
    detector,
    detector_pods,
    router,
    runtimes,
)
from inference_graph.control.manifests.draining import draining_files
from inference_graph.control.manifests.drift import drift_files
from inference_graph.control.manifests.flows import component_flows, serving_flows
from inference_graph.control.manifests.gateway import GATEWAY, accounts, gateway, namespace
from inference_graph.control.manifests.gateway_api import gateway_api_files
from inference_graph.control.manifests.graphs import (
    GRAPH,
    GRAPH_ACCOUNT,
    graph,
    plain_nodes,
    shadow_nodes,
)
from inference_graph.control.manifests.ingress import ingress_files
from inference_graph.control.manifests.istio import istio_files
from inference_graph.control.manifests.kubeflow import launch_policies, runs_files
from inference_graph.control.manifests.mlflow import mlflow_files
from inference_graph.control.manifests.monitors import monitoring_files
from inference_graph.control.manifests.network import (
    PUBLIC,
    closed,
    flow_policies,
    issuer_policies,
    outward,
)
from inference_graph.control.manifests.parts import ROUTER, Document, ManifestOptions, in_registry
from inference_graph.control.manifests.promoted import (
    PROMOTED,
    Promoted,
    promoted_files,
    read_promoted,
)
from inference_graph.control.manifests.rollout import ROLLOUT, rollout_files
from inference_graph.control.manifests.scaling import disruption_budgets, hpa_files, keda_files
from inference_graph.control.manifests.stores import stores_files
from inference_graph.control.manifests.targets import ELSEWHERE, OVERLAYS, target_files
from inference_graph.control.manifests.triggers import triggers_files
from inference_graph.control.manifests.trust import trust_documents
from inference_graph.control.manifests.weights import weights_policies, with_keys
from inference_graph.control.monitoring.objectives import Objectives

_HEADER = "# Written from the ladder by inference_graph.control.manifests; change it there.\n"
KUSTOMIZATION = "kustomization.yaml"


def write_manifests(
    out: Path, options: ManifestOptions | None = None, objectives: Objectives | None = None
) -> tuple[Path, ...]:
    """Write all manifests below a folder; other files there stay, and so does what was promoted.

    Args:
        out: the folder, for example ``manifests``.
        options: what differs between clusters; the committed ones without it.
        objectives: when somebody is told; likewise.

    Returns:
        The files written.

    Raises:
        StorageError: the folder cannot be written.
        ConfigurationError: its patches of what was promoted are broken.
    """
    options = options or ManifestOptions()
    files = manifest_files(options, objectives or Objectives())
    return _write(out, files | promoted_files(options, read_promoted(out)))


def write_promoted(out: Path, namespace: str, promoted: Mapping[str, Promoted]) -> tuple[Path, ...]:
    """Write what was promoted into a folder of manifests, as the patches its overlays end with.

    Args:
        out: the folder, which `write_manifests` wrote.
        namespace: of the installation.
        promoted: by InferenceService; those that are not in it are as in the manifests.

    Raises:
        ConfigurationError: it is no such folder.
        StorageError: it cannot be written.
    """
    if not (out / "base" / KUSTOMIZATION).is_file():
        raise ConfigurationError(f"{out} holds no manifests; name the folder that gearshift wrote")
    return _write(out, promoted_files(ManifestOptions(namespace=namespace), promoted))


def _write(out: Path, files: Mapping[str, Sequence[Any]]) -> tuple[Path, ...]:
    for name, documents in files.items():
        with atomic_path(out / name) as path:
            path.write_text(_HEADER + _yaml(documents), encoding="utf-8")
    return tuple(out / name for name in files)


def manifest_files(options: ManifestOptions, objectives: Objectives) -> dict[str, list[Any]]:
    """Documents by file name below the folder; a patch file holds one list of operations."""
    base: dict[str, list[Any]] = {
        "namespace.yaml": [
            namespace(options),
            *with_keys(accounts(DETECTOR, ROUTER, TRANSFORMER, GRAPH_ACCOUNT, GATEWAY), options),
        ],
        "runtimes.yaml": [*runtimes(options), *trust_documents(options)],
        "detectors.yaml": [
            one for rung in LADDER for one in (detector(rung, options), detector_pods(rung))
        ],
        "router.yaml": [router(options)],
        "graph.yaml": [graph(plain_nodes())],
        "gateway.yaml": gateway(options),
        "budgets.yaml": disruption_budgets(),
        "network.yaml": [
            *closed(),
            *flow_policies(serving_flows(options)),
            *issuer_policies(options),
            *weights_policies(options),
        ],
    }
    files = {f"base/{name}": documents for name, documents in base.items()}
    files[f"base/{KUSTOMIZATION}"] = [
        _kustomization(namespace=options.namespace, resources=list(base))
    ]
    files |= _component("cpu", _cpu_patches(), images=[
        {"name": in_registry(options, options.image), "newTag": options.version}
    ])  # fmt: skip
    files |= _component("gpu-nodes", _gpu_patches())
    files |= _component("shadow", _shadow_patches(options))
    files |= _platform_files(options)
    files |= monitoring_files(options, objectives)
    for overlay, components in OVERLAYS.items():
        files[f"overlays/{overlay}/{KUSTOMIZATION}"] = [
            _kustomization(
                resources=["../../base"],
                components=[
                    f"../../{name}"
                    for name in (
                        *components,
                        # What a rollout promoted counts more than what any component says.
                        f"components/{PROMOTED}",
                        *ELSEWHERE.get(overlay, ()),
                    )
                ],
            )
        ]
    return files


def _platform_files(options: ManifestOptions) -> dict[str, list[Any]]:
    """What stands beside the serving, each a component, and the overlays that combine them."""
    policies = {
        name: flow_policies(flows, prefix=f"{name}-")
        for name, flows in component_flows(options).items()
    }
    files = drift_files(options)
    files |= dashboard_files(options, policies["dashboard"])
    files |= mlflow_files(options, policies["mlflow"])
    files |= stores_files(options, policies["stores"])
    files |= triggers_files(options, launch_policies(options))
    files |= runs_files(options)
    # The API server has no fixed address that could be named here.
    asked = outward("api-rollout", ROLLOUT, (443, 6443), PUBLIC)
    files |= rollout_files(options, [*policies["rollout"], asked])
    written = {
        (one["kind"], one["metadata"]["name"]): one
        for documents in files.values()
        for one in documents
        if isinstance(one, dict) and one["kind"] in ("Deployment", "CronJob")
    }
    (written["StatefulSet", GATEWAY],) = (
        one for one in gateway(options) if one["kind"] == "StatefulSet"
    )
    files |= bucket_files(options, written)
    files |= hpa_files(options)
    files |= keda_files(options)
    files |= istio_files(options)
    files |= draining_files(options)
    files |= ingress_files(options)
    files |= gateway_api_files(options)
    return files | target_files(options)


def _cpu_patches() -> dict[str, tuple[Document, list[Document]]]:
    """Every detector on the CPU, without a GPU and with threads for its cores."""
    patches = {}
    for rung in LADDER:
        arguments = detector(rung, ManifestOptions())["spec"]["predictor"]["model"]["args"]
        place = arguments.index("--provider=cuda")
        model = "/spec/predictor/model"
        gpu = GPU.replace("/", "~1")
        operations: list[Document] = [
            {"op": "replace", "path": f"{model}/args/{place}", "value": "--provider=cpu"},
            {"op": "remove", "path": f"{model}/resources/requests/{gpu}"},
            {"op": "remove", "path": f"{model}/resources/limits/{gpu}"},
        ]
        patches[f"{rung}.yaml"] = {"kind": "InferenceService", "name": rung}, operations
    return patches


def _gpu_patches() -> dict[str, tuple[Document, list[Document]]]:
    """Nodes with GPUs are often kept for those who tolerate them."""
    toleration = {"key": GPU, "operator": "Exists", "effect": "NoSchedule"}
    operation = {"op": "add", "path": "/spec/predictor/tolerations", "value": [toleration]}
    names = "|".join(LADDER)
    return {"tolerations.yaml": ({"kind": "InferenceService", "name": names}, [operation])}


def _shadow_patches(options: ManifestOptions) -> dict[str, tuple[Document, list[Document]]]:
    """The graph that asks the reference too, and a transformer that samples for it."""
    nodes = {"op": "replace", "path": "/spec/nodes", "value": shadow_nodes()}
    share = {
        "op": "add",
        "path": "/spec/transformer/containers/0/args/-",
        "value": f"--shadow_share={options.shadow_share}",
    }
    return {
        "graph.yaml": ({"kind": "InferenceGraph", "name": GRAPH}, [nodes]),
        "transformer.yaml": ({"kind": "InferenceService", "name": ROUTER}, [share]),
    }


def _component(
    name: str, patches: Mapping[str, tuple[Document, list[Document]]], **more: Any
) -> dict[str, list[Any]]:
    folder = f"components/{name}"
    files: dict[str, list[Any]] = {
        f"{folder}/{file}": [operations] for file, (_, operations) in patches.items()
    }
    listed = [{"path": file, "target": target} for file, (target, _) in patches.items()]
    files[f"{folder}/{KUSTOMIZATION}"] = [
        {
            "apiVersion": "kustomize.config.k8s.io/v1alpha1",
            "kind": "Component",
            **more,
            "patches": listed,
        }
    ]
    return files


def _kustomization(**fields: Any) -> Document:
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        **fields,
    }


class _Plain(yaml.SafeDumper):
    """Without anchors, which few expect in a manifest."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(documents: Sequence[Any]) -> str:
    return "---\n".join(
        yaml.dump(one, Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True)
        for one in documents
    )
