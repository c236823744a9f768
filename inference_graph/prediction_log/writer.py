"""The one writer of the log: appending never waits, and what was appended survives a crash.

Rows gather in memory for at most a flush interval, then stand in a journal of the local disk, where
the death of the process leaves them. A second thread brings the journal to the disk itself, against
a power cut; a third turns closed journals into Parquet parts at the log's place, and tries again
for as long as that place cannot be reached. What does not fit is dropped and counted, never
silently.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from foundation.errors import StorageError
from inference_graph.prediction_log.amendments import Amendment
from inference_graph.prediction_log.channel import FULL, Channel
from inference_graph.prediction_log.columns import FEEDBACK, PREDICTIONS
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.journal import BEGUN_SUFFIX, remove_left
from inference_graph.prediction_log.log_config import ACTIVITIES, LogConfig, LogStatus
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.publisher import Publisher
from inference_graph.prediction_log.recent import RecentKeys
from inference_graph.prediction_log.row import PredictionRow, SessionSummary
from inference_graph.prediction_log.session_files import spool_session

__all__ = ["ACTIVITIES", "INCOMING", "LogConfig", "LogStatus", "PredictionLog"]

INCOMING = "incoming"
"""Subfolder of the journal where files from other machines are received."""
_LOG = logging.getLogger("gearshift.prediction_log")
_REMEMBERED = timedelta(hours=2)
"""How far back a new writer searches for rows that might come again."""
_SESSIONS = 1000
"""Summaries that wait for the disk at most."""
_STORE, _SYNC, _PUBLISH, _KEEP_UP = ACTIVITIES
_LOOK_BACK = 0.5
"""Seconds that the first rows wait for that search; readers take what comes twice once anyway."""


class PredictionLog:
    """An open log; all methods may be called from any thread."""

    def __init__(
        self, config: LogConfig, on_failure: Callable[[StorageError], None] | None = None
    ) -> None:
        """Open it, and publish what an earlier process left in the journal.

        Args:
            config: where and how.
            on_failure: called once when storing or publishing begins to fail, from a thread of the
                log; without it, the failure goes to the logger ``gearshift.prediction_log``.

        Raises:
            ConfigurationError: no usable url.
            StorageError: the journal's folder cannot be made.
        """
        self.config = config
        self._place = open_place(config.url, config.journal)
        try:
            self._place.journal.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot make the log's folder {self._place.journal}: {error.strerror}; "
                "choose another place"
            ) from error
        for pattern in (f"*/*{BEGUN_SUFFIX}", f"{INCOMING}/*.partial"):
            remove_left(self._place.journal.glob(pattern))
        self._on_failure = on_failure or (lambda error: _LOG.error("%s", error))
        writer = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._predictions, self._feedback = (
            Channel(
                stream,
                self._place.journal,
                writer,
                config.queue_rows,
                RecentKeys(config.recent_rows),
                lambda row: row.image is not None or self.keeps_observation(row.event_id),
            )
            for stream in (PREDICTIONS, FEEDBACK)
        )
        self._channels = (self._predictions, self._feedback)
        self._sessions: deque[SessionSummary] = deque()
        self._failures: dict[str, StorageError] = {}
        self._outages = 0
        self._flushed_at = time.time()
        self._turns = threading.Condition()
        self._hurry = self._stopping = self._closed = False
        self._publisher = Publisher(self._place, lambda failure: self._note(_PUBLISH, failure))
        self._syncing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        self._syncer = threading.Thread(target=self._sync_often, name="log-sync", daemon=True)
        self._syncer.start()
        if config.publish:
            self._publisher.start()

    def append(self, row: PredictionRow, amendments: int = 0) -> None:
        """Take an answer; never waits. A full queue drops it, which :attr:`status` counts.

        Args:
            row: its arrays must not change afterwards.
            amendments: how often :meth:`amend` will be called for it. Its journal becomes a part
                once they came, at the latest one and a half minutes after it would without.
        """
        self._offer(self._predictions, row, amendments)

    def amend(self, event_id: str, fields: Mapping[str, Any]) -> None:
        """Add to a row that was appended; likewise.

        Args:
            event_id: its key.
            fields: columns of ``AMENDABLE`` with their values; none where there is nothing to add.

        Raises:
            InvalidInput: they make no row.
        """
        self._offer(self._predictions, Amendment(event_id, fields))

    def append_feedback(self, feedback: Feedback) -> None:
        """Take feedback, likewise; the same feedback given again is stored once."""
        self._offer(self._feedback, feedback)

    def record_session(self, summary: SessionSummary) -> None:
        """Take the summary of a session that ended; it becomes a file of its own."""
        if self._closed or len(self._sessions) >= _SESSIONS:
            self._predictions.dropped += 1
            return
        self._sessions.append(summary)

    def keeps_observation(self, event_id: str) -> bool:
        """Whether a row of this key keeps its observation; the same for every writer."""
        return zlib.crc32(event_id.encode()) < self.config.observation_share * 2**32

    @property
    def status(self) -> LogStatus:
        """Counts and the present failure."""
        channels = self._channels
        failures = dict(self._failures)
        return LogStatus(
            accepted=sum(channel.accepted for channel in channels),
            stored=sum(channel.stored for channel in channels),
            duplicates=sum(channel.duplicates for channel in channels),
            refused=sum(channel.refused for channel in channels),
            dropped=sum(channel.dropped for channel in channels),
            queued=sum(channel.queued for channel in channels),
            outages=self._outages,
            backlog_bytes=self._publisher.backlog_bytes(),
            failure=next(iter(failures.values()), None),
            published=self._publisher.rows,
            flushed_at=self._flushed_at,
            published_at=self._publisher.done_at,
            failing=frozenset(failures),
            set_aside=self._publisher.damaged + self._publisher.refused,
            damaged_rows=self._publisher.lost,
            unamended=self._predictions.unamended,
        )

    def store(self, timeout: float = 10.0) -> bool:
        """Wait until all that was appended so far is in the journal, which a kill leaves.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is; False also while the disk takes nothing.
        """
        goals = [channel.offered for channel in self._channels]

        def reached() -> bool:
            pairs = zip(self._channels, goals, strict=True)
            return not self._sessions and all(channel.settled >= goal for channel, goal in pairs)

        with self._turns:
            self._hurry = True
            self._turns.notify_all()
            return self._turns.wait_for(reached, timeout)

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was appended so far is on the local disk itself; see :meth:`store`.

        A power cut leaves it there.
        """
        return self.store(timeout) and self._sync() is None

    def publish_journals(self) -> None:
        """Publish soon what another process has put into the journal's folder."""
        self._publisher.wake()

    def close(self, timeout: float = 30.0) -> LogStatus:
        """Store and publish what there is, then stop.

        What the place does not take within the time stays in the journal, for the next log
        opened with the same url and journal on this machine.

        Args:
            timeout: seconds to wait at most.
        """
        end = time.monotonic() + timeout
        self._closed = True
        with self._turns:
            self._stopping = self._hurry = True
            self._turns.notify_all()
        self._thread.join(timeout)
        self._ended.set()
        self._syncer.join(max(end - time.monotonic(), 0.0))
        self._publisher.stop(max(end - time.monotonic(), 0.0))
        return self.status

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _offer(
        self, channel: Channel, content: PredictionRow | Amendment | Feedback, amendments: int = 0
    ) -> None:
        if self._closed:
            channel.drop(content)
            return
        taken = channel.offer(content, amendments)
        if taken and channel.queued * 2 > self.config.queue_rows and not self._hurry:
            with self._turns:
                self._hurry = True
                self._turns.notify_all()

    def _run(self) -> None:
        self._look_back()
        boundary, dropped = self._next_boundary(), 0
        while True:
            with self._turns:
                self._turns.wait_for(lambda: self._hurry, self.config.flush_seconds)
                last, self._hurry = self._stopping, False
            self._note(_STORE, self._store())
            before, dropped = dropped, sum(channel.dropped for channel in self._channels)
            self._note(_KEEP_UP, self._lost(dropped - before))
            # A clock that was set back must not hold up the parts until it is there again.
            over = last or not 0 < boundary - time.time() <= self.config.roll_seconds
            if over:
                boundary = self._next_boundary()
            for channel in self._channels:
                if over or channel.journal_bytes >= self.config.roll_bytes:
                    channel.roll()
                if channel.end_rolled(now=last):
                    self._ended.set()
                if last:
                    channel.give_up()
            with self._turns:
                self._turns.notify_all()
            if last:
                return

    def _look_back(self) -> None:
        """Learn which rows were stored lately; a place that is slow to answer holds up no row."""

        def load() -> None:
            since = datetime.now(UTC) - _REMEMBERED
            for channel in self._channels:
                channel.recent.load(self._place, channel.stream, since)

        thread = threading.Thread(target=load, name="log-look-back", daemon=True)
        thread.start()
        thread.join(_LOOK_BACK)

    def _sync_often(self) -> None:
        while True:
            self._ended.wait(self.config.sync_seconds)
            self._ended.clear()
            last = self._stopping and not self._thread.is_alive()
            self._sync()
            if last:
                return

    def _sync(self) -> StorageError | None:
        """Bring what was written to the disk itself, and hand what has ended to the publisher."""
        failure: StorageError | None = None
        with self._syncing:
            for channel in self._channels:
                try:
                    if channel.sync():
                        self._publisher.wake()
                except OSError as error:
                    self._publisher.wake()
                    failure = StorageError(
                        f"the log cannot be brought to the disk of {self._place.journal} "
                        f"({error.strerror}); a power cut would lose it; check the disk"
                    )
            self._note(_SYNC, failure)
        return failure

    def _store(self) -> StorageError | None:
        try:
            while self._sessions:
                spool_session(self._place, self._sessions[0])
                self._sessions.popleft()
                self._publisher.wake()
            for channel in self._channels:
                if channel.queued:
                    room = self.config.journal_limit_bytes - self._publisher.backlog_bytes()
                    channel.write(room)
        except StorageError as error:
            return error
        except OSError as error:
            return StorageError(
                f"the log cannot be written to {self._place.journal} ({error.strerror}); "
                f"answers are dropped once {self.config.queue_rows} wait; {_room_for(error)}"
            )
        except Exception as error:  # whatever it is, answers must go on
            _LOG.exception("the log's writer failed")
            return StorageError(f"the log's writer failed: {error!r}")
        self._flushed_at = time.time()
        return None

    def _lost(self, rows: int) -> StorageError | None:
        if not rows:
            return None
        return StorageError(
            f"{rows} rows for the log at {self._place.name} were dropped: more than "
            f"{self.config.queue_rows} waited; give it a faster disk or a larger queue_rows"
        )

    def _next_boundary(self) -> float:
        every = self.config.roll_seconds
        return (time.time() // every + 1) * every

    def _note(self, what: str, failure: StorageError | None) -> None:
        """Keep the failure; report it when it begins, not every second."""
        if failure is None:
            if self._failures.pop(what, None) is not None:
                _LOG.warning("the log at %s can %s again", self._place.name, what)
            return
        began = what not in self._failures
        self._failures[what] = failure
        if began:
            self._outages += 1
            try:
                self._on_failure(failure)
            except Exception:
                _LOG.exception("telling of the failure %s failed", failure)


def _room_for(error: OSError) -> str:
    if error.strerror == FULL:
        return "bring the log to its place, or raise the limit"
    return "free some space" if error.errno == errno.ENOSPC else "check the disk"
