"""A KServe InferenceGraph outside KServe: its manifest, its routing, its server."""

from inference_graph.graph.execute import GraphAnswer, GraphExecutor
from inference_graph.graph.server import build_app, serve_graph
from inference_graph.graph.services import ServiceUrls
from inference_graph.graph.spec import InferenceGraphSpec, load_graph

__all__ = [
    "GraphAnswer",
    "GraphExecutor",
    "InferenceGraphSpec",
    "ServiceUrls",
    "build_app",
    "load_graph",
    "serve_graph",
]
