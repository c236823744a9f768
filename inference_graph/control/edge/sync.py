"""Bringing a device's log to the platform, losing and doubling nothing.

A closed file of the log (a *journal*) has a name that no other one has. The platform turns it into
parts of that name, at the log's own place or through a gateway, so sending it again changes
nothing. It is removed from the device only after the platform has named its rows and its digest:
that a request was answered with 200 proves nothing, for so does the page of a captive portal.
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

from foundation.errors import (
    ConfigurationError,
    GearshiftError,
    InvalidInput,
    StorageError,
    Unavailable,
    error_class,
)
from inference_graph.prediction_log.columns import PREDICTIONS
from inference_graph.prediction_log.journal import (
    DAMAGED_SUFFIX,
    SUFFIX,
    JournalDamaged,
    read_journal,
    rewritten,
    set_aside,
)
from inference_graph.prediction_log.place import Place, open_place
from inference_graph.prediction_log.publish import (
    Published,
    Unpublishable,
    publish,
    publish_abandoned,
)
from inference_graph.prediction_log.session_files import FOLDER as SESSIONS
from inference_graph.prediction_log.session_files import publish_sessions

JOURNAL = "journal"
"""Subfolder of a device's log with what is to be sent."""

Progress = Callable[[int, int | None], None]
"""Called with the number of files sent and of those there are."""

_LOG = logging.getLogger(__name__)
_TIMEOUT = 60.0
_SPECIAL: Mapping[int, type[GearshiftError]] = {422: InvalidInput}
_RETRY = (2.0, 300.0)
"""Seconds until the first retry, and at most; each one waits twice as long."""


@dataclass(frozen=True)
class SyncSummary:
    """Result of a sync.

    Attributes:
        to: where, without credentials.
        files: files of the log that are at the platform now.
        rows: answers in them.
        sessions: summaries of sessions sent.
        damaged: files that can be read in part; that part was sent, and they are kept on
            the device under another suffix.
        lost_rows: answers that are known to have stood where they are damaged.
        refused: files that can never be published; they are kept on the device likewise.
        left_bytes: length of what still waits on the device, what is being written included.
    """

    to: str
    files: int
    rows: int
    sessions: int
    damaged: int
    lost_rows: int
    refused: int
    left_bytes: int

    def set_aside(self, log: Path) -> str | None:
        """What people have to know of files that were set aside; None where there are none."""
        if not self.damaged and not self.refused:
            return None
        return (
            f"warning: {self.damaged} files of the log are damaged ({self.lost_rows} answers are "
            f"known to be lost), {self.refused} can never be brought; they are kept in "
            f"{log / JOURNAL} as *.damaged and *.refused, and *.reason says why"
        )


class SyncTarget(Protocol):
    """Where a log is sent."""

    name: str

    def journal(self, path: Path) -> Published:
        """Publish a journal that has no writer, and remove it once it is safe there.

        Returns:
            How many rows were published, and what could not be read.

        Raises:
            Unpublishable: it can never be published, and was set aside.
            GearshiftError: it is not safe there; it stays.
        """
        ...

    def sessions(self) -> int:
        """Publish the summaries likewise; returns how many there were."""
        ...


class PlaceTarget:
    """The place of the platform's log: a folder, s3:// or gs://."""

    def __init__(self, url: str, journal: Path) -> None:
        """Nothing is opened yet; raises ConfigurationError for no usable url."""
        self._place: Place = open_place(url, journal)
        self.name = self._place.name

    def journal(self, path: Path) -> Published:
        """See :class:`SyncTarget`."""
        return publish(self._place, PREDICTIONS.name, path)

    def sessions(self) -> int:
        """See :class:`SyncTarget`."""
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

    def journal(self, path: Path) -> Published:
        """See :class:`SyncTarget`."""
        rows, damage = _counted(path)
        if rows:
            # Without what a killed writer began, and with what was added to rows later.
            self._put(PREDICTIONS.name, path.name, rewritten(path), rows)
        if damage is None:
            self._remove(path)
        else:
            set_aside(path, DAMAGED_SUFFIX, str(damage))
        return Published(rows, damage)

    def sessions(self) -> int:
        """See :class:`SyncTarget`."""
        sent = 0
        refused: InvalidInput | None = None
        for path in _session_files(self._journal):
            try:
                self._put(SESSIONS, path.name, path.read_bytes(), 0)
            except InvalidInput as error:
                refused = refused or error
                continue
            self._remove(path)
            sent += 1
        if refused is not None:
            raise refused
        return sent

    def _remove(self, path: Path) -> None:
        """The gateway has it on its disk."""
        path.unlink(missing_ok=True)

    def _put(self, stream: str, name: str, data: bytes, rows: int) -> None:
        """Send a file; returns once the gateway has named its rows and its digest."""
        where = f"{self.name}/v1/log/{stream}/{quote(name)}"
        digest = hashlib.sha256(data).hexdigest()
        try:
            answer = self._http.put(
                where,
                params={"sha256": digest},
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
            kind = error_class(answer.status_code, _SPECIAL, server_error=Unavailable)
            raise kind(
                f"{where} answers {answer.status_code}: {_detail(answer)}; {name} stays here"
            )
        receipt = _receipt(answer)
        if (receipt.get("rows"), receipt.get("sha256")) != (rows, digest):
            raise Unavailable(
                f"{where} answers 200, but does not name the {rows} rows and the digest of "
                f"{name}, which stays here; look for a proxy or a login page on the way, or bring "
                "the gateway to this version"
            )


def open_target(url: str, log: Path, token: str | None = None) -> SyncTarget:
    """What an address stands for: a gateway (http://, https://), or a place of a log.

    Raises:
        ConfigurationError: neither.
    """
    journal = Path(log) / JOURNAL
    if url.startswith(("http://", "https://")):
        return GatewayTarget(url, journal, token)
    return PlaceTarget(url, journal)


def sync_log(
    log: Path, target: SyncTarget, progress: Progress = lambda done, of: None
) -> SyncSummary:
    """Send the closed files of a device to the platform, the oldest first.

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
        InvalidInput: the gateway refuses a file; states why.
    """
    log = Path(log)
    if not log.is_dir():
        raise StorageError(f"there is no log at {log}; give the folder of gearshift edge run")
    rows = files = damaged = lost = aside = sessions = 0
    refused: list[GearshiftError] = []
    waiting = len(list((log / JOURNAL / PREDICTIONS.name).glob(f"*{SUFFIX}")))

    def sync_journal(_: str, path: Path) -> None:
        nonlocal rows, files, damaged, lost, aside
        try:
            published = target.journal(path)
        except InvalidInput as error:
            refused.append(error)
            return
        except Unpublishable as error:
            aside += 1
            _LOG.error("%s", error)
            return
        rows, files = rows + published.rows, files + 1
        if published.damage is not None:
            damaged, lost = damaged + 1, lost + published.damage.rows
            _LOG.error("%s; it is kept as *%s", published.damage, DAMAGED_SUFFIX)
        progress(files, waiting)

    try:
        # A device's own log has its folder for a place; nothing is published there.
        for error in publish_abandoned(open_place(str(log)), PREDICTIONS.name, sync_journal):
            refused.append(StorageError(f"a file of the log cannot be read ({error})"))
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
    left = waiting_bytes(log)
    return SyncSummary(target.name, files, rows, sessions, damaged, lost, aside, left)


def waiting_bytes(log: Path) -> int:
    """Length of what is on a device and at no platform yet."""
    total = 0
    for path in (log / JOURNAL / PREDICTIONS.name).glob(f"*{SUFFIX}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue  # just published
    return total


class SyncWorker:
    """Syncs in the background for as long as a run lasts, whenever the network is there."""

    def __init__(
        self, log: Path, target: SyncTarget, every_seconds: float, report: Callable[[str], None]
    ) -> None:
        """Prepare; use it as a context manager.

        Args:
            log: folder of the device's log.
            target: where to.
            every_seconds: pause between two syncs; failed ones are tried again later and later.
            report: called when syncing begins to fail, when it works again, and for files that were
                set aside.
        """
        self._log, self._target, self._every, self._report = log, target, every_seconds, report
        self._stop = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="sync_worker", daemon=True)

    def __enter__(self) -> SyncWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def once(self) -> SyncSummary | None:
        """Sync now; None if it failed, which is reported."""
        try:
            summary = sync_log(self._log, self._target)
        except GearshiftError as error:
            if not self._failing:
                self._report(f"the log stays on the device for now: {error}")
            self._failing = True
            return None
        aside = summary.set_aside(self._log)
        if aside is not None:
            self._report(aside)
        if self._failing:
            self._report(f"the log is synced to {self._target.name} again")
        self._failing = False
        return summary

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            done = self.once() is not None
            wait = self._every if done else min(max(2 * wait, _RETRY[0]), _RETRY[1])


def _counted(path: Path) -> tuple[int, JournalDamaged | None]:
    """Rows that can be read, and what cannot."""
    rows = 0
    try:
        for batch in read_journal(path, [PREDICTIONS.key]):
            rows += batch.num_rows
    except JournalDamaged as damage:
        return rows, damage
    return rows, None


def _session_files(journal: Path) -> list[Path]:
    return sorted((journal / SESSIONS).glob("[!.]*.json"))


def _detail(answer: httpx.Response) -> str:
    return str(_receipt(answer).get("detail", "no reason given"))[:300]


def _receipt(answer: httpx.Response) -> Mapping[str, Any]:
    """The object that an answer holds; empty where it holds something else."""
    try:
        receipt: Any = answer.json()
    except ValueError:
        return {}
    return receipt if isinstance(receipt, dict) else {}
