"""KServe's manifests: written from the ladder, rendered as kustomize does, read by a runner."""

from inference_graph.control.manifests.kustomize import render
from inference_graph.control.manifests.parts import ManifestOptions
from inference_graph.control.manifests.services import ServiceContainer, service_containers
from inference_graph.control.manifests.writer import write_manifests

__all__ = [
    "ManifestOptions",
    "ServiceContainer",
    "render",
    "service_containers",
    "write_manifests",
]
