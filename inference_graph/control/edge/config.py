"""How a device works; packed into its bundle, so that what was tested is what runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from foundation.errors import ConfigurationError
from foundation.ranges import check_range
from inference_graph.contract import LADDER
from inference_graph.detections import CONFIDENCE, read_classes
from inference_graph.tracking import ReuseConfig, StreamTracks

_MB = 1024 * 1024


@dataclass(frozen=True)
class EdgeConfig:
    """How a device works.

    Attributes:
        latency_weight: operating point; the policy's own without it.
        always: use this rung for every frame and ask no policy.
        confidence: detections must score more than this, 0..1.
        answer_confidence: detections below this score are left out of the answers, 0..1; the policy
            and the log see all of them.
        track: fuse the answers over the frames, and give objects track ids.
        reuse_frames: frames in a row that the tracks may answer while no rung looks, at most; 0 has
            a rung look at every frame. A report names what pays as `tracked.reuse.longest`.
        reuse_doubt: a rung looks where the last look was in more doubt than this; in a report
            `tracked.reuse.doubt`.
        protect: classes that must not be missed, separated by commas: while one of them is in
            sight, a rung looks at every frame.
        iou: overlap above which the weaker of two boxes of a class is dropped, 0..1.
        max_detections: at most so many per frame.
        threads: threads of one inference.
        shadow_share: share of the frames at which the reference looks too, after the answer; it
            takes the next frame's time. 0..1.
        statistics_share: share of the frames whose blur and noise are measured, 0..1.
        image_share: share of the frames kept in the log; they may show people. 0..1.
        observation_share: share of the frames whose observation is kept in the log, 0..1.
        log_mb: how long the log on the device may grow, in units of 1024² bytes; further rows are
            dropped and counted until a sync has made room.
        roll_seconds: the log is closed into files that can be synced after at most so long.
        reopen_seconds: pause before a camera that stopped giving frames is opened again.
    """

    latency_weight: float | None = None
    always: str | None = None
    confidence: float = 0.01
    answer_confidence: float = CONFIDENCE
    track: bool = True
    reuse_frames: int = 0
    reuse_doubt: float = 0.0
    protect: str = ""
    iou: float = 0.7
    max_detections: int = 100
    threads: int = 2
    shadow_share: float = 0.0
    statistics_share: float = 0.1
    image_share: float = 0.0
    observation_share: float = 0.1
    log_mb: int = 256
    roll_seconds: float = 300.0
    reopen_seconds: float = 5.0

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigurationError: names the value and its range.
        """
        if self.always is not None and self.always not in LADDER:
            raise ConfigurationError(f"always {self.always!r} is none of {', '.join(LADDER)}")
        if self.latency_weight is not None and not 0 <= self.latency_weight < math.inf:
            raise ConfigurationError(
                f"latency_weight is {self.latency_weight}; give a finite number of at least 0"
            )
        check_range(self, 0, 1, "confidence", "answer_confidence", "iou", "shadow_share")
        check_range(self, 0, 1, "statistics_share", "image_share", "observation_share")
        check_range(self, 1, 1024, "threads", "max_detections")
        check_range(self, 0, 100, "reuse_frames", "reuse_doubt")
        check_range(self, 1, 1024**2, "log_mb")
        check_range(self, 1, 86_400, "roll_seconds", "reopen_seconds")

    def tracks(self) -> StreamTracks | None:
        """A stream's own tracks; None where each frame's answer stands alone."""
        reuse = ReuseConfig(longest=self.reuse_frames, doubt=self.reuse_doubt)
        protected = read_classes(self.protect, ())
        return StreamTracks(reuse=reuse, protected=protected) if self.track else None

    @property
    def log_bytes(self) -> int:
        """``log_mb`` in bytes."""
        return self.log_mb * _MB
