"""Taking in what another machine logged: journals and summaries of a device without a network.

A journal that is sent is stored as it came, under a name made of the sender's and its own, and
from then on it is a journal like any that a writer left behind. So it becomes parts of that name,
and the same journal sent again becomes the same parts again: nothing is doubled. It is on the disk
before the sender hears so: nothing is lost.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import threading
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from feature_transformer.errors import InvalidInput, StorageError
from feature_transformer.storage import atomic_path, remove_leftovers, sync
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import Damage, read_journal
from inference_graph.prediction_log.place import open_place
from inference_graph.prediction_log.row import check_event_id
from inference_graph.prediction_log.session_files import parse_session, spool_session
from inference_graph.prediction_log.writer import PredictionLog

JOURNAL_NAME = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}-[0-9]{6}\.journal")
"""As the writer names them."""
_PREFIX = "edge"
_INCOMING = "incoming"
_TAKING = threading.Lock()
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Times of rows. A device without a network may have a wrong clock; its rows count all the same."""


def take_journal(log: PredictionLog, sender: str, name: str, data: bytes, sha256: str) -> int:
    """Store a journal; when this returns, it is on the disk.

    Args:
        log: the open log that shall have its rows.
        sender: name of the token it came with.
        name: its file name at the sender's.
        data: its content.
        sha256: digest the content must have; a transfer that broke off would else be taken for a
            journal that its writer did not finish.

    Returns:
        How many rows it has.

    Raises:
        InvalidInput: another digest, or no journal of answers; says what is wrong.
        StorageError: the journal's disk holds as much as it may, or cannot be written.
    """
    if not JOURNAL_NAME.fullmatch(name):
        raise InvalidInput(f"{name[:80]!r} is no name of a journal; send it as it is called")
    _check_digest(name, data, sha256)
    place = open_place(log.config.url, log.config.journal)
    room = log.config.journal_limit_bytes - log.status.backlog_bytes
    if len(data) > room:
        raise StorageError(
            f"the log has room for {max(room, 0)} bytes that are in no part yet, and {name} has "
            f"{len(data)}; send it later"
        )
    final = place.journal / PREDICTIONS.name / f"{_PREFIX}.{sender}.{name}"
    incoming = place.journal / _INCOMING / final.name
    try:
        with _TAKING:
            # Beside the others it would be taken for a journal while it is still being written.
            remove_leftovers(incoming)
            with atomic_path(incoming) as partial:
                partial.write_bytes(data)
                rows = _checked(partial, name)
                sync(partial)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(incoming, final)
            sync(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror}; free some space") from error
    log.bring_home()
    return rows


def take_session(log: PredictionLog, sender: str, name: str, data: bytes, sha256: str) -> None:
    """Store a summary of a session, likewise; its client is the sender, whatever it says.

    Raises:
        InvalidInput: another digest, or no summary.
        StorageError: the journal's disk cannot be written.
    """
    _check_digest(name, data, sha256)
    summary = dataclasses.replace(parse_session(name[:200], data), client=sender)
    place = open_place(log.config.url, log.config.journal)
    final = spool_session(place, summary, f"{_PREFIX}.{sender}.")
    try:
        sync(final)
        sync(final.parent)
    except OSError as error:
        raise StorageError(f"cannot write {final}: {error.strerror}; free some space") from error
    log.bring_home()


def _checked(path: Path, name: str) -> int:
    """Rows of a journal from elsewhere, each of which can be published and read."""
    rows = 0
    try:
        for batch in read_journal(path):
            _check_schema(batch.schema, name)
            batch.validate(full=True)
            for key in batch.column(PREDICTIONS.key).to_pylist():
                check_event_id(key or "")
            times = batch.column("time")
            if times.null_count or not all(_FIRST <= time < _LAST for time in times.to_pylist()):
                raise InvalidInput(f"{name} has a row without a time from 1970 to 2199")
            rows += batch.num_rows
    except (Damage, pa.ArrowException, OSError, OverflowError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; Arrow says OSError of a message that is none, too
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:150]
        raise InvalidInput(f"{name} is no sound journal of answers ({reason})") from error
    if not rows:
        raise InvalidInput(f"{name} is no journal, or has no row; there is nothing to send")
    return rows


def _check_schema(schema: pa.Schema, name: str) -> None:
    """Columns of this version, or some of them, as an older one wrote them."""
    known = PREDICTIONS.schema
    odd = [
        field.name
        for field in schema
        if field.name not in known.names or known.field(field.name).type != field.type
    ]
    odd += [needed for needed in (PREDICTIONS.key, "time") if needed not in schema.names]
    if odd or len(set(schema.names)) < len(schema.names):
        raise InvalidInput(
            f"{name} has other columns than the log ({', '.join(odd)[:150]}); bring the gateway "
            "to the device's version"
        )


def _check_digest(name: str, data: bytes, sha256: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != sha256.lower():
        raise InvalidInput(
            f"{name[:80]} came with SHA-256 {found[:12]}…, not {sha256[:12]}…; send it again"
        )
