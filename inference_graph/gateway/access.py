"""Who may ask: bearer tokens with roles, of which only digests are kept."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import logging
import re
import secrets
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from foundation.audit_log import AuditLog, operator
from foundation.errors import AccessError, ConfigurationError, Forbidden, StorageError
from foundation.storage import atomic_path
from serving_kit.foreign_pages import why_foreign

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOOK_SECONDS = 1.0
"""How often the file is looked at for changes."""
_LONGEST_TOKEN = 512


class Role(StrEnum):
    """What a token allows."""

    STREAM = "stream"
    """Send frames: /v1/stream and /v1/detect."""
    FEEDBACK = "feedback"
    """Correct answers: /v1/feedback."""
    OPERATE = "operate"
    """Change what runs: policies, canaries, launches; and what the next two allow."""
    WATCH = "watch"
    """Read figures: /metrics."""
    EVENTS = "events"
    """Bring requests and answers of detectors: /v1/events."""
    SYNC = "sync"
    """Bring the log of a device without a network: /v1/log."""
    EXPERIMENT = "experiment"
    """Read and launch experiments: the ledger's own API."""


_OF_OPERATE = (Role.WATCH, Role.EVENTS)
"""Parts of the role operate that can be given alone: the tokens of Prometheus and of the detectors
must not change what runs."""


@dataclass(frozen=True)
class Client:
    """Who asks.

    Attributes:
        name: the token's name, which limits and the log go by.
        roles: what it allows.
    """

    name: str
    roles: frozenset[Role]

    def may(self, role: Role) -> bool:
        """Whether what needs this role is allowed."""
        return role in self.roles or (role in _OF_OPERATE and Role.OPERATE in self.roles)


class Access(Protocol):
    """Decides whether a request may go on."""

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Have at hand what :meth:`check` needs, which waits for nothing on an event loop."""
        ...

    def check(self, headers: Mapping[str, str], role: Role) -> Client:
        """Who asks, if the role is theirs.

        Args:
            headers: of the request, names in lower case.
            role: what is asked for.

        Raises:
            AccessError: no token, or an unknown one.
            Forbidden: a known one without the role.
        """
        ...


class OpenAccess:
    """Every program on this machine, and web pages of this machine or of the listed origins."""

    def __init__(self, origins: Collection[str] = ()) -> None:
        """Let in this machine's programs.

        Args:
            origins: whose web pages are let in besides the gateway's own.
        """
        self._origins = origins

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Nothing is needed."""

    def check(self, headers: Mapping[str, str], role: Role) -> Client:
        """The one client there is; see :class:`Access`.

        A page from elsewhere in this machine's browser reaches loopback as well, by its script or
        by a name that resolves to it; both show in the headers.

        Raises:
            Forbidden: the request comes from a web page of another host.
        """
        foreign = why_foreign(headers, (), self._origins)
        if foreign is not None:
            raise Forbidden(f"{foreign}; name it with the option origins, or give a tokens file")
        return Client("local", frozenset(Role))


class TokenAccess:
    """Those whose token is in a file; a changed file is read again while the gateway runs."""

    def __init__(self, path: Path | None, logger_token: str | None = None) -> None:
        """Read the file.

        Args:
            path: the file; without one there is the logger's token alone.
            logger_token: one more token, of the role operate, that is kept in no file.

        Raises:
            ConfigurationError: it cannot be read, or a line is no token; names the line.
        """
        self._path = path
        self._own: list[tuple[bytes, Client]] = []
        if logger_token is not None:
            logger = Client("logger", frozenset([Role.OPERATE]))
            self._own.append((digest_of(logger_token).encode(), logger))
        self._entries = [] if path is None else _read(path)
        self._stamp = None if path is None else _stamp(path)
        self._looked = time.monotonic()

    async def prepare(self, headers: Mapping[str, str]) -> None:
        """Nothing is needed."""

    def check(self, headers: Mapping[str, str], role: Role) -> Client:
        """Who has the token; see :class:`Access`."""
        token = bearer_token(headers.get("authorization", ""))
        if not token:
            raise AccessError("no token given; send the header Authorization: Bearer TOKEN")
        if len(token) > _LONGEST_TOKEN:
            raise AccessError("the token is not known; ask the operator for one")
        self._look()
        digest = digest_of(token).encode()
        client: Client | None = None
        # Every entry is compared, so that the time taken does not reveal how close a guess is.
        for known, entry in (*self._own, *self._entries):
            if hmac.compare_digest(known, digest):
                client = entry
        if client is None:
            raise AccessError("the token is not known; ask the operator for one")
        if not client.may(role):
            raise forbidden(f"the token {client.name}", client.roles, role)
        return client

    def _look(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._entries = _read(self._path)
        except ConfigurationError as error:
            # A slip of the editor must not lock everybody out.
            _log.warning("the tokens of before stay in use: %s", error)


def forbidden(who: str, roles: Collection[str], needed: Role) -> Forbidden:
    """The refusal of a client without a role, which says the roles it has."""
    held = " and ".join(sorted(roles)) or "none"
    plural = "role" if len(roles) == 1 else "roles"
    return Forbidden(f"{who} has the {plural} {held}; this needs the role {needed}")


def digest_of(token: str) -> str:
    """SHA-256 of a token, 64 hexadecimal digits; tokens are long and random, so no salt."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def new_token() -> str:
    """A new token with 256 random bits."""
    return "gs_" + secrets.token_urlsafe(32)


def token_entry(token: str, name: str, roles: Iterable[str]) -> dict[str, Any]:
    """The line of a token in a tokens file, which holds its digest, not the token.

    Raises:
        ConfigurationError: a name or role that cannot be.
    """
    entry = {"name": name, "roles": sorted(set(roles)), "sha256": digest_of(token)}
    _entry(entry, "the new token")
    return entry


def add_token(path: Path, name: str, roles: Iterable[str], audit: AuditLog | None = None) -> str:
    """Make a token, and add its digest to a tokens file.

    Args:
        path: the file; it is made when missing, readable by its owner only.
        name: whose token it is, for limits and the log.
        roles: of stream, feedback, operate, watch, events, sync, experiment.
        audit: where to record it, by its digest's first digits; nowhere without it.

    Returns:
        The token, which is kept nowhere: show it once.

    Raises:
        ConfigurationError: a name or role that cannot be, or a file that holds something else.
        StorageError: the file, or the audit log, cannot be written.
    """
    path = Path(path)
    token = new_token()
    entry = token_entry(token, name, roles)
    if path.exists():
        _read(path)
    if audit is not None:
        figures = {"roles": entry["roles"], "sha256": digest_of(token)[:12], "file": str(path)}
        audit.record(operator(), "token.add", name, figures)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check the path") from error
    return token


def count_tokens(path: Path, name: str) -> int:
    """How many tokens of a name a tokens file holds; 0 where there is none.

    Raises:
        ConfigurationError: the file holds something else.
    """
    return sum(client.name == name for _, client in _read(path)) if path.exists() else 0


def remove_tokens(path: Path, name: str, audit: AuditLog | None = None) -> int:
    """Take all tokens of a name out of a tokens file; a running gateway follows in a second.

    Args:
        path: the file.
        name: whose tokens they are.
        audit: where to record it; nowhere without it.

    Returns:
        How many there were.

    Raises:
        ConfigurationError: the file holds none of that name, no other, or something else.
        StorageError: the file, or the audit log, cannot be written.
    """
    path = Path(path)
    entries = _read(path)
    kept = [(digest, client) for digest, client in entries if client.name != name]
    removed = len(entries) - len(kept)
    if not removed:
        raise ConfigurationError(f"{path} holds no token of {name[:64]!r}; check the name")
    if not kept:
        raise ConfigurationError(
            f"{name} has the only token of {path}, and a gateway does not start without one; add "
            "another first"
        )
    if audit is not None:
        audit.record(operator(), "token.remove", name, {"tokens": removed, "file": str(path)})
    lines = [
        {"name": client.name, "roles": sorted(client.roles), "sha256": digest.decode()}
        for digest, client in kept
    ]
    with atomic_path(path) as partial:
        partial.touch(mode=0o600)
        partial.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return removed


def _read(path: Path) -> list[tuple[bytes, Client]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigurationError(f"cannot read the tokens file {path}: {reason}") from error
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"{where} is no JSON; give name, roles, sha256") from error
        entries.append(_entry(entry, where))
    if not entries:
        raise ConfigurationError(f"{path} holds no token; add one with `gearshift token add`")
    return entries


def _entry(entry: Any, where: str) -> tuple[bytes, Client]:
    if not isinstance(entry, dict):
        raise ConfigurationError(f"{where} is no object; give name, roles, sha256")
    name, digest = entry.get("name"), entry.get("sha256")
    roles = entry.get("roles", entry.get("role"))
    if isinstance(roles, str):
        roles = [roles]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{where}: name is {name!r}; give 1 to 64 of A-Z a-z 0-9 . _ @ -")
    if not isinstance(roles, list) or not roles or not set(map(str, roles)) <= set(Role):
        given = ", ".join(map(str, roles)) if isinstance(roles, list) and roles else "missing"
        raise ConfigurationError(f"{where}: roles are {given}; give some of {', '.join(Role)}")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest.lower()):
        raise ConfigurationError(f"{where}: sha256 is no digest of 64 hexadecimal digits")
    return digest.lower().encode(), Client(name, frozenset(Role(role) for role in roles))


def is_client_name(text: str) -> bool:
    """Whether a text can be a client's name: 1 to 64 of A-Z a-z 0-9 . _ @ -."""
    return _NAME.fullmatch(text) is not None


def bearer_token(header: str) -> str:
    """The token of an Authorization header; empty without one.

    Who can send no bearer token, as KServe's logger, sends it as the password of basic credentials.
    """
    kind, _, credentials = header.partition(" ")
    credentials = credentials.strip()
    if kind.lower() == "bearer":
        return credentials
    if kind.lower() != "basic" or len(credentials) > 2 * _LONGEST_TOKEN:
        return ""
    try:
        decoded = base64.b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return decoded.partition(":")[2]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
