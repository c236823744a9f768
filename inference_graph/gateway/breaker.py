"""A circuit per rung: one that fails is left alone until a probe finds it well again."""

from __future__ import annotations

from enum import StrEnum


class Circuit(StrEnum):
    """State of a rung's circuit breaker; the values are those of ``/readyz``."""

    CLOSED = "healthy"
    """It answers; frames go to it."""
    OPEN = "unhealthy"
    """It failed; frames go to its neighbours."""
    HALF_OPEN = "recovering"
    """A probe is looking at it; frames still go to its neighbours."""


class Breaker:
    """Counts failures in a row; no frame is risked to find out whether a rung is back.

    It begins open: a rung is used once a probe has seen it answer.
    """

    def __init__(self, failures: int) -> None:
        """Open after ``failures`` in a row."""
        self._limit = failures
        self._failures = 0
        self.circuit = Circuit.OPEN
        self.reason = "not looked at yet"

    @property
    def usable(self) -> bool:
        """Whether frames may go to the rung."""
        return self.circuit is Circuit.CLOSED

    def succeeded(self) -> None:
        """An answer came; one to a question asked before the circuit opened does not close it."""
        if self.circuit is Circuit.CLOSED:
            self._failures = 0

    def failed(self, reason: str) -> None:
        """No answer came, or too late."""
        self._failures += 1
        self.reason = reason
        if self.circuit is Circuit.CLOSED and self._failures >= self._limit:
            self.circuit = Circuit.OPEN

    def probing(self) -> None:
        """A probe begins."""
        if self.circuit is Circuit.OPEN:
            self.circuit = Circuit.HALF_OPEN

    def probed(self, well: bool, reason: str = "") -> None:
        """A probe ended."""
        self._failures = 0
        self.circuit = Circuit.CLOSED if well else Circuit.OPEN
        self.reason = "" if well else reason
