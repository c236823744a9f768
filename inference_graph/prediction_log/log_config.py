"""Where and how answers are logged, and how that is going."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from foundation.configuration import configuration
from foundation.errors import StorageError

ACTIVITIES = ("store", "sync", "publish", "keep up")
"""What a log does, and can fail at."""


@configuration
class LogConfig:
    """Where and how answers are logged.

    Attributes:
        url: a folder, or an s3:// or gs:// url as pyarrow reads it.
        journal: local folder for rows that are in no part yet; for a folder its subfolder
            ``journal``, for a bucket one below ``$XDG_STATE_HOME/gearshift`` without it.
        flush_seconds: rows are written to the journal after at most so long, where the death of
            the process leaves them.
        sync_seconds: what was written is brought to the disk itself so often, against a power cut.
        roll_seconds: they are in a Parquet part after at most so long; aligned to the clock.
        roll_bytes: or once the journal is so long.
        observation_share: share of the rows whose observation is kept, 0..1.
        queue_rows: rows that wait for the local disk at most; further ones are dropped.
        recent_rows: keys remembered to know a row that comes again.
        journal_limit_bytes: how much the local disk holds at most while the place takes nothing.
        publish: bring rows to the place; without it they stay in the journal, for another process
            to publish.
    """

    url: str
    journal: Path | None = None
    flush_seconds: Annotated[float, Field(ge=0.01, le=60)] = 0.25
    sync_seconds: Annotated[float, Field(ge=0.01, le=60)] = 1.0
    roll_seconds: Annotated[float, Field(ge=1, le=86_400)] = 3600.0
    roll_bytes: Annotated[int, Field(ge=1024, le=1024**3)] = 32 * 1024 * 1024
    observation_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    queue_rows: Annotated[int, Field(ge=1, le=10**6)] = 4096
    recent_rows: Annotated[int, Field(ge=0, le=10**7)] = 20_000
    journal_limit_bytes: Annotated[int, Field(ge=1024, le=1024**4)] = 1024**3
    publish: bool = True


@dataclass(frozen=True)
class LogStatus:
    """How the log is doing; all counts are since it was opened.

    Attributes:
        accepted: rows of both streams that were taken.
        stored: rows that were written to the journal.
        duplicates: rows that were stored before under the same key.
        refused: rows that could not be put into columns.
        dropped: rows that found the queue full, or could not be written before the end.
        queued: rows that wait to be written now.
        outages: how often storing or publishing began to fail.
        backlog_bytes: length of the journals on the local disk.
        failure: what is wrong now; None while all is well.
        published: rows that reached the log's place.
        flushed_at: when all that waited was last in the journal, seconds since 1970.
        published_at: when all closed journals were last at the log's place, likewise.
        failing: the activities that fail now, of ``ACTIVITIES``.
        set_aside: journals that were set aside: damaged, or unfit to become parts.
        damaged_rows: rows that are known to have stood where a journal was damaged.
        unamended: additions to rows that were dropped as rows are; the rows lack them.
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
    set_aside: int
    damaged_rows: int
    unamended: int
