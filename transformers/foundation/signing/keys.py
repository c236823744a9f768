"""Key pairs: ECDSA on P-256, in PEM files that OpenSSL and every signing tool read.

The curve is not the shortest choice, but the one that the OpenSSF's Model Signing knows.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from foundation.errors import ConfigurationError
from foundation.storage import atomic_path, read_bytes

KEY_PASSWORD = "GEARSHIFT_KEY_PASSWORD"
"""Environment variable with the password of a private key's file."""
PRIVATE_SUFFIX, PUBLIC_SUFFIX = ".key", ".pub"

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = ec.ECDSA(hashes.SHA256())
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm)


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked with.

    Attributes:
        pem: SubjectPublicKeyInfo as PEM, as it is written anew from the key.
    """

    pem: str

    @property
    def key_id(self) -> str:
        """SHA-256 of the PEM text, 64 hexadecimal digits; signatures name their key by it."""
        return hashlib.sha256(self.pem.encode("ascii")).hexdigest()

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the message was signed with this key's private half."""
        key = load_pem_public_key(self.pem.encode("ascii"))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return False
        try:
            key.verify(signature, message, _SHA256)
        except InvalidSignature:
            return False
        return True


class PrivateKey:
    """What signatures are made with.

    Attributes:
        public: the other half.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        """Made by :func:`read_private_key`."""
        self._key = key
        self.public = _public(key.public_key())

    def sign(self, message: bytes) -> bytes:
        """A signature in DER."""
        return self._key.sign(message, _SHA256)


def new_key(name: str, folder: Path) -> tuple[Path, Path]:
    """Make a key pair: ``NAME.key``, readable by its owner only, and ``NAME.pub``.

    The private key is encrypted if ``$GEARSHIFT_KEY_PASSWORD`` is set.

    Args:
        name: of the files, and later of the key in a trust file.
        folder: where they go.

    Returns:
        The files of the private and of the public key.

    Raises:
        ConfigurationError: a name that cannot be, or a file that exists already.
        StorageError: the folder cannot be written.
    """
    check_name(name)
    files = folder / f"{name}{PRIVATE_SUFFIX}", folder / f"{name}{PUBLIC_SUFFIX}"
    there = [file for file in files if file.exists()]
    if there:
        raise ConfigurationError(f"{there[0]} exists; a key is never overwritten, choose a name")
    key = ec.generate_private_key(ec.SECP256R1())
    password = os.environ.get(KEY_PASSWORD, "").encode()
    lock: KeySerializationEncryption = (
        BestAvailableEncryption(password) if password else NoEncryption()
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
    for file, content in zip(files, (private, _public(key.public_key()).pem.encode()), strict=True):
        with atomic_path(file) as partial:
            partial.touch(mode=0o600 if file is files[0] else 0o644)
            partial.write_bytes(content)
    return files


def read_private_key(file: Path) -> PrivateKey:
    """A private key from its PEM file; its password comes from ``$GEARSHIFT_KEY_PASSWORD``.

    Raises:
        ConfigurationError: no key on P-256, or another password.
        StorageError: the file cannot be read.
    """
    password = os.environ.get(KEY_PASSWORD, "").encode() or None
    data = read_bytes(file)
    try:
        key = load_pem_private_key(data, password if b"ENCRYPTED" in data else None)
    except _UNREADABLE as error:
        raise ConfigurationError(
            f"{file} is no private key, or ${KEY_PASSWORD} is not its password"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{file} is no key on P-256; make one with gearshift key new")
    return PrivateKey(key)


def read_public_key(file: Path) -> PublicKey:
    """A public key from its PEM file.

    Raises:
        ConfigurationError: no key on P-256.
        StorageError: the file cannot be read.
    """
    return parse_public_key(read_bytes(file), str(file))


def parse_public_key(data: bytes, where: str) -> PublicKey:
    """A public key from PEM; ``where`` names it in messages.

    Raises:
        ConfigurationError: no key on P-256.
    """
    try:
        key = load_pem_public_key(data)
    except _UNREADABLE as error:
        raise ConfigurationError(f"{where} is no public key in PEM; give NAME.pub") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(f"{where} is no key on P-256; make one with gearshift key new")
    return _public(key)


def check_name(name: str) -> None:
    """Refuse a key's name that could not name a file.

    Raises:
        ConfigurationError: not 1 to 64 letters, digits, dots, underscores and hyphens.
    """
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise ConfigurationError(
            f"key name {name[:64]!r}: give 1 to 64 of A-Z a-z 0-9 . _ - with no dot first"
        )


def _public(key: ec.EllipticCurvePublicKey) -> PublicKey:
    pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(pem.decode("ascii"))
