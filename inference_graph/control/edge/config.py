"""How a device works; packed into its bundle, so that what was tested is what runs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from foundation.errors import ConfigurationError
from foundation.ranges import check_range
from inference_graph.contract import LADDER
from inference_graph.detections import CONFIDENCE

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
        check_range(self, 1, 1024**2, "log_mb")
        check_range(self, 1, 86_400, "roll_seconds", "reopen_seconds")

    @property
    def log_bytes(self) -> int:
        """``log_mb`` in bytes."""
        return self.log_mb * _MB
