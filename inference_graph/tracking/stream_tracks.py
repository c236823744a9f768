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
        self._looked = 0
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
        self._looked = number
        return self._tracker.update(found, *size, RUNG_TRUST[rung], steps)

    def unseen_frames(self, number: int, frame_shape: Sequence[int]) -> int | None:
        """Frames between the last look and this one, dropped ones included.

        None where the tracks cannot stand in for a look: nobody looked yet, the frame has another
        size, or it does not come after the last one.
        """
        size = (int(frame_shape[1]), int(frame_shape[0]))
        if self._number is None or self._size != size or number <= self._number:
            return None
        return number - self._looked - 1

    def carry(self, number: int) -> TrackedDetections:
        """The state on a frame that nobody looks at; see :meth:`unseen_frames`."""
        assert self._number is not None and self._size is not None
        steps, self._number = number - self._number, number
        return self._tracker.predict(*self._size, steps)

    def forget(self) -> None:
        """End all tracks, for example after a cut; ids go on, and the next frame is looked at."""
        self._tracker.reset()
        self._number = None
