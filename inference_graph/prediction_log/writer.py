"""The one writer of the log: appending never waits, and what was appended survives a crash.

Rows gather in memory for at most a flush interval, then stand in a journal on the local disk; a
second thread turns closed journals into Parquet parts at the log's place, and tries again for as
long as that place cannot be reached. What does not fit is dropped and counted, never silently.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType

from feature_transformer.errors import StorageError
from feature_transformer.ranges import check_range
from inference_graph.prediction_log.channel import FULL, Channel
from inference_graph.prediction_log.columns import FEEDBACK, PREDICTIONS
from inference_graph.prediction_log.feedback_row import Feedback
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.publisher import Publisher
from inference_graph.prediction_log.recent import RecentKeys
from inference_graph.prediction_log.row import PredictionRow, SessionSummary
from inference_graph.prediction_log.session_files import spool_session

_LOG = logging.getLogger("gearshift.prediction_log")
_REMEMBERED = timedelta(hours=2)
"""How far back a new writer looks for rows that might come again."""
_SESSIONS = 1000
"""Summaries that wait for the disk at most."""
_STORE, _PUBLISH, _KEEP_UP = ACTIVITIES = ("store", "publish", "keep up")
"""What a log does, and can fail at."""


@dataclass(frozen=True)
class LogConfig:
    """Where and how answers are logged.

    Attributes:
        url: a folder, or an s3:// or gs:// url as pyarrow reads it.
        journal: local folder for rows that are in no part yet; for a folder its subfolder
            ``journal``, for a bucket one below ``$XDG_STATE_HOME/gearshift`` without it.
        flush_seconds: rows are on the local disk after at most so long.
        roll_seconds: they are in a Parquet part after at most so long; aligned to the clock.
        roll_bytes: or once the journal is so long.
        observation_share: share of the rows whose observation is kept, 0..1.
        queue_rows: rows that wait for the local disk at most; further ones are dropped.
        recent_rows: keys remembered to know a row that comes again.
        journal_limit_bytes: how much the local disk holds at most while the place takes nothing.
        publish: bring rows to the place; without it they stay in the journal, for somebody else to
            bring home.
    """

    url: str
    journal: Path | None = None
    flush_seconds: float = 1.0
    roll_seconds: float = 3600.0
    roll_bytes: int = 32 * 1024 * 1024
    observation_share: float = 0.1
    queue_rows: int = 4096
    recent_rows: int = 20_000
    journal_limit_bytes: int = 1024**3
    publish: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range.

        Raises:
            ConfigurationError: names the value and its range.
        """
        check_range(self, 0.01, 60, "flush_seconds")
        check_range(self, 1, 86_400, "roll_seconds")
        check_range(self, 1024, 1024**3, "roll_bytes")
        check_range(self, 0, 1, "observation_share")
        check_range(self, 1, 10**6, "queue_rows")
        check_range(self, 0, 10**7, "recent_rows")
        check_range(self, 1024, 1024**4, "journal_limit_bytes")


@dataclass(frozen=True)
class LogStatus:
    """How the log is doing; all counts are since it was opened.

    Attributes:
        accepted: rows of both streams that were taken.
        stored: rows that reached the local disk.
        duplicates: rows that were stored before under the same key.
        refused: rows that could not be put into columns.
        dropped: rows that found the queue full, or could not be written before the end.
        queued: rows that wait for the local disk now.
        outages: how often storing or publishing began to fail.
        backlog_bytes: length of the journals on the local disk.
        failure: what is wrong now; None while all is well.
        published: rows that reached the log's place.
        flushed_at: when all that waited was last on the local disk, seconds since 1970.
        published_at: when all closed journals were last at the log's place, likewise.
        failing: the activities that fail now, of ``ACTIVITIES``.
    """

    accepted: int
    stored: int
    duplicates: int
    refused: int
    dropped: int
    queued: int
    outages: int
    backlog_bytes: int
    failure: StorageError | None
    published: int
    flushed_at: float
    published_at: float
    failing: frozenset[str]


class PredictionLog:
    """An open log; all methods may be called from any thread."""

    def __init__(
        self, config: LogConfig, on_failure: Callable[[StorageError], None] | None = None
    ) -> None:
        """Open it, and bring home what an earlier process left in the journal.

        Args:
            config: where and how.
            on_failure: told once when storing or publishing begins to fail, from a thread of the
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
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()
        if config.publish:
            self._publisher.start()

    def append(self, row: PredictionRow) -> None:
        """Take an answer; never waits. A full queue drops it, which :attr:`status` counts.

        The row's arrays must not change afterwards.
        """
        self._offer(self._predictions, row)

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
        )

    def flush(self, timeout: float = 10.0) -> bool:
        """Wait until all that was appended so far is on the local disk.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it is; False also while the disk takes nothing.
        """
        goals = [channel.accepted for channel in self._channels]

        def reached() -> bool:
            pairs = zip(self._channels, goals, strict=True)
            return not self._sessions and all(channel.settled >= goal for channel, goal in pairs)

        with self._turns:
            self._hurry = True
            self._turns.notify_all()
            return self._turns.wait_for(reached, timeout)

    def bring_home(self) -> None:
        """Publish soon what somebody else has put into the journal's folder."""
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
        self._publisher.stop(max(end - time.monotonic(), 0.0))
        return self.status

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _offer(self, channel: Channel, row: PredictionRow | Feedback) -> None:
        if self._closed:
            channel.dropped += 1
        elif channel.offer(row) and channel.queued * 2 > self.config.queue_rows and not self._hurry:
            with self._turns:
                self._hurry = True
                self._turns.notify_all()

    def _run(self) -> None:
        since = datetime.now(UTC) - _REMEMBERED
        for channel in self._channels:
            channel.recent.load(self._place, channel.stream, since)
        boundary, dropped = self._next_boundary(), 0
        while True:
            with self._turns:
                self._turns.wait_for(lambda: self._hurry, self.config.flush_seconds)
                last, self._hurry = self._stopping, False
            self._note(_STORE, self._store())
            before, dropped = dropped, sum(channel.dropped for channel in self._channels)
            self._note(_KEEP_UP, self._lost(dropped - before))
            if last or time.time() >= boundary:
                boundary = self._next_boundary()
                self._roll(self._channels)
            else:
                roll_bytes = self.config.roll_bytes
                self._roll([one for one in self._channels if one.journal_bytes >= roll_bytes])
            if last:
                for channel in self._channels:
                    channel.give_up()
            with self._turns:
                self._turns.notify_all()
            if last:
                return

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

    def _roll(self, channels: tuple[Channel, ...] | list[Channel]) -> None:
        if any([channel.roll() is not None for channel in channels]):
            self._publisher.wake()

    def _next_boundary(self) -> float:
        every = self.config.roll_seconds
        return (time.time() // every + 1) * every

    def _note(self, what: str, failure: StorageError | None) -> None:
        """Keep the failure; tell of it when it begins, not every second."""
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
    return "free some space"
