"""KServe's manifests: written from the ladder, rendered as kustomize does, read by a runner."""

from inference_graph.manifests.kustomize import render
from inference_graph.manifests.parts import ManifestOptions
from inference_graph.manifests.services import ServiceContainer, service_containers
from inference_graph.manifests.writer import write_manifests

__all__ = [
    "ManifestOptions",
    "ServiceContainer",
    "render",
    "service_containers",
    "write_manifests",
]
