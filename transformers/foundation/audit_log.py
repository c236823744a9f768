"""The audit log: who did what, when, and with which figures; changing it later shows.

::

    {"number": 7, "time": "...", "who": "anna@desk", "what": "policy.swap", "about": "3f2a...",
     "figures": {...}, "previous": "<digest of entry 6>", "digest": "<SHA-256 of this entry>"}

Every actor appends to one file, under a lock that all processes share. An entry's digest is taken
over all its other fields, the digest of the entry before among them, so the entries are a chain: an
entry that is edited, taken out, put in or moved breaks it, and :func:`verify` names the place. What
a chain cannot show by itself is that its end is missing, or that all of it was written anew. An
*anchor*, ``number:digest`` of an entry, kept anywhere else shows both; every append also logs its
anchor to ``gearshift.audit``, so that a collected service log is full of them.
"""

from __future__ import annotations

import getpass
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foundation.errors import InvalidInput, StorageError
from foundation.json_lines import Line, continuing
from foundation.regular_file import open_regular

AUDIT = "GEARSHIFT_AUDIT"
"""Environment variable that names the file."""
WHO = "GEARSHIFT_WHO"
"""Environment variable with the name of who acts, in place of the account's."""
DEFAULT = Path("runs/audit.jsonl")
_ACTOR = 128
LONGEST = 65_536
"""Bytes of an entry at most."""
START = "0" * 64
"""What stands for the digest of the entry before the first one."""

_LOG = logging.getLogger("gearshift.audit")
_WHAT = re.compile(r"[a-z][a-z-]*(\.[a-z][a-z-]*)*")
_ANCHOR = re.compile(r"(\d{1,15}):([0-9a-f]{64})")
_FIELDS = ("number", "time", "who", "what", "about", "figures", "previous", "digest")


@dataclass(frozen=True)
class AuditEntry:
    """One action.

    Attributes:
        number: counted from 1.
        time: when; aware.
        who: did it; as the actor stated it; the log cannot prove it.
        what: "token.add", "policy.swap", "rollout.promote", ...
        about: what it was done to.
        figures: numbers and words behind it, as JSON.
        previous: digest of the entry before.
        digest: of this one.
    """

    number: int
    time: datetime
    who: str
    what: str
    about: str
    figures: Mapping[str, Any]
    previous: str
    digest: str

    @property
    def anchor(self) -> str:
        """``number:digest``, which proves this entry and all before it; keep it elsewhere."""
        return f"{self.number}:{self.digest}"

    def line(self) -> Line:
        """The entry as a line of the file."""
        return {**vars(self), "time": self.time.isoformat(), "figures": dict(self.figures)}


class AuditLog:
    """One file that only grows; any thread and any process may append."""

    def __init__(self, path: Path) -> None:
        """Nothing is made before the first entry."""
        self.path = Path(path)

    def record(
        self,
        who: str,
        what: str,
        about: str = "",
        figures: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> AuditEntry:
        """Append an entry; when this returns, it is on the disk.

        It takes the same time however long the file is. Record before acting: an entry of
        something that then failed does less harm than an act without an entry.

        Args:
            who: acts; at most 128 printable characters.
            what: words of a-z and hyphens, joined by dots.
            about: what it is done to; at most 300 characters.
            figures: what JSON knows, without NaN.
            now: the time, aware; this machine's without it.

        Raises:
            InvalidInput: an argument beyond its limits, or a file whose last line is no entry.
            StorageError: the file cannot be written.
        """
        check_actor(who)
        if not _WHAT.fullmatch(what) or len(what) > 64:
            raise InvalidInput(f"what is {what[:40]!r}; give words like policy.swap")
        if len(about) > 300:
            raise InvalidInput(f"about has {len(about)} characters; 300 fit")
        time = (now or datetime.now(UTC)).astimezone(UTC)
        try:
            given = json.loads(json.dumps(dict(figures or {}), allow_nan=False))
            _written({"about": about, "figures": given})  # a lone surrogate is no text
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{what}: its figures are no JSON: {error}") from error
        with continuing(self.path, LONGEST) as (last, append):
            before = None if last is None else _entry(last)
            if last is not None and before is None:
                raise InvalidInput(
                    f"the last line of {self.path} is no audit entry; see gearshift audit verify"
                )
            line: Line = {
                "number": 1 if before is None else before.number + 1,
                "time": time.isoformat(),
                "who": who,
                "what": what,
                "about": about,
                "figures": given,
                "previous": START if before is None else before.digest,
            }
            line["digest"] = digest_of(line)
            length = len(_written(line))
            if length > LONGEST:
                raise InvalidInput(f"the entry {what} has {length} bytes; {LONGEST} fit")
            append(line)
        entry = AuditEntry(**{**line, "time": time})
        _LOG.info("%s %s by %s: %s", entry.anchor, what, who, about)
        return entry


@dataclass(frozen=True)
class Verified:
    """The result of verifying an audit log.

    Attributes:
        path: the file.
        entries: how many lines there are.
        head: anchor of the last sound entry; empty without one.
        cut: bytes behind the last whole line: an append that a crash cut short.
        breaches: a sentence for each place where the chain does not hold.
        anchors: how many anchors were found as they were given.
    """

    path: Path
    entries: int
    head: str
    cut: int
    breaches: Sequence[str] = field(default=())
    anchors: int = 0

    @property
    def sound(self) -> bool:
        """Whether the chain and all anchors hold."""
        return not self.breaches


def verify(path: Path, anchors: Iterable[str] = ()) -> Verified:
    """Recompute the whole chain.

    Args:
        path: the log; a missing or empty one does not hold, for nothing it had can be shown.
        anchors: ``number:digest`` of entries, kept elsewhere.

    Raises:
        InvalidInput: an anchor of another form.
        StorageError: the file cannot be read.
    """
    wanted = [_anchor(text) for text in anchors]
    breaches: list[str] = []
    digests: dict[int, str] = {}
    expected, previous, head, count, cut = 1, START, "", 0, 0
    for count, text in enumerate(_lines(path), 1):
        if not text.endswith(b"\n"):
            cut = len(text)
            count -= 1
            break
        entry = _read(text[:-1])
        if entry is None:
            breaches.append(f"line {count} is no audit entry")
            continue
        if entry.digest != digest_of(entry.line()):
            breaches.append(f"line {count}: entry {entry.number} was changed")
        if entry.number != expected:
            breaches.append(f"line {count}: entry {entry.number} stands where {expected} belongs")
        elif entry.previous != previous:
            breaches.append(f"line {count}: entry {entry.number} does not continue the one before")
        else:
            head = entry.anchor
        digests.setdefault(entry.number, entry.digest)
        expected, previous = entry.number + 1, entry.digest
    for number, digest in wanted:
        if number not in digests:
            breaches.append(f"entry {number} of an anchor is missing: the log was cut off")
        elif digests[number] != digest:
            breaches.append(f"entry {number} is not the one of the anchor: the log was rewritten")
    if not count:
        state = "has no entry" if path.exists() else "is missing"
        breaches.insert(0, f"the log {state}: nothing was recorded yet, or it was removed")
    held = sum(digests.get(number) == digest for number, digest in wanted)
    return Verified(path, count, head, cut, tuple(breaches), held)


def read_entries(path: Path) -> list[AuditEntry]:
    """Every entry, the oldest first; their chain is not checked.

    Raises:
        InvalidInput: a line is no entry; names it.
        StorageError: the file cannot be read.
    """
    entries = []
    for number, text in enumerate(_lines(path), 1):
        if not text.endswith(b"\n"):
            break
        entry = _read(text[:-1])
        if entry is None:
            raise InvalidInput(
                f"{path} line {number} is no audit entry; see gearshift audit verify"
            )
        entries.append(entry)
    return entries


def audit_of_environment() -> AuditLog:
    """The log that ``$GEARSHIFT_AUDIT`` names, or ``runs/audit.jsonl``."""
    return AuditLog(Path(os.environ.get(AUDIT) or DEFAULT))


def check_actor(who: str) -> None:
    """Refuse who cannot be recorded.

    Raises:
        InvalidInput: not 1 to 128 printable characters.
    """
    if not who or not who.isprintable() or len(who) > _ACTOR:
        raise InvalidInput(f"who is {who[:40]!r}; give 1 to {_ACTOR} printable characters")


def operator() -> str:
    """Who acts on this machine: ``$GEARSHIFT_WHO``, or the account's name and the host's."""
    if stated := os.environ.get(WHO, "").strip():
        return stated
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = f"uid-{os.getuid()}"  # a container's user often has no name
    return f"{account}@{socket.gethostname()}"


def digest_of(line: Mapping[str, Any]) -> str:
    """SHA-256 of an entry without its digest, 64 hexadecimal digits.

    It is taken over the JSON with sorted keys, no blanks and ASCII only.
    """
    content = {name: value for name, value in line.items() if name != "digest"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _written(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode()


def _read(text: bytes) -> AuditEntry | None:
    """The entry of a line that is exactly what :meth:`AuditLog.record` would have written."""
    try:
        line = json.loads(text)
        # Blanks, or a name that comes twice, would be no change of what was read.
        return _entry(line) if isinstance(line, dict) and _written(line) == text else None
    except (ValueError, RecursionError):
        return None


def _entry(line: Line) -> AuditEntry | None:
    texts = [line.get(name) for name in ("who", "what", "about", "previous", "digest")]
    if tuple(line) != _FIELDS or not all(isinstance(text, str) for text in texts):
        return None
    if type(line["number"]) is not int or not isinstance(line["figures"], dict):
        return None
    try:
        time = datetime.fromisoformat(line["time"])
    except (TypeError, ValueError):
        return None
    return AuditEntry(**{**line, "time": time}) if time.isoformat() == line["time"] else None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with open_regular(path) as stream:
            yield from stream
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error


def _anchor(text: str) -> tuple[int, str]:
    found = _ANCHOR.fullmatch(text.strip())
    if found is None:
        raise InvalidInput(
            f"{text[:80]!r} is no anchor; give NUMBER:DIGEST as gearshift audit anchor prints it"
        )
    return int(found[1]), found[2]
