"""The tracks of one stream in service: frames are dropped, sizes change, and rungs take turns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from feature_transformer.context import DOUBT_SCORE, Features
from inference_graph.contract import Detections
from inference_graph.tracking.reuse import ReuseConfig, may_reuse
from inference_graph.tracking.tracker import RUNG_TRUST, TrackedDetections, Tracker, TrackerConfig


class StreamTracks:
    """Fuses the answers of one stream, in order; make one for each stream.

    A frame of another size, or an answer with other classes, ends all tracks: boxes and labels
    would not be comparable.
    """

    def __init__(
        self,
        config: TrackerConfig | None = None,
        protected: frozenset[str] = frozenset(),
    ) -> None:
        """Start without tracks.

        Args:
            config: of the tracker.
            protected: names of classes that are looked at on every frame while they are in sight.
        """
        self._tracker = Tracker(config)
        self._protected = protected
        self._guarded = False
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
        self._guarded = bool(self._protected) and any(
            class_names[label] in self._protected
            for label in found.at_least(DOUBT_SCORE).labels.tolist()
        )
        return self._tracker.update(found, *size, RUNG_TRUST[rung], steps)

    def reuse(
        self, number: int, frame_shape: Sequence[int], look: Features | None, config: ReuseConfig
    ) -> TrackedDetections | None:
        """The state on a frame that no rung looks at; None where one has to look.

        Never on a first frame, one of another size, or one that does not come after the last; never
        after a look that saw a protected class; see :func:`may_reuse` for the rest. Dropped frames
        count as frames without a look.

        Args:
            number: of the frame in its stream.
            frame_shape: the frame's (height, width, ...).
            look: float32 [16], features of the stream's last look; None without one.
            config: when the tracks may answer.
        """
        size = (int(frame_shape[1]), int(frame_shape[0]))
        if not config.longest or self._guarded or look is None:
            return None
        if self._number is None or self._size != size or number <= self._number:
            return None
        unseen = np.array([number - self._looked - 1])
        if not may_reuse(look[np.newaxis], unseen, config)[0]:
            return None
        steps, self._number = number - self._number, number
        return self._tracker.predict(*size, steps)

    def forget(self) -> None:
        """End all tracks, for example after a cut; ids go on, and the next frame is looked at."""
        self._tracker.reset()
        self._number = None
