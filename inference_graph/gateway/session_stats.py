"""What a session came to, counted while it runs in a space that does not grow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from inference_graph.contract import GEARS, LADDER
from inference_graph.prediction_log.row import SessionSummary

_FLOOR_MS, _STEP, _BINS = 0.1, 1.01, 1400
"""Bins of the latencies: each is 1 % wider than the one before; from 0.1 ms to 30 hours."""


class Latencies:
    """Times of any number of frames; quantiles are off by at most half a percent."""

    def __init__(self) -> None:
        """None counted yet."""
        self._bins = [0] * _BINS
        self._sum = 0.0
        self.count = 0

    def add(self, milliseconds: float) -> None:
        """Count one."""
        place = math.log(max(milliseconds, _FLOOR_MS) / _FLOOR_MS) / math.log(_STEP)
        self._bins[min(int(place), _BINS - 1)] += 1
        self._sum += milliseconds
        self.count += 1

    def mean(self) -> float | None:
        """The mean; None without any."""
        return self._sum / self.count if self.count else None

    def quantile(self, share: float) -> float | None:
        """The time that ``share`` of the frames do not exceed; None without any.

        Returns:
            The middle of the bin where that frame is.
        """
        wanted = max(math.ceil(share * self.count), 1)
        seen = 0
        for place, number in enumerate(self._bins):
            seen += number
            if seen >= wanted:
                return float(_FLOOR_MS * _STEP ** (place + 0.5))
        return None


class SessionStats:
    """Counts of one session.

    Attributes:
        dropped: frames dropped.
        tags: names and texts that the client gave the session.
    """

    def __init__(self, session: str, client: str) -> None:
        """A session that has not answered yet.

        Args:
            session: its name.
            client: name of the token.
        """
        self._session = session
        self._client = client
        self._started = datetime.now(UTC)
        self._ended = self._started
        self._gears = dict.fromkeys(GEARS, 0)
        self._latencies = Latencies()
        self._fallbacks = 0
        self._agreements = 0
        self._agreement_sum = 0.0
        self.dropped = 0
        self.tags: Mapping[str, str] = {}

    def answered(self, gear: str, fallback: str, total_ms: float) -> None:
        """Count an answer.

        Args:
            gear: who answered.
            fallback: why not the rung chosen; empty if it was.
            total_ms: from arrival to answer.
        """
        self._ended = datetime.now(UTC)
        self._gears[gear] += 1
        self._fallbacks += bool(fallback)
        self._latencies.add(total_ms)

    def agreed(self, agreement: float) -> None:
        """Count a shadow."""
        self._agreements += 1
        self._agreement_sum += agreement

    @property
    def frames(self) -> int:
        """Frames answered."""
        return self._latencies.count

    def summary(
        self, policy_revision: str, latency_weight: float | None, reference_ms: float | None
    ) -> SessionSummary:
        """What it came to.

        Args:
            policy_revision: of the policy.
            latency_weight: operating point.
            reference_ms: mean time the reference works on a frame, against which the session's
                mean time counts as saved; None when it was not seen.
        """
        mean = self._latencies.mean()
        known = mean is not None and reference_ms is not None and reference_ms > 0
        return SessionSummary(
            session=self._session,
            client=self._client,
            started=self._started,
            ended=self._ended,
            frames=self.frames,
            dropped=self.dropped,
            shares={
                gear: number / self.frames if self.frames else 0.0
                for gear, number in self._gears.items()
                if number or gear in LADDER
            },
            latency_mean_ms=mean,
            latency_p50_ms=self._latencies.quantile(0.5),
            latency_p95_ms=self._latencies.quantile(0.95),
            savings=1 - (mean or 0.0) / (reference_ms or 1.0) if known else None,
            shadow_frames=self._agreements,
            agreement_mean=self._agreement_sum / self._agreements if self._agreements else None,
            fallbacks=self._fallbacks,
            policy_revision=policy_revision,
            latency_weight=latency_weight,
            tags=self.tags,
        )
