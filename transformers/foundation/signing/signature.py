"""Detached signatures of one file each, in the OpenSSF's Model Signing format, version 1.0.

``policy.onnx.sig`` is a Sigstore bundle: a DSSE envelope around an in-toto statement that names the
file's SHA-256, signed with a plain key. So ``model_signing verify key`` checks what is signed here
and the other way round. The package of that name is not used to serve: it verifies files on a disk,
while a server has to check the very bytes it loads, and it takes seconds and 50 MB to import.

Sources: model_signing's statement as of its version 1.0; DSSE 1.0, protocol section, for the
encoding that is signed; in-toto attestation framework, Statement v1.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foundation.errors import ModelError
from foundation.signing import SIGNATURE_LIMIT, signature_file
from foundation.signing.keys import PrivateKey, PublicKey
from foundation.storage import atomic_path, sha256_file

_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_WHOLE = "."
"""How a statement about a single file calls it."""


@dataclass(frozen=True)
class Signature:
    """A signature that was read; nothing of it is proven yet.

    Attributes:
        key_id: of the key that it names as its signer's.
        payload: the statement, as it was signed.
        value: the signature in DER.
    """

    key_id: str
    payload: bytes
    value: bytes

    def made_by(self, key: PublicKey) -> bool:
        """Whether this key signed the statement."""
        return key.verifies(self.value, _encoded(self.payload))

    @property
    def sha256(self) -> str:
        """Digest of the file that the statement is about; believe it after :meth:`made_by`.

        Raises:
            ModelError: the statement is about anything else than one file.
        """
        try:
            statement = json.loads(self.payload)
            (subject,) = statement["subject"]
            predicate = statement["predicate"]
            (resource,) = predicate["resources"]
            digest = bytes.fromhex(resource["digest"])
            sound = (
                statement["_type"] == _STATEMENT_TYPE
                and statement["predicateType"] == _PREDICATE_TYPE
                and predicate["serialization"]["method"] == "files"
                and (resource["name"], resource["algorithm"]) == (_WHOLE, "sha256")
                # The subject is the digest of all files' digests, here of one.
                and subject["digest"] == {"sha256": hashlib.sha256(digest).hexdigest()}
            )
        except (ValueError, TypeError, KeyError, RecursionError):
            sound = False
        if not sound:
            raise ModelError("the signature is about no single file; sign it with gearshift sign")
        return digest.hex()


def make_signature(name: str, sha256: str, key: PrivateKey) -> bytes:
    """A signature file's content.

    Args:
        name: the file's name, without folders; for readers only.
        sha256: the file's digest.
        key: that signs.
    """
    subject = hashlib.sha256(bytes.fromhex(sha256)).hexdigest()
    statement = {
        "_type": _STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": subject}}],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "resources": [{"name": _WHOLE, "algorithm": "sha256", "digest": sha256}],
            "serialization": {
                "method": "files",
                "ignore_paths": [],
                "hash_type": "sha256",
                "allow_symlinks": False,
            },
        },
    }
    payload = json.dumps(statement, indent=1).encode()
    bundle = {
        "mediaType": _BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.public.key_id}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [
                {"sig": base64.b64encode(key.sign(_encoded(payload))).decode(), "keyid": ""}
            ],
        },
    }
    return json.dumps(bundle).encode() + b"\n"


def sign_file(file: Path, key: PrivateKey) -> Path:
    """Sign a file; the signature appears beside it, in place of an older one.

    Returns:
        The signature's file.

    Raises:
        StorageError: the file cannot be read, or its folder not be written.
    """
    data = make_signature(file.name, sha256_file(file), key)
    signature = signature_file(file)
    with atomic_path(signature) as partial:
        partial.write_bytes(data)
    return signature


def read_signature(data: bytes, where: str) -> Signature:
    """A signature from its file's content; ``where`` names it in messages.

    Raises:
        ModelError: it is none.
    """
    try:
        if len(data) > SIGNATURE_LIMIT:
            raise ValueError
        bundle: Any = json.loads(data)
        envelope = bundle["dsseEnvelope"]
        (signature,) = envelope["signatures"]
        if envelope["payloadType"] != _PAYLOAD_TYPE:
            raise ValueError
        return Signature(
            str(bundle["verificationMaterial"]["publicKey"]["hint"]),
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(signature["sig"], validate=True),
        )
    except (ValueError, TypeError, KeyError, binascii.Error, RecursionError) as error:
        raise ModelError(f"{where} is no signature; sign the file with gearshift sign") from error


def _encoded(payload: bytes) -> bytes:
    """What DSSE signs: kind and payload with their lengths, so that neither can pass for more."""
    kind = _PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
