"""KServe's manifests: written for a cluster, rendered as kustomize does, read by a runner."""

from inference_graph.control.manifests.options import ManifestOptions
from inference_graph.control.manifests.render import render
from inference_graph.control.manifests.services import ServiceContainer, service_containers
from inference_graph.control.manifests.writer import write_manifests

__all__ = [
    "ManifestOptions",
    "ServiceContainer",
    "render",
    "service_containers",
    "write_manifests",
]
