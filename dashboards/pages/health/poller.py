"""The last known state of something that may be slow or gone, without waiting for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

from foundation.errors import GearshiftError, Unavailable

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class Polled(Generic[T]):
    """What is known now.

    Attributes:
        value: what the last look that went well saw; None before the first.
        seen: when that was; aware, UTC.
        failure: why the latest look failed; None if it went well, or before the first.
    """

    value: T | None = None
    seen: datetime | None = None
    failure: GearshiftError | None = None

    @property
    def looking(self) -> bool:
        """Whether nothing is known yet, not even a failure."""
        return self.value is None and self.failure is None


class Poller(Generic[T]):
    """Looks on a thread of its own when asked and the last look is old; callers never wait."""

    def __init__(self, look: Callable[[], T], every_seconds: float) -> None:
        """Look at nothing yet.

        Args:
            look: sees the state, or raises; never two at the same time.
            every_seconds: pause between two looks.
        """
        self._look = look
        self._every = every_seconds
        self._lock = threading.Lock()
        self._known: Polled[T] = Polled()
        self._next = 0.0

    def get(self) -> Polled[T]:
        """What is known, at once; a new look begins where it is time."""
        with self._lock:
            if time.monotonic() >= self._next:
                self._next = float("inf")  # until this look has ended
                threading.Thread(target=self._run, name="last-known", daemon=True).start()
            return self._known

    def _run(self) -> None:
        failure: GearshiftError
        try:
            found: Polled[T] = Polled(self._look(), datetime.now(UTC))
        except GearshiftError as error:
            failure = error
        except Exception as error:
            # The thread must not die silently, nor the state stay "well" when looking broke.
            _LOG.exception("a look failed")
            failure = Unavailable(
                f"looking failed ({type(error).__name__}); see the dashboard's log"
            )
        else:
            with self._lock:
                self._known, self._next = found, time.monotonic() + self._every
            return
        with self._lock:
            self._known = Polled(self._known.value, self._known.seen, failure)
            self._next = time.monotonic() + self._every
