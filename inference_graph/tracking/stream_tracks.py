"""The tracks of one stream in service: frames are dropped, sizes change, and rungs take turns."""

from __future__ import annotations

from collections.abc import Sequence

from inference_graph.contract import Detections
from inference_graph.tracking.tracker import RUNG_TRUST, TrackedDetections, Tracker, TrackerConfig


class StreamTracks:
    """Fuses the answers of one stream, in order; make one for each stream.

    A frame of another size, or an answer with other classes, ends all tracks: boxes and labels
    would not be comparable.
    """

    def __init__(self, config: TrackerConfig | None = None) -> None:
        """Start without tracks."""
        self._tracker = Tracker(config)
        self._number: int | None = None
        self._size: tuple[int, int] | None = None
        self._class_names: Sequence[str] = ()

    def fuse(
        self,
        number: int,
        rung: str,
        found: Detections,
        frame_shape: Sequence[int],
        class_names: Sequence[str],
    ) -> TrackedDetections:
        """The state after a rung looked at a frame.

        Args:
            number: of the frame in its stream; numbers left out are frames that were dropped.
            rung: who looked.
            found: what it saw, in pixels of the frame.
            frame_shape: the frame's (height, width, ...).
            class_names: of that rung, in the order of its labels.
        """
        size = (int(frame_shape[1]), int(frame_shape[0]))
        if self._size != size or tuple(self._class_names) != tuple(class_names):
            self._tracker.reset()
        steps = 1 if self._number is None else max(number - self._number, 1)
        self._number, self._size, self._class_names = number, size, class_names
        return self._tracker.update(found, *size, RUNG_TRUST[rung], steps)

    def forget(self) -> None:
        """End all tracks, for example after a cut; ids go on."""
        self._tracker.reset()
