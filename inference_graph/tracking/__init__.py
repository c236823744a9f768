"""Memory over frames: the objects of a stream, followed from one look to the next."""

from inference_graph.tracking.reuse import ReuseConfig, may_reuse
from inference_graph.tracking.stream_tracks import StreamTracks
from inference_graph.tracking.tracker import RUNG_TRUST, TrackedDetections, Tracker, TrackerConfig

__all__ = [
    "RUNG_TRUST",
    "ReuseConfig",
    "StreamTracks",
    "TrackedDetections",
    "Tracker",
    "TrackerConfig",
    "may_reuse",
]
