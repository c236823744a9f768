"""What the serving benchmark measures, and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from components.scenes.writer import ScenesConfig
from foundation.configuration import configuration


@configuration
class BenchServingConfig:
    """How long and on what is measured.

    Attributes:
        clips: drawn clips that are streamed; each one is a stream session of its own.
        clip_frames: frames of each clip.
        input_side: rows and columns of what every rung looks at, a multiple of 32; 0 leaves each
            rung at the size of its weights.
        condition: light and weather of the clips, as of the sample scenes.
        seed: entropy of the clips; the demo learns from other seeds.
        detector_seconds: time each detector is measured alone, behind gRPC and against each
            alternative; 0 leaves this part out.
        callers: who ask a detector behind gRPC at the same time, each waiting for its answer.
        kill_frames: frames of the stream in which a rung is killed; 0 leaves this part out.
        kill_deadline_ms: deadline of those frames.
        soak_seconds: length of the stream that the gateway's memory is watched in; 0 leaves this
            part out.
    """

    clips: Annotated[int, Field(ge=1)] = 40
    clip_frames: Annotated[int, Field(ge=2)] = 15
    input_side: Annotated[int, Field(ge=0, le=4096)] = 320
    condition: str = "mixed"
    seed: int = 77
    detector_seconds: Annotated[float, Field(ge=0)] = 10.0
    callers: Annotated[int, Field(ge=1)] = 2
    kill_frames: Annotated[int, Field(ge=0)] = 300
    kill_deadline_ms: Annotated[float, Field(ge=1)] = 1000.0
    soak_seconds: Annotated[float, Field(ge=0)] = 600.0

    @property
    def scenes(self) -> ScenesConfig:
        """What to render."""
        return ScenesConfig(
            clips=self.clips,
            clip_frames=self.clip_frames,
            condition=self.condition,
            seed=self.seed,
        )


@dataclass(frozen=True)
class BenchServing:
    """What was measured; a part that was left out is None.

    Attributes:
        stream_over_parts: mean time of a frame from its sending to its answer, over the mean of
            decode + observe + decide + detect of the same frame in one process, in turn.
        gateway_over_parts: the same by the gateway's own clock, from a frame's arrival to its
            answer.
        graph_minus_stream_ms: median time of a frame through the InferenceGraph minus the median
            over the stream, over the frames that both sent to the same rung.
        stream_over_large: mean time of a frame over the same stack with every frame on large.
        retained: mAP50-95 of the streamed answers over that of large's.
        detail: the figures behind, by part.
        machine: where it was measured.
        provider: what computed in the detectors of the next two figures: the execution provider
            that is fastest here, of those installed that agree with fp32 on the CPU; ``detail``
            has the others.
        detector_over_ort: answers per second of a detector behind gRPC over runs per second of
            its bare network in ONNX Runtime on the CPU, the lowest of the rungs.
        detector_over_ultralytics: the same over Ultralytics' ``predict`` on the same file.
        kill_answers: answers to a stream in which a rung was killed, the fewest of the rungs.
        kill_late_ms: time of the slowest of those answers after the first, minus the deadline;
            below 0 all came in time.
        kill_recovery_s: time from a killed rung's return until it answers frames again, the
            longest of the rungs.
        rss_growth: resident memory of the gateway over the last minute of a long stream, over
            that of its second minute, minus 1.
    """

    stream_over_parts: float
    gateway_over_parts: float
    graph_minus_stream_ms: float
    stream_over_large: float
    retained: float
    detail: Mapping[str, Any]
    machine: Mapping[str, Any]
    provider: str | None = None
    detector_over_ort: float | None = None
    detector_over_ultralytics: float | None = None
    kill_answers: int | None = None
    kill_late_ms: float | None = None
    kill_recovery_s: float | None = None
    rss_growth: float | None = None
