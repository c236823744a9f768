"""How a device works; packed into its bundle, so that what was tested is what runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from foundation.configuration import Share, configuration
from foundation.errors import ConfigurationError
from inference_graph.contract import LADDER
from inference_graph.detections import CONFIDENCE, read_classes
from inference_graph.tracking import ReuseConfig, StreamTracks

_MB = 1024 * 1024


@configuration
class EdgeConfig:
    """How a device works.

    Attributes:
        latency_weight: operating point; the policy's own without it.
        always: use this rung for every frame and ask no policy.
        confidence: detections must score more than this, 0..1.
        answer_confidence: detections below this score are left out of the answers, 0..1; the policy
            and the log see all of them.
        track: fuse the answers over the frames, and give objects track ids.
        reuse_frames: frames in a row of a fused stream that its tracks may answer while no rung
            looks, at most; 0 has a rung look at every frame; as the policy says without it.
        reuse_doubt: with reuse_frames, a rung looks where the last look was in more doubt than
            this.
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

    latency_weight: Annotated[float, Field(ge=0)] | None = None
    always: str | None = None
    confidence: Share = 0.01
    answer_confidence: Share = CONFIDENCE
    track: bool = True
    reuse_frames: Annotated[int, Field(ge=0, le=100)] | None = None
    reuse_doubt: Annotated[float, Field(ge=0, le=100)] = 0.0
    protect: str = ""
    iou: Share = 0.7
    max_detections: Annotated[int, Field(ge=1, le=1024)] = 100
    threads: Annotated[int, Field(ge=1, le=1024)] = 2
    shadow_share: Share = 0.0
    statistics_share: Share = 0.1
    image_share: Share = 0.0
    observation_share: Share = 0.1
    log_mb: Annotated[int, Field(ge=1, le=1024**2)] = 256
    roll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    reopen_seconds: Annotated[float, Field(ge=1, le=86_400)] = 5.0

    def __post_init__(self) -> None:
        """Refuse an unknown rung.

        Raises:
            ConfigurationError: names it.
        """
        if self.always is not None and self.always not in LADDER:
            raise ConfigurationError(f"always {self.always!r} is none of {', '.join(LADDER)}")

    def tracks(self) -> StreamTracks | None:
        """A stream's own tracks; None where each frame's answer stands alone."""
        protected = read_classes(self.protect, ())
        return StreamTracks(protected=protected) if self.track else None

    @property
    def reuse(self) -> ReuseConfig | None:
        """When the tracks answer a frame; None leaves it to the policy."""
        return ReuseConfig.of_settings(self.reuse_frames, self.reuse_doubt)

    @property
    def log_bytes(self) -> int:
        """``log_mb`` in bytes."""
        return self.log_mb * _MB
