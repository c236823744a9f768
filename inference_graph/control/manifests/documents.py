"""KServe's runtimes and services, made from the ladder.

Names matter: KServe sends a graph's step to ``/v1/models/<InferenceService>:predict``, so every
service is named after the model it serves, and a rung's service after the rung.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_graph.control.manifests.parts import (
    DRAIN_SECONDS,
    GRPC_PORT,
    HTTP_PORT,
    MODEL_LABEL,
    MODELS,
    PODS,
    POLICY_FILE,
    ROUTER,
    STANDARD,
    Document,
    ManifestOptions,
    confined,
    draining,
    grace,
    image,
    probes,
    resources,
    scratch,
)
from inference_graph.control.manifests.trust import trust_mounts, trust_variables, trust_volumes

DETECTOR_RUNTIME, ROUTER_RUNTIME = "gearshift-detector", "gearshift-router"
DETECTOR, TRANSFORMER = "detector", "transformer"
"""ServiceAccounts of the rungs and of the feature transformer; the router's is its own name."""
GPU = "nvidia.com/gpu"

_DETECTOR_RESOURCES = {"nano": ("1", "1Gi"), "small": ("2", "1Gi"), "large": ("2", "2Gi")}
"""CPU cores and memory that each rung asks for."""


def runtimes(options: ManifestOptions) -> list[Document]:
    """A ServingRuntime each for detectors and router: what their services have in common."""
    kinds = {
        DETECTOR_RUNTIME: "inference_graph.detector",
        ROUTER_RUNTIME: "inference_graph.router",
    }
    return [
        {
            "apiVersion": "serving.kserve.io/v1alpha1",
            "kind": "ServingRuntime",
            "metadata": {"name": name},
            "spec": {
                "supportedModelFormats": [{"name": name, "version": "1", "autoSelect": False}],
                "protocolVersions": ["v1", "v2", "grpc-v2"],
                "containers": [
                    {
                        "name": "kserve-container",
                        **image(options),
                        "command": ["python", "-m", module],
                        "args": ["--model_name={{.Name}}", *_ports_arguments()],
                        **_loading(options),
                    }
                ],
                "volumes": [scratch(), *trust_volumes(options)],
            },
        }
        for name, module in kinds.items()
    ]


def detector(rung: str, options: ManifestOptions) -> Document:
    """A rung's InferenceService, on a GPU."""
    cores, memory = _DETECTOR_RESOURCES[rung]
    arguments = (f"--rung={rung}", f"--weights={MODELS}/{rung}.onnx", "--provider=cuda")
    predictor = _predictor(DETECTOR, DETECTOR_RUNTIME, f"{options.storage}/ladder", arguments)
    asked = resources(cores, memory)
    for side in asked.values():
        side[GPU] = "1"
    predictor["model"]["resources"] = asked
    predictor["logger"] = {"mode": "all", "url": options.events_url}
    return _service(rung, {"predictor": predictor})


def detector_pods(rung: str) -> Document:
    """A Service without an address of its own, whose name resolves to every pod of a rung.

    A gRPC connection stays with the pod it was made to. The gateway therefore has one to each, and
    takes turns; through the predictor's Service all its frames would go to one replica.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"{rung}{PODS}"},
        "spec": {
            "clusterIP": "None",
            "selector": {"serving.kserve.io/inferenceservice": rung},
            "ports": [
                {"name": "grpc", "port": GRPC_PORT, "targetPort": GRPC_PORT, "protocol": "TCP"}
            ],
        },
    }


def router(options: ManifestOptions) -> Document:
    """The policy's InferenceService, with the feature transformer before it."""
    predictor = _predictor(
        ROUTER, ROUTER_RUNTIME, f"{options.storage}/policy", (f"--policy={MODELS}/{POLICY_FILE}",)
    )
    predictor["model"]["resources"] = resources("500m", "512Mi")
    transformer = {
        **_component(TRANSFORMER),
        "containers": [
            {
                "name": "kserve-container",
                **image(options),
                "command": ["python", "-m", "feature_transformer"],
                # KServe adds --predictor_host; the model's name must be the service's.
                "args": [f"--model_name={ROUTER}", *_ports_arguments()],
                **_serving(),
                "resources": resources("1", "512Mi"),
            }
        ],
        "volumes": [scratch()],
    }
    return _service(ROUTER, {"predictor": predictor, "transformer": transformer})


def _service(name: str, spec: Document) -> Document:
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            # Without it KServe opens an Ingress to each: the graph and the gateway are the way in.
            "labels": {MODEL_LABEL: name, "networking.kserve.io/visibility": "cluster-local"},
            "annotations": dict(STANDARD),
        },
        "spec": spec,
    }


def _predictor(account: str, runtime: str, storage: str, arguments: Sequence[str]) -> Document:
    return {
        **_component(account),
        "model": {
            "modelFormat": {"name": runtime, "version": "1"},
            "runtime": runtime,
            "protocolVersion": "v1",  # the graph speaks it; v2 and gRPC are served as well
            "storageUri": storage,
            "args": list(arguments),
        },
    }


def _component(account: str) -> Document:
    """What predictors and transformers have in common."""
    return {
        "minReplicas": 1,
        # One pod more while pods are replaced, and none less: with one GPU each, that is one spare.
        "deploymentStrategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        **grace(DRAIN_SECONDS),
    }


def _loading(options: ManifestOptions) -> Document:
    """What a container on KServe's model server has that loads a model."""
    found = _serving()
    if variables := trust_variables(options):
        found["env"] = variables
    found["volumeMounts"] += trust_mounts(options)
    return found


def _serving() -> Document:
    """What every container on KServe's model server has."""
    return {
        "ports": [
            {"name": "http1", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "grpc", "containerPort": GRPC_PORT, "protocol": "TCP"},
        ],
        **probes("/v2/health/live", "/v2/health/ready", HTTP_PORT),
        **draining(DRAIN_SECONDS),
        "securityContext": confined(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _ports_arguments() -> tuple[str, str]:
    return f"--http_port={HTTP_PORT}", f"--grpc_port={GRPC_PORT}"
