"""Summaries of sessions: one JSON file each, first on the local disk, then at the log's place."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import fs

from foundation.errors import InvalidInput, StorageError
from foundation.storage import atomic_path
from inference_graph.prediction_log.place import Place, open_place
from inference_graph.prediction_log.row import SessionSummary

FOLDER = "sessions"
_TIMES = ("started", "ended")


def session_file(summary: SessionSummary) -> str:
    """File name of a summary; a name that a client uses again does not replace the first one."""
    return f"{summary.session}.{summary.started.astimezone(UTC):%Y%m%dT%H%M%S%f}.json"


def spool_session(place: Place, summary: SessionSummary, prefix: str = "") -> Path:
    """Store a summary on the local disk.

    Args:
        place: whose journal gets it.
        summary: of the session.
        prefix: before its file's name, to distinguish those of other machines.

    Returns:
        Its file.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    content = dataclasses.asdict(summary)
    for name in _TIMES:
        content[name] = content[name].astimezone(UTC).isoformat()
    final = place.journal / FOLDER / (prefix + session_file(summary))
    with atomic_path(final) as path:
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
    return final


def publish_sessions(place: Place) -> None:
    """Bring the stored summaries to the place.

    Raises:
        StorageError: the place cannot be written; what is left waits on the local disk.
        OSError: the local disk cannot be read.
    """
    for path in waiting_sessions(place):
        place.put(f"{FOLDER}/{path.name}", path)
        path.unlink(missing_ok=True)


def session_names(url: str) -> set[str]:
    """File names of all summaries of a log, for less than reading them.

    Args:
        url: the log's folder or bucket.

    Raises:
        ConfigurationError: no usable url.
        StorageError: the log cannot be listed.
    """
    place = open_place(url)
    # The local ones first: one that is published in between is seen twice, not missed.
    return {path.name for path in waiting_sessions(place)} | set(_published(place))


def read_sessions(url: str, journal: Path | None = None) -> dict[str, SessionSummary]:
    """All summaries of a log by file name, oldest start first.

    Args:
        url: the log's folder or bucket.
        journal: its journal's folder, if it is not the default one.

    Raises:
        ConfigurationError: no usable url.
        StorageError: the log cannot be read.
        InvalidInput: a file is no summary; the message names it.
    """
    place = open_place(url, journal)
    found: dict[str, SessionSummary] = {}
    for path in waiting_sessions(place):
        try:
            found[path.name] = parse_session(path.name, path.read_bytes())
        except FileNotFoundError:
            continue  # at the place by now
        except OSError as error:
            raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    for name in _published(place):
        if name not in found:
            with place.opened(f"{FOLDER}/{name}") as stream:
                found[name] = parse_session(name, stream.read())
    return dict(sorted(found.items(), key=lambda item: (item[1].started, item[0])))


def waiting_sessions(place: Place) -> list[Path]:
    """Summaries on the local disk that are not at the place yet; hidden files are temporaries."""
    return sorted((place.journal / FOLDER).glob("[!.]*.json"))


def _published(place: Place) -> list[str]:
    listed = place.listed(FOLDER, fs.FileType.File)
    return [name for name in listed if name.endswith(".json") and not name.startswith(".")]


def parse_session(name: str, data: bytes) -> SessionSummary:
    """A summary from its file's content.

    Raises:
        InvalidInput: it is none; the message names it.
    """
    try:
        content: dict[str, Any] = json.loads(data)
        for field in _TIMES:
            content[field] = datetime.fromisoformat(content[field])
        return SessionSummary(**content)
    except (ValueError, TypeError, KeyError, InvalidInput) as error:
        raise InvalidInput(f"{FOLDER}/{name} is no session summary ({error}); remove it") from error
