"""What is known of each camera's minutes: counts and figures, as published for drift.

Nothing here knows Flink: a camera's state goes in and comes out as text, and the same frames give
the same statistics however often they are delivered.
"""

from __future__ import annotations

import base64
import hashlib
import math
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from feature_transformer.frame_statistics import STATISTICS
from feature_transformer.observation import FRAME_FEATURES
from inference_graph.streams.messages import (
    VERSION,
    FrameMessage,
    OutgoingMessage,
    event_headers,
)
from inference_graph.streams.preparation import PreparationConfig, PreparedFrame

MINUTE = f"dev.gearshift.minute.v{VERSION}"
MINUTE_MS = 60_000
AHEAD_MS = 60_000
"""A frame whose clock is further ahead of its publication counts for the minute it came in."""


class FigureSummary(BaseModel):
    """A figure over the frames of a minute that have it."""

    model_config = ConfigDict(extra="forbid")

    mean: float
    deviation: float = Field(description="Standard deviation of these frames.")
    least: float
    most: float


class FrameSample(BaseModel):
    """One frame of a minute, chosen by a hash of its identity."""

    model_config = ConfigDict(extra="forbid")

    frame: str = Field(description="ce_id of the frame.")
    captured: datetime = Field(description="ce_time of the frame.")
    statistics: dict[str, float] = Field(description="brightness, edge_density, blur and noise.")
    thumbnail: str = Field(description="Base64 of 32x32 grey levels, row by row.")
    edges: list[float] = Field(min_length=4, max_length=4, description="Edge density by quadrant.")


class MinuteEvent(BaseModel):
    """A minute of one camera, by the times of its frames."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["minute"] = "minute"
    camera: str
    start: datetime
    frames: int = Field(default=0, description="Frames that could be decoded.")
    published: int = Field(default=0, description="Of these, what went on to be routed.")
    repeats: int = Field(default=0, description="Of these, what nearly repeats the one before.")
    refused: int = Field(default=0, description="Messages that went to the dead letters.")
    references: int = Field(default=0, description="Frames in a bucket, passed on as they came.")
    clock_ahead: int = Field(default=0, description="Frames whose clock is over a minute ahead.")
    late: int = Field(
        default=0,
        description="Frames that came after their minute, not reported before.",
    )
    figures: dict[str, FigureSummary] = Field(
        default_factory=dict, description="By name: brightness, edge_density, blur, noise."
    )
    samples: list[FrameSample] = Field(default_factory=list)


class _Minute(BaseModel):
    """A minute that is not over: an event so far, and sums in place of summaries."""

    event: MinuteEvent
    sums: dict[str, tuple[int, float, float, float, float]] = Field(default_factory=dict)
    ranks: list[str] = Field(default_factory=list)


class CameraState(BaseModel):
    """What a camera's next frame depends on.

    Attributes:
        thumbnail: base64 of the thumbnail of the frame published last.
        published_at: its time in milliseconds since 1970.
        closed_ms: end of the newest minute that was published; a job that is started again knows
            no watermark, and must not begin that minute anew.
        late: frames whose minute was published before they came, not reported yet.
        minutes: those that are not published, by their start in milliseconds.
    """

    thumbnail: str = ""
    published_at: float | None = None
    closed_ms: int = -(2**63)
    late: int = 0
    minutes: dict[int, _Minute] = Field(default_factory=dict)

    def minute_of(self, frame: FrameMessage, came_ms: int, watermark_ms: int) -> int | None:
        """The minute that a frame counts for, which is open from now on; None if it is late.

        Args:
            frame: the frame.
            came_ms: when it was published, in milliseconds since 1970.
            watermark_ms: no frame that came before this time is expected any more.
        """
        captured = frame.time.timestamp() * 1000
        ahead = captured > came_ms + AHEAD_MS
        start = int((came_ms if ahead else captured) // MINUTE_MS) * MINUTE_MS
        if start + MINUTE_MS <= max(watermark_ms, self.closed_ms):
            self.late += 1
            return None
        if start not in self.minutes:
            when = datetime.fromtimestamp(start / 1000, UTC)
            self.minutes[start] = _Minute(event=MinuteEvent(camera=frame.camera, start=when))
        self.minutes[start].event.clock_ahead += ahead
        return start

    def count(self, minute: int | None, what: Literal["refused", "references"]) -> None:
        """Count a message whose pixels are not seen."""
        if minute is not None:
            event = self.minutes[minute].event
            setattr(event, what, getattr(event, what) + 1)

    def add(
        self,
        minute: int | None,
        frame: FrameMessage,
        prepared: PreparedFrame,
        config: PreparationConfig,
    ) -> bool:
        """Count a frame.

        Args:
            minute: of :meth:`minute_of`; a late frame is in no minute's statistics.
            frame: as it came.
            prepared: as it is published.
            config: what counts as a repetition.

        Returns:
            Whether it goes on to be routed; False where it nearly repeats the one before.
        """
        captured = frame.time.timestamp() * 1000
        repeats = self._repeats(prepared, captured, config)
        if not repeats:
            self.thumbnail = base64.b64encode(prepared.thumbnail).decode()
            self.published_at = captured
        if minute is not None:
            at = self.minutes[minute]
            at.event.frames += 1
            at.event.repeats += repeats
            at.event.published += not repeats
            for name, value in prepared.statistics.items():
                n, total, squares, least, most = at.sums.get(name, (0, 0.0, 0.0, value, value))
                at.sums[name] = (
                    n + 1,
                    total + value,
                    squares + value * value,
                    min(least, value),
                    max(most, value),
                )
            _sample(at, frame, prepared, config.samples)
        return not repeats

    def close(self, minute: int) -> MinuteEvent | None:
        """The statistics of a minute that is over; None if it has none."""
        at = self.minutes.pop(minute, None)
        if at is None:
            return None
        self.closed_ms = max(self.closed_ms, minute + MINUTE_MS)
        figures = {}
        for name in STATISTICS:
            if name in at.sums:
                n, total, squares, least, most = at.sums[name]
                deviation = math.sqrt(max(squares / n - (total / n) ** 2, 0.0))
                figures[name] = FigureSummary(
                    mean=total / n, deviation=deviation, least=least, most=most
                )
        late, self.late = self.late, 0
        return at.event.model_copy(update={"figures": figures, "late": late})

    def _repeats(self, prepared: PreparedFrame, captured: float, config: PreparationConfig) -> bool:
        last = self.published_at
        if last is None or abs(captured - last) >= config.repeat_seconds * 1000:
            return False
        before = np.frombuffer(base64.b64decode(self.thumbnail), np.uint8).astype(np.int16)
        now = np.frombuffer(prepared.thumbnail, np.uint8)
        return bool(np.abs(now - before).max() <= config.repeat_level)


def minute_message(topic: str, event: MinuteEvent, source: str) -> OutgoingMessage:
    """The message of a minute; its id is the camera and the minute.

    Args:
        topic: where it goes.
        event: the minute.
        source: of the job, as ``ce_source``.
    """
    headers = event_headers(
        MINUTE, f"{event.camera} {event.start:%Y%m%dT%H%M}", source, event.start
    )
    value = event.model_dump_json().encode()
    return OutgoingMessage(topic, event.camera.encode(), value, headers)


def sample_row(event: MinuteEvent, sample: FrameSample) -> dict[str, Any]:
    """A sample in columns of the prediction log.

    Args:
        event: its minute.
        sample: one of its samples.
    """
    thumbnail = np.frombuffer(base64.b64decode(sample.thumbnail), np.uint8)
    features = np.empty(FRAME_FEATURES, np.float32)
    np.multiply(thumbnail, np.float32(1 / 255), out=features[:-4])
    features[-4:] = sample.edges
    return {
        "time": sample.captured,
        "session": event.camera,
        **sample.statistics,
        "observation": features,
    }


def _sample(at: _Minute, frame: FrameMessage, prepared: PreparedFrame, most: int) -> None:
    """Keep the frames of least hash: any so many of the minute, and the same at each delivery."""
    rank = hashlib.sha256(frame.identity.encode()).hexdigest()
    place = sum(one < rank for one in at.ranks)
    if place >= most or rank in at.ranks:
        return
    sample = FrameSample(
        frame=frame.frame_id,
        captured=frame.time,
        statistics=dict(prepared.statistics),
        thumbnail=base64.b64encode(prepared.thumbnail).decode(),
        edges=[float(density) for density in prepared.features[-4:]],
    )
    at.ranks.insert(place, rank)
    at.event.samples.insert(place, sample)
    del at.ranks[most:], at.event.samples[most:]
