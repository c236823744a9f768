"""Following the log: every independent frame goes to the online detector as it is logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from components.drift.embedding import embed
from components.drift.frames import stream_names
from components.drift.online import DriftStep, OnlineConfig, OnlineDetector
from components.drift.reference import Reference
from components.drift.thinning import spacing_of, thinned
from components.drift.window import time_of
from feature_transformer.observation import FRAME_FEATURES
from foundation.configuration import configuration
from inference_graph.prediction_log.reader import read_log

_COLUMNS = ("event_id", "time", "session", "client", "observation")
_LATE = timedelta(seconds=10)
"""A row may reach the log so much later than one with a later time."""


@configuration
class WatchConfig(OnlineConfig):
    """How the log is followed; see OnlineConfig for the detector's attributes.

    Attributes:
        since: begin with the answers from this time on, ISO 8601; with new ones without it.
        spacing: frames of a stream between two that count as independent; 0 takes the
            reference's.
        poll_seconds: pause between two looks at the log.
        idle_seconds: end when nothing was logged for so long; 0 never ends.
        keep_going: go on after an alarm, from the start.
    """

    since: str = ""
    spacing: Annotated[int, Field(ge=0, le=10**6)] = 0
    poll_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 5.0
    idle_seconds: Annotated[float, Field(ge=0, le=10**6)] = 0.0
    keep_going: bool = False

    def __post_init__(self) -> None:
        """Raise ConfigurationError where ``since`` is no time."""
        time_of(self.since, "since")


@dataclass(frozen=True)
class WatchSummary:
    """Result of following a log.

    Attributes:
        rows: answers seen.
        looked: independent frames that the detector got.
        alarms: how often it fired.
    """

    rows: int
    looked: int
    alarms: int


def watch_log(
    log: str,
    reference: Reference,
    config: WatchConfig,
    report: Callable[[dict[str, Any]], None],
    sleep: Callable[[float], None] = time.sleep,
) -> WatchSummary:
    """Follow a log until the detector fires, or for as long as asked.

    Args:
        log: folder or bucket of the log.
        reference: what is usual.
        config: how.
        report: called with each event, in types that JSON knows: ``event`` is "watching" once at
            the start, and "drift" at each alarm.
        sleep: waits so many seconds.

    Raises:
        ConfigurationError: alibi-detect is not installed.
        InvalidInput: the reference has too few frames.
        StorageError: the log cannot be read.
    """
    frames = reference.frames
    spacing = config.spacing or spacing_of(frames)
    known = np.isfinite(frames.embedding[:, 0])
    points = frames.embedding[thinned(frames, known, spacing_of(frames), len(frames))]
    detector = OnlineDetector(points, config)
    report(
        {
            "event": "watching",
            "log": log,
            "reference": reference.name,
            "reference_frames": len(points),
            "spacing": spacing,
            "expected_run": config.expected_run,
        }
    )
    follower = _Follower(log, time_of(config.since, "since") or datetime.now(UTC))
    thinner = _Thinner(spacing)
    looked = alarms = 0
    idle_since = time.monotonic()
    while True:
        for row in follower.new_rows():
            idle_since = time.monotonic()
            point = thinner.take(row)
            if point is None:
                continue
            looked += 1
            step = detector.look(point)
            if step.fires:
                alarms += 1
                report(_alarm(row, step, looked, alarms))
                if not config.keep_going:
                    return WatchSummary(follower.rows, looked, alarms)
                detector.forget()
        if config.idle_seconds and time.monotonic() - idle_since > config.idle_seconds:
            return WatchSummary(follower.rows, looked, alarms)
        sleep(config.poll_seconds)


@dataclass(frozen=True)
class _Row:
    time: datetime
    stream: str
    observation: NDArray[np.float32] | None


class _Follower:
    """Rows of a log, each once, in the order of their times as far as they are there."""

    def __init__(self, log: str, since: datetime) -> None:
        self.rows = 0
        self._log, self._since = log, since
        self._seen: dict[str, datetime] = {}

    def new_rows(self) -> Iterator[_Row]:
        table = read_log(self._log, self._since, None, _COLUMNS)
        newest = self._since
        streams = stream_names(table)
        for number, (key, at) in enumerate(
            zip(table["event_id"].to_pylist(), table["time"].to_pylist(), strict=True)
        ):
            newest = max(newest, at)
            if key in self._seen:
                continue
            self._seen[key] = at
            self.rows += 1
            yield _Row(at, streams[number], _observation(table, number))
        self._since = max(self._since, newest - _LATE)
        self._seen = {key: at for key, at in self._seen.items() if at >= self._since}


class _Thinner:
    """Takes a frame of a stream when it is far enough behind the last one taken."""

    def __init__(self, spacing: int) -> None:
        self._spacing = spacing
        self._place: dict[str, int] = {}
        self._free: dict[str, int] = {}

    def take(self, row: _Row) -> NDArray[np.float32] | None:
        """The embedding of the frame, float32 [E]; None where it does not count."""
        place = self._place[row.stream] = self._place.get(row.stream, -1) + 1
        if row.observation is None or place < self._free.get(row.stream, 0):
            return None
        self._free[row.stream] = place + self._spacing
        return embed(row.observation[None])[0]


def _observation(table: pa.Table, number: int) -> NDArray[np.float32] | None:
    value = table["observation"][number]
    if not value.is_valid or len(value) < FRAME_FEATURES:
        return None
    return np.asarray(value.values, np.float32)


def _alarm(row: _Row, step: DriftStep, looked: int, alarms: int) -> dict[str, Any]:
    return {
        "event": "drift",
        "time": row.time.isoformat(),
        "stream": row.stream,
        "looked": looked,
        "alarms": alarms,
        "statistic": step.statistic,
        "threshold": step.threshold,
    }
