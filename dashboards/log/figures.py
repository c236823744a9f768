"""What is asked of the log, and what it answers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import numpy.typing as npt

from inference_graph.contract import REFERENCE

PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True)
class Filter:
    """Which rows count. Empty means all.

    Attributes:
        since: from this time on; aware.
        until: before this time; aware.
        sessions: names.
        conditions: values of the tag ``condition``; "" is a row without it.
        rungs: the gear that answered.
        total_ms: lowest and highest time to the answer, to the width of a bin.
        fallbacks: only frames that another rung answered than the chosen one.
        images: only frames whose image was kept.
    """

    since: datetime | None = None
    until: datetime | None = None
    sessions: tuple[str, ...] = ()
    conditions: tuple[str, ...] = ()
    rungs: tuple[str, ...] = ()
    total_ms: tuple[float, float] | None = None
    fallbacks: bool = False
    images: bool = False


@dataclass(frozen=True)
class Timeline:
    """Figures by time; each array has one entry per step of ``seconds``.

    Attributes:
        start: beginning of every step; aware, UTC.
        seconds: length of a step.
        frames: by gear, frames it answered, int64 [n]; steps without a row are there, with 0. The
            rungs are always there, reuse where it answered any; so in all figures.
        failed: frames that no rung answered.
        fallbacks: frames another rung answered than the chosen one.
        dropped: frames that were dropped, as the gateway reported to the clients.
        agreement: with large, float64 [n], 0..1; NaN where no shadow has looked.
    """

    start: tuple[datetime, ...]
    seconds: float
    frames: Mapping[str, npt.NDArray[np.int64]]
    failed: npt.NDArray[np.int64]
    fallbacks: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.int64]
    agreement: npt.NDArray[np.float64]

    @property
    def answered(self) -> npt.NDArray[np.int64]:
        """Frames that were answered, by step."""
        return np.sum(list(self.frames.values()), axis=0, dtype=np.int64)


@dataclass(frozen=True)
class Totals:
    """Sums over a selection.

    Attributes:
        frames: by gear, frames it answered.
        failed: frames that no rung answered.
        fallbacks: frames another rung answered than the chosen one.
        dropped: frames that were dropped.
        first: time of the oldest row; None without any.
        last: time of the newest.
        busy_ms: mean of observe, decide and detect of the answered frames; NaN without any.
        reference_ms: mean of the same of the frames that the reference answered; NaN without any.
        shadow_ms: what the shadow's looks took, spread over all answered frames, mean.
        policies: frames by revision of the policy, most first.
    """

    frames: Mapping[str, int]
    failed: int
    fallbacks: int
    dropped: int
    first: datetime | None
    last: datetime | None
    busy_ms: float
    reference_ms: float
    shadow_ms: float
    policies: Mapping[str, int]

    @property
    def answered(self) -> int:
        """Frames that were answered."""
        return sum(self.frames.values())

    @property
    def rows(self) -> int:
        """Rows of the log."""
        return self.answered + self.failed

    @property
    def unlike_large(self) -> int:
        """Frames that another rung than large answered; the shadow looks at these."""
        return self.answered - self.frames[REFERENCE]

    @property
    def shares(self) -> Mapping[str, float]:
        """Share of the answered frames by gear, 0..1; zeros without any."""
        return {gear: count / max(self.answered, 1) for gear, count in self.frames.items()}


@dataclass(frozen=True)
class Saved:
    """Detector time that routing saves per answered frame, against large on the same frames.

    Attributes:
        ms: mean milliseconds; negative where routing takes longer; NaN where no shadow has looked.
        low: lower end of the 95 % interval; NaN with fewer than two clusters.
        high: upper end.
        looks: frames that both large and the rung that answered looked at.
    """

    ms: float
    low: float
    high: float
    looks: int


@dataclass(frozen=True)
class Histogram:
    """Frames by time of a stage.

    Attributes:
        ms: middle of each bin, rising, float64 [n].
        frames: how many, int64 [n].
    """

    ms: npt.NDArray[np.float64]
    frames: npt.NDArray[np.int64]

    def percentile(self, share: float) -> float:
        """The smallest time that at least this share of the frames took at most; NaN for none."""
        if not len(self.ms):
            return math.nan
        reached = np.cumsum(self.frames) >= share * self.frames.sum() - 1e-9
        return float(self.ms[int(np.argmax(reached))])


def without(chosen: Filter, *names: str) -> Filter:
    """The filter with some of its conditions lifted: a chart shows what it is not the filter of."""
    return replace(chosen, **{name: getattr(Filter(), name) for name in names})
