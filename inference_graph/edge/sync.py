"""Bringing a device's log to the platform, losing and doubling nothing.

A closed file of the log (a *journal*) has a name that no other one has. The platform turns it into
parts of that name, at the log's own place or through a gateway, so sending it again changes
nothing, and it is removed from the device only after the platform has said that it is on its disk.
Wherever a device, the network or the platform fails in between, the file is simply sent again.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import httpx

from feature_transformer.errors import (
    AccessError,
    ConfigurationError,
    Forbidden,
    GearshiftError,
    InvalidInput,
    StorageError,
    Unavailable,
)
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import (
    DAMAGED_SUFFIX,
    SUFFIX,
    Damage,
    Journal,
    read_journal,
)
from inference_graph.prediction_log.place import Place, open_place
from inference_graph.prediction_log.publish import adopt_orphans, publish
from inference_graph.prediction_log.session_files import FOLDER as SESSIONS
from inference_graph.prediction_log.session_files import publish_sessions

JOURNAL = "journal"
"""Subfolder of a device's log with what is to be sent."""

Progress = Callable[[int, int | None], None]
"""Called with the number of files sent and of those there are."""

_LOG = logging.getLogger(__name__)
_TIMEOUT = 60.0
_ERRORS: Mapping[int, type[GearshiftError]] = {401: AccessError, 403: Forbidden, 507: StorageError}
_RETRY = (2.0, 300.0)
"""Seconds until the first retry, and at most; each one waits twice as long."""


@dataclass(frozen=True)
class SyncSummary:
    """What a sync came to.

    Attributes:
        to: where, without credentials.
        files: files of the log that are at the platform now.
        rows: answers in them.
        sessions: summaries of sessions brought.
        damaged: files of which only what stood before some damage could be brought; they are kept
            on the device under another suffix.
        left_bytes: length of what still waits on the device, what is being written included.
    """

    to: str
    files: int
    rows: int
    sessions: int
    damaged: int
    left_bytes: int


class Target(Protocol):
    """Where a log is brought."""

    name: str

    def journal(self, path: Path) -> tuple[int, bool]:
        """Bring a journal nobody writes, and remove it once it is safe there.

        Returns:
            How many rows it had, and whether it was sound.

        Raises:
            GearshiftError: it is not safe there; it stays.
        """
        ...

    def sessions(self) -> int:
        """Bring the summaries likewise; how many there were."""
        ...


class PlaceTarget:
    """The place of the platform's log: a folder, s3:// or gs://."""

    def __init__(self, url: str, journal: Path) -> None:
        """Nothing is opened yet; raises ConfigurationError for no usable url."""
        self._place: Place = open_place(url, journal)
        self.name = self._place.name

    def journal(self, path: Path) -> tuple[int, bool]:
        """See :class:`Target`."""
        published = publish(self._place, PREDICTIONS.name, path)
        return published.rows, published.sound

    def sessions(self) -> int:
        """See :class:`Target`."""
        count = len(_session_files(self._place.journal))
        publish_sessions(self._place)
        return count


class GatewayTarget:
    """A gateway, which stores what it is sent in the platform's log."""

    def __init__(self, url: str, journal: Path, token: str | None = None) -> None:
        """Nothing is asked yet."""
        self.name = url.rstrip("/")
        self._journal = journal
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(timeout=_TIMEOUT, headers=headers)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def journal(self, path: Path) -> tuple[int, bool]:
        """See :class:`Target`."""
        rows, sound = _counted(path)
        if rows and sound:
            self._put(PREDICTIONS.name, path.name, path.read_bytes())
        elif rows:
            self._put(PREDICTIONS.name, path.name, _before_damage(path))
        if sound:
            self._remove(path)
        else:
            path.rename(path.with_suffix(DAMAGED_SUFFIX))
        return rows, sound

    def sessions(self) -> int:
        """See :class:`Target`."""
        brought = 0
        refused: InvalidInput | None = None
        for path in _session_files(self._journal):
            try:
                self._put(SESSIONS, path.name, path.read_bytes())
            except InvalidInput as error:
                refused = refused or error
                continue
            self._remove(path)
            brought += 1
        if refused is not None:
            raise refused
        return brought

    def _remove(self, path: Path) -> None:
        """The gateway has it on its disk."""
        path.unlink(missing_ok=True)

    def _put(self, stream: str, name: str, data: bytes) -> None:
        where = f"{self.name}/v1/log/{stream}/{quote(name)}"
        try:
            answer = self._http.put(
                where,
                params={"sha256": hashlib.sha256(data).hexdigest()},
                content=data,
                headers={"content-type": "application/octet-stream"},
            )
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise ConfigurationError(
                f"{self.name!r} is no gateway; give http://HOST:PORT"
            ) from error
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"no gateway answers at {self.name} ({reason}); the log stays here, sync it later"
            ) from None
        if answer.status_code != 200:
            other = Unavailable if answer.is_server_error else InvalidInput
            kind = _ERRORS.get(answer.status_code, other)
            raise kind(
                f"{where} answers {answer.status_code}: {_detail(answer)}; {name} stays here"
            )


def open_target(url: str, log: Path, token: str | None = None) -> Target:
    """What an address stands for: a gateway (http://, https://), or a place of a log.

    Raises:
        ConfigurationError: neither.
    """
    journal = Path(log) / JOURNAL
    if url.startswith(("http://", "https://")):
        return GatewayTarget(url, journal, token)
    return PlaceTarget(url, journal)


def sync_log(log: Path, target: Target, progress: Progress = lambda done, of: None) -> SyncSummary:
    """Bring what a device has closed to the platform, the oldest first.

    What a run is writing just now stays until it is closed. Two syncs at once share the work. A
    file that a gateway refuses stays and holds up no other.

    Args:
        log: folder of the device's log.
        target: where to.
        progress: called after each file.

    Raises:
        StorageError: the place cannot be written, or the device's disk not be read.
        Unavailable: the gateway does not answer.
        AccessError: the token is missing, wrong, or has not the role sync.
        InvalidInput: the gateway refuses a file; says why.
    """
    log = Path(log)
    if not log.is_dir():
        raise StorageError(f"there is no log at {log}; give the folder of gearshift edge run")
    rows = files = damaged = sessions = 0
    refused: list[InvalidInput] = []
    waiting = len(list((log / JOURNAL / PREDICTIONS.name).glob(f"*{SUFFIX}")))

    def bring(_: str, path: Path) -> None:
        nonlocal rows, files, damaged
        try:
            count, sound = target.journal(path)
        except InvalidInput as error:
            refused.append(error)
            return
        rows, files, damaged = rows + count, files + 1, damaged + (not sound)
        progress(files, waiting)

    try:
        # A device's own log has its folder for a place; nothing is published there.
        adopt_orphans(open_place(str(log)), PREDICTIONS.name, bring)
        try:
            sessions = target.sessions()
        except InvalidInput as error:
            refused.append(error)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StorageError(
                f"the disk is full, and {target.name} takes parts, which are made in "
                f"{tempfile.gettempdir()} first; free a few megabytes, name another folder in "
                "$TMPDIR, or sync through a gateway"
            ) from error
        raise StorageError(
            f"the log at {log} cannot be read ({error}); check the folder"
        ) from error
    if refused:
        raise InvalidInput(f"{refused[0]}; {files} other files were brought")
    return SyncSummary(target.name, files, rows, sessions, damaged, waiting_bytes(log))


def waiting_bytes(log: Path) -> int:
    """Length of what is on a device and at no platform yet."""
    total = 0
    for path in (log / JOURNAL / PREDICTIONS.name).glob(f"*{SUFFIX}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # just brought
    return total


class Courier:
    """Syncs in the background for as long as a run lasts, whenever the network is there."""

    def __init__(
        self, log: Path, target: Target, every_seconds: float, tell: Callable[[str], None]
    ) -> None:
        """Prepare; use it as a context manager.

        Args:
            log: folder of the device's log.
            target: where to.
            every_seconds: pause between two syncs; failed ones are tried again later and later.
            tell: told when syncing begins to fail, and when it works again.
        """
        self._log, self._target, self._every, self._tell = log, target, every_seconds, tell
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def once(self) -> SyncSummary | None:
        """Sync now; None if it failed, which is told."""
        try:
            summary = sync_log(self._log, self._target)
        except GearshiftError as error:
            if not self._failing:
                self._tell(f"the log stays on the device for now: {error}")
            self._failing = True
            return None
        if self._failing:
            self._tell(f"the log is synced to {self._target.name} again")
        self._failing = False
        return summary

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            done = self.once() is not None
            wait = self._every if done else min(max(2 * wait, _RETRY[0]), _RETRY[1])


def _counted(path: Path) -> tuple[int, bool]:
    rows = 0
    try:
        for batch in read_journal(path, [PREDICTIONS.key]):
            rows += batch.num_rows
    except Damage:
        return rows, False
    return rows, True


def _before_damage(path: Path) -> bytes:
    """A journal of what stands before the damage, the same bytes however often it is asked for."""
    copy = path.with_name(f".{path.name}.sound")
    copy.unlink(missing_ok=True)
    journal: Journal | None = None
    try:
        for batch in read_journal(path):
            journal = journal or Journal(copy, batch.schema)
            journal.append(batch)
    except Damage:
        pass
    finally:
        if journal is not None:
            journal.close()
    data = copy.read_bytes() if journal is not None else b""
    copy.unlink(missing_ok=True)
    return data


def _session_files(journal: Path) -> list[Path]:
    return sorted((journal / SESSIONS).glob("[!.]*.json"))


def _detail(answer: httpx.Response) -> str:
    try:
        told: Any = answer.json()
        return str(told["detail"])[:300]
    except (ValueError, KeyError, TypeError):
        return "no reason given"
