"""How much feedback one user may give in a day: a rate alone lets a patient one flood a training.

The day is UTC's. What the log already holds of today counts, so a restart forgives nothing, and
several gateways that share a log start from the same count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from foundation.errors import TooManyRequests, Unavailable
from inference_graph.prediction_log.reader import read_feedback

Known = Callable[[datetime], list[tuple[str, str]]]
"""Client and feedback id of what was given since a time."""


class DailyQuota:
    """Counts pieces of feedback per user and day; the same piece sent again counts once."""

    def __init__(
        self, per_day: int, known: Known, now: Callable[[], datetime] | None = None
    ) -> None:
        """Nothing is read before the first piece.

        Args:
            per_day: pieces per user and day.
            known: returns what was given before this gateway started; may take a while.
            now: the time, aware; this machine's without it.
        """
        self._per_day = per_day
        self._known = known
        self._now = now or (lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._midnight: datetime | None = None
        self._given: dict[str, set[str]] = {}

    def take(self, client: str, feedback_id: str) -> None:
        """Count a piece; may read the log, so call it on a thread.

        Args:
            client: the user.
            feedback_id: the piece.

        Raises:
            TooManyRequests: the user gave as much as allowed today.
            Unavailable: another piece waits for the log to be read.
            StorageError: the log cannot be read; the next piece tries again.
        """
        if not self._lock.acquire(timeout=5.0):
            raise Unavailable("today's feedback is still being counted; try again in a moment")
        try:
            self._begin_day()
            given = self._given.setdefault(client, set())
            if feedback_id in given:
                return
            if len(given) >= self._per_day:
                raise TooManyRequests(
                    f"{client} gave {len(given)} pieces of feedback today, and {self._per_day} are "
                    "allowed; come back after midnight UTC"
                )
            given.add(feedback_id)
        finally:
            self._lock.release()

    def give_back(self, client: str, feedback_id: str) -> None:
        """Forget a piece that could not be stored after all."""
        with self._lock:
            self._given.get(client, set()).discard(feedback_id)

    def _begin_day(self) -> None:
        midnight = self._now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        if midnight == self._midnight:
            return
        given: dict[str, set[str]] = {}
        for client, feedback_id in self._known(midnight):
            given.setdefault(client, set()).add(feedback_id)
        self._given, self._midnight = given, midnight


def known_to_log(url: str | None) -> Known:
    """What a log holds; nothing where there is no log.

    Args:
        url: folder or bucket of the log.
    """

    def known(since: datetime) -> list[tuple[str, str]]:
        if url is None:
            return []
        table = read_feedback(url, since=since, columns=["client", "feedback_id"])
        return list(zip(table["client"].to_pylist(), table["feedback_id"].to_pylist(), strict=True))

    return known
