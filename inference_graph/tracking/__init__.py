"""Memory over frames: the objects of a stream, followed from one look to the next."""

from inference_graph.tracking.tracker import TrackedDetections, Tracker, TrackerConfig

__all__ = ["TrackedDetections", "Tracker", "TrackerConfig"]
