"""The gateway: frames over WebSocket or HTTP in, detections of the right-sized rung out."""

from inference_graph.gateway.settings import GatewaySettings

__all__ = ["GatewaySettings"]
