"""The trust file: public keys whose signatures count, and those that count no longer.

::

    {"keys": [{"name": "release-2026", "public_key": "-----BEGIN PUBLIC KEY-----...",
               "revoked": null},
              {"name": "release-2025", "public_key": "...",
               "revoked": {"time": "...", "reason": "the laptop was lost"}}]}

Several keys are trusted at once, so a new one can sign before the old one goes. A revoked key stays
in the file: what it signed is then refused by name, and it cannot come back by accident. The file
is read again for each model that is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foundation.audit_log import AuditLog, operator
from foundation.errors import ConfigurationError, ModelError, StorageError
from foundation.signing import signature_file
from foundation.signing.keys import PublicKey, check_name, parse_public_key, read_public_key
from foundation.signing.signature import read_signature
from foundation.storage import atomic_path


@dataclass(frozen=True)
class TrustedKey:
    """A key of the file.

    Attributes:
        name: of the key.
        key: its public half.
        revoked: when it was; None while it is trusted.
        reason: why it was.
    """

    name: str
    key: PublicKey
    revoked: datetime | None = None
    reason: str = ""

    def line(self) -> dict[str, Any]:
        """The entry as a JSON object of the file."""
        gone = None
        if self.revoked is not None:
            gone = {"time": self.revoked.isoformat(), "reason": self.reason}
        return {"name": self.name, "public_key": self.key.pem, "revoked": gone}


@dataclass(frozen=True)
class Trust:
    """The content of a trust file.

    Attributes:
        path: the file.
        keys: all of them, revoked ones too.
    """

    path: Path
    keys: Sequence[TrustedKey]

    def text(self) -> str:
        """The content of the file."""
        return json.dumps({"keys": [one.line() for one in self.keys]}, indent=1) + "\n"

    def check(self, name: str, sha256: str, signature: bytes) -> TrustedKey:
        """Refuse a file unless a trusted key signed exactly it.

        Args:
            name: of the file, for messages.
            sha256: digest of the bytes that are to be used.
            signature: content of its signature file.

        Returns:
            The key that signed.

        Raises:
            ModelError: no signature, one by an unknown or revoked key, a false one, or one of
                another file.
        """
        if not signature:
            raise ModelError(
                f"{name} is not signed, and {self.path} requires it; sign it with gearshift "
                "sign, and send the signature along"
            )
        found = read_signature(signature, f"the signature of {name}")
        signer = next((one for one in self.keys if one.key.key_id == found.key_id), None)
        if signer is None:
            raise ModelError(
                f"{name} was signed by key {found.key_id[:12]}, which is not in {self.path}; have "
                "it signed by a trusted key"
            )
        if signer.revoked is not None:
            raise ModelError(
                f"{name} was signed by {signer.name}, which was revoked on "
                f"{signer.revoked:%Y-%m-%d} ({signer.reason}); have it signed by a trusted key"
            )
        if not found.made_by(signer.key):
            raise ModelError(f"the signature of {name} is false: {signer.name} did not make it")
        if found.sha256 != sha256:
            raise ModelError(
                f"{name} has SHA-256 {sha256[:12]}…, its signature is of {found.sha256[:12]}…; "
                "it was changed, or the signature is another file's"
            )
        return signer


def read_trust(path: Path) -> Trust:
    """Read a trust file.

    Raises:
        ConfigurationError: it is none, or cannot be read.
    """
    path = Path(path)
    try:
        entries: Any = json.loads(path.read_text(encoding="utf-8"))["keys"]
        keys = [_entry(entry, f"{path} key {number}") for number, entry in enumerate(entries, 1)]
    except OSError as error:
        raise ConfigurationError(f"cannot read the trust file {path}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConfigurationError(
            f"{path} is no trust file; make one with gearshift key trust"
        ) from error
    if len({one.key.key_id for one in keys}) < len(keys) or len({k.name for k in keys}) < len(keys):
        raise ConfigurationError(f"{path} has a key or a name twice; remove one by hand")
    return Trust(path, tuple(keys))


def check_signed(
    trust: Path, file: Path, sha256: str, signature: bytes | None = None
) -> TrustedKey:
    """Refuse a model file that no trusted key signed.

    Args:
        trust: the trust file.
        file: the model's; its signature lies beside it.
        sha256: digest of the bytes that are to be used.
        signature: content of the signature file, where the model did not come from a disk.

    Raises:
        ModelError: as :meth:`Trust.check`, or there is no signature.
        ConfigurationError: the trust file is unusable.
    """
    known = read_trust(trust)
    if signature is None:
        waiting, own = signature_file(file, sha256), signature_file(file)
        try:
            signature = (waiting if waiting.is_file() else own).read_bytes()
        except OSError as error:
            raise ModelError(
                f"{file} is not signed, and {trust} requires it: no {own}; "
                "sign it with gearshift sign"
            ) from error
    return known.check(str(file), sha256, signature)


def trust_key(
    path: Path, public_key: Path, name: str = "", audit: AuditLog | None = None
) -> TrustedKey:
    """Add a public key to a trust file, which is made when missing.

    Args:
        path: the trust file.
        public_key: the key's PEM file.
        name: of the key; the file's without its suffix if not given.
        audit: where to record it; nowhere without it.

    Raises:
        ConfigurationError: no key, or one whose name or self is there already, also a revoked one.
        StorageError: the file, or the audit log, cannot be written.
    """
    name = name or public_key.stem
    check_name(name)
    added = TrustedKey(name, read_public_key(public_key))
    keys = read_trust(path).keys if path.exists() else ()
    for one in keys:
        if one.name == name or one.key == added.key:
            state = "revoked" if one.revoked else "trusted"
            raise ConfigurationError(f"{path} has {one.name} already, {state}; make a new key")
    _write(path, [*keys, added], audit, "key.trust", added, {})
    return added


def revoke_key(path: Path, name: str, reason: str, audit: AuditLog | None = None) -> TrustedKey:
    """Have a key's signatures count no longer; what runs already goes on until its next load.

    Raises:
        ConfigurationError: no trusted key of that name, or no reason.
        StorageError: the file, or the audit log, cannot be written.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise ConfigurationError("no reason given; give one with --reason TEXT")
    keys = list(read_trust(path).keys)
    for place, one in enumerate(keys):
        if one.name == name and one.revoked is None:
            keys[place] = gone = TrustedKey(name, one.key, datetime.now(UTC), reason)
            _write(path, keys, audit, "key.revoke", gone, {"reason": reason})
            return gone
    raise ConfigurationError(f"{path} trusts no key {name[:64]!r}; see gearshift key list")


def _write(
    path: Path,
    keys: Sequence[TrustedKey],
    audit: AuditLog | None,
    what: str,
    changed: TrustedKey,
    figures: Mapping[str, Any],
) -> None:
    if audit is not None:
        about = {"key_id": changed.key.key_id, "file": str(path), **figures}
        audit.record(operator(), what, changed.name, about)
    try:
        with atomic_path(path) as partial:
            partial.write_text(Trust(path, keys).text(), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}; check the path") from error


def _entry(entry: Any, where: str) -> TrustedKey:
    name, gone = str(entry["name"]), entry["revoked"]
    check_name(name)
    key = parse_public_key(str(entry["public_key"]).encode(), where)
    if gone is None:
        return TrustedKey(name, key)
    return TrustedKey(name, key, datetime.fromisoformat(gone["time"]), str(gone["reason"]))
