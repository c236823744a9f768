"""The thread that brings closed journals and session summaries to the log's place."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from foundation.errors import StorageError
from inference_graph.prediction_log.columns import STREAMS
from inference_graph.prediction_log.journal import DAMAGED_SUFFIX, SUFFIX
from inference_graph.prediction_log.place import Place
from inference_graph.prediction_log.publish import Unpublishable, publish, publish_abandoned
from inference_graph.prediction_log.session_files import publish_sessions

_LOG = logging.getLogger("gearshift.prediction_log")
_RETRY = (1.0, 60.0)
"""Seconds until the first retry, and at most; each one waits twice as long."""


class Publisher:
    """Publishes in the background, and tries again until the place takes it.

    A journal that is not being written has no owner, so each round looks for such
    journals: those just closed, those the place refused before, and those of a writer that died.

    Attributes:
        rows: rows brought to the place so far.
        damaged: journals of which something could not be read; they were set aside.
        lost: rows that are known to have stood there.
        refused: journals that can be no parts; they were set aside.
        done_at: when nothing was left to bring, seconds since 1970; of the start before that.
    """

    def __init__(self, place: Place, report: Callable[[StorageError | None], None]) -> None:
        """Prepare; :meth:`start` starts.

        Args:
            place: where to.
            report: called after each round with what failed, or None.
        """
        self._place = place
        self._report = report
        self._wake = threading.Event()
        self._stopping = False
        self.rows = self.damaged = self.lost = self.refused = 0
        self.done_at = time.time()
        self._thread = threading.Thread(target=self._run, name="log-publisher", daemon=True)

    def start(self) -> None:
        """Begin, with what an earlier process left behind."""
        self._wake.set()
        self._thread.start()

    def wake(self) -> None:
        """Signal that there is something to publish."""
        self._wake.set()

    def stop(self, timeout: float) -> bool:
        """Publish once more, then end; whether it did within so many seconds."""
        if self._thread.ident is None:
            return True  # it was never started
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def backlog_bytes(self) -> int:
        """Length of all journals on the local disk, those being written included."""
        total = 0
        for stream in STREAMS:
            for path in (self._place.journal / stream.name).glob(f"*{SUFFIX}"):
                try:
                    total += path.stat().st_size
                except FileNotFoundError:
                    continue  # just published
        return total

    def _run(self) -> None:
        wait: float | None = None
        while True:
            self._wake.wait(wait)
            self._wake.clear()
            last = self._stopping
            failure = self._round()
            self._report(failure)
            if last:
                return
            wait = None if failure is None else min(2 * (wait or _RETRY[0] / 2), _RETRY[1])

    def _round(self) -> StorageError | None:
        problems: list[str] = []

        def publish_journals(stream: str, path: Path) -> None:
            try:
                published = publish(self._place, stream, path)
            except Unpublishable as error:
                self.refused += 1
                problems.append(str(error))
                return
            self.rows += published.rows
            if published.damage is not None:
                self.damaged += 1
                self.lost += published.damage.rows
                problems.append(f"{published.damage}; it is kept as *{DAMAGED_SUFFIX}")

        failure: StorageError | None = None
        try:
            for stream in STREAMS:
                for error in publish_abandoned(self._place, stream.name, publish_journals):
                    failure = self._unusable(error)
            publish_sessions(self._place)
            if failure is None:
                self.done_at = time.time()
        except StorageError as error:
            failure = error
        except (OSError, pa.ArrowException) as error:
            failure = self._unusable(error)
        for problem in problems:
            _LOG.error("%s", problem)
        if problems and failure is None:
            more = f", and {len(problems) - 1} more" if problems[1:] else ""
            failure = StorageError(f"set aside: {problems[0]}{more}")
        return failure

    def _unusable(self, error: Exception) -> StorageError:
        return StorageError(
            f"a journal in {self._place.journal} cannot be published ({error}); check the folder"
        )
