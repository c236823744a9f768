"""Where the client of the gateway was before; see :mod:`inference_graph.clients.gateway`."""

from inference_graph.clients.gateway import StreamClient, stream_video

__all__ = ["StreamClient", "stream_video"]
