"""Taking in what another machine logged: journals and summaries of a device without a network.

A journal that is sent is stored as it came, under a name made of the sender's and its own, and
from then on it is a journal like any that a writer left behind. So it becomes parts of that name,
and the same journal sent again becomes the same parts again: nothing is doubled. It is on the disk
before the sender is answered: nothing is lost.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from foundation.errors import InvalidInput, StorageError
from foundation.file_lock import lock, named_failure
from foundation.storage import sha256_file, sync
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import DAMAGED_SUFFIX, REFUSED_SUFFIX
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.received import check_received
from inference_graph.prediction_log.session_files import parse_session, spool_session
from inference_graph.prediction_log.writer import INCOMING, PredictionLog

JOURNAL_NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}-[0-9]{6}\.journal")
"""As the writer names them."""
_PREFIX = "edge"


@contextmanager
def incoming(log: PredictionLog) -> Iterator[Path]:
    """An empty file of the journal's disk to receive a journal in; what is not taken is removed.

    Raises:
        StorageError: it cannot be made.
    """
    folder = open_place(log.config.url, log.config.journal).journal / INCOMING
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{secrets.token_hex(8)}.partial"
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror}; check it") from error
    try:
        with named_failure(path):
            lock(handle)  # the kernel lifts it, so a leftover is known by it
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)
        log.publish_journals()  # what was taken is a journal without an owner from now on


def take_journal(
    log: PredictionLog,
    sender: str,
    name: str,
    received: Path,
    sha256: str,
    is_own: Callable[[str], bool] = lambda event_id: False,
) -> int:
    """Store a journal; when this returns, it is on the disk.

    Args:
        log: the open log that shall have its rows.
        sender: name of the token it came with.
        name: its file name at the sender's.
        received: file with its content, on the journal's disk; it is moved from there.
        sha256: digest the content must have; a transfer that broke off would else be taken for a
            journal that its writer did not finish.
        is_own: whether an event id is of an answer that was given here, which no device gives.

    Returns:
        How many rows it has.

    Raises:
        InvalidInput: another digest, or no journal of answers; the message names it.
        StorageError: the journal's disk holds as much as it may, or cannot be written.
    """
    if not JOURNAL_NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is no name of a journal; send it as it is called")
    _check_digest(name, sha256_file(received), sha256)
    place = open_place(log.config.url, log.config.journal)
    check_room(log, name, received.stat().st_size)
    rows = check_received(received, name, is_own)
    final = place.journal / PREDICTIONS.name / f"{_PREFIX}.{sender}.{name}"
    try:
        sync(received)
        final.parent.mkdir(parents=True, exist_ok=True)
        # Beside the others from the start, it would be taken for a journal while it is received.
        os.replace(received, final)
        sync(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror}; free some space") from error
    return rows


def check_room(log: PredictionLog, name: str, length: int) -> None:
    """Refuse a journal that the disk shall have no room for.

    Raises:
        StorageError: the journals there are as long as they may be.
    """
    folder = open_place(log.config.url, log.config.journal).journal / PREDICTIONS.name
    # What was sent damaged is kept as well, and must not fill the disk.
    aside = [path for end in (DAMAGED_SUFFIX, REFUSED_SUFFIX) for path in folder.glob(f"*{end}")]
    held = log.status.backlog_bytes + sum(path.stat().st_size for path in aside)
    room = log.config.journal_limit_bytes - held
    if length > room:
        raise StorageError(
            f"the log has room for {max(room, 0)} bytes that are in no part, and {name[:80]} has "
            f"{length}; send it later"
        )


def take_session(log: PredictionLog, sender: str, name: str, data: bytes, sha256: str) -> None:
    """Store a summary of a session, likewise; its client is the sender, whatever the file names.

    Raises:
        InvalidInput: another digest, or no summary.
        StorageError: the journal's disk cannot be written.
    """
    _check_digest(name, hashlib.sha256(data).hexdigest(), sha256)
    summary = dataclasses.replace(parse_session(name[:200], data), client=sender)
    place = open_place(log.config.url, log.config.journal)
    final = spool_session(place, summary, f"{_PREFIX}.{sender}.")
    try:
        sync(final)
        sync(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror}; free some space") from error
    log.publish_journals()


def _check_digest(name: str, found: str, sha256: str) -> None:
    if found != sha256.lower():
        raise InvalidInput(
            f"{name[:80]} came with SHA-256 {found[:12]}…, not {sha256[:12]}…; send it again"
        )
