"""The decision: the ONNX policy, the router of one stream, and the KServe service."""

from inference_graph.router.frame_router import FrameRouter
from inference_graph.router.policy import Policy

__all__ = ["FrameRouter", "Policy"]
