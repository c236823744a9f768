from __future__ import annotations

import base64
import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.audit_log import AuditLog, read_entries
from foundation.errors import ConfigurationError, GearshiftError, ModelError, StorageError
from foundation.signing.keys import (
    PrivateKey,
    new_key,
    read_private_key,
    read_public_key,
)
from foundation.signing.signature import make_signature, read_signature, sign_file
from foundation.signing.trust import check_signed, read_trust, revoke_key, trust_key


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.onnx"
    path.write_bytes(b"not read as a model here")
    return path


def test_openssl_checks_what_was_signed(keys: Any, trust: Path, file: Path, tmp_path: Path) -> None:
    key, public = keys("release")
    bundle = json.loads(sign_file(file, key).read_bytes())
    assert public.stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "keys" / "release.key").stat().st_mode & 0o777 == 0o600
    envelope = bundle["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    # Pre-authentication encoding, DSSE 1.0: the lengths stand before kind and payload.
    kind = "application/vnd.in-toto+json"
    (tmp_path / "message").write_bytes(
        f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
    )
    (tmp_path / "value").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    command = ["openssl", "dgst", "-sha256", "-verify", str(public)]
    command += ["-signature", str(tmp_path / "value"), str(tmp_path / "message")]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"Verified OK\n"
    (resource,) = json.loads(payload)["predicate"]["resources"]
    assert resource["digest"] == digest(file)
    assert bundle["verificationMaterial"]["publicKey"]["hint"] == digest(public)


def test_the_openssfs_own_tool_agrees(keys: Any, trust: Path, file: Path, tmp_path: Path) -> None:
    from model_signing import signing, verifying

    key, public = keys("release")
    private = tmp_path / "keys" / "release.key"
    signature = sign_file(file, key)
    verifier = verifying.Config().use_elliptic_key_verifier(public_key=public)
    verifier.verify(file, signature)
    trust_key(trust, public)
    signing.Config().use_elliptic_key_signer(private_key=private).sign(file, signature)
    assert check_signed(trust, file, digest(file)).name == "release"
    sound = file.read_bytes()
    file.write_bytes(sound + b"x")
    with pytest.raises(ValueError, match="mismatch"):
        verifier.verify(file, sign_of(file, sound, key))
    with pytest.raises(ModelError, match="it was changed"):
        check_signed(trust, file, digest(file))


def sign_of(file: Path, content: bytes, key: PrivateKey) -> Path:
    signature = file.with_name("other.sig")
    signature.write_bytes(make_signature(file.name, hashlib.sha256(content).hexdigest(), key))
    return signature


def test_keys_come_and_go(keys: Any, trust: Path, file: Path, tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl")
    (old, old_public), (new, new_public), (other, _) = keys("old"), keys("new"), keys("other")
    trust_key(trust, old_public, audit=audit)
    with pytest.raises(ModelError, match="not signed, and .*trust.json requires it"):
        check_signed(trust, file, digest(file))
    sign_file(file, old)
    assert check_signed(trust, file, digest(file)).name == "old"
    trust_key(trust, new_public, audit=audit)
    for key, name in ((old, "old"), (new, "new")):  # both count while one replaces the other
        sign_file(file, key)
        assert check_signed(trust, file, digest(file)).name == name
    revoke_key(trust, "old", "the laptop\nwas lost", audit)
    assert check_signed(trust, file, digest(file)).name == "new"
    sign_file(file, old)
    with pytest.raises(ModelError, match=r"signed by old, .* \(the laptop was lost\)"):
        check_signed(trust, file, digest(file))
    sign_file(file, other)
    with pytest.raises(ModelError, match="which is not in"):
        check_signed(trust, file, digest(file))
    with pytest.raises(ConfigurationError, match="has old already, revoked"):
        trust_key(trust, old_public, "again")
    for name, reason in (("old", "x"), ("nobody", "x"), ("new", " ")):
        with pytest.raises(ConfigurationError):
            revoke_key(trust, name, reason)
    reported = [(one.what, one.about) for one in read_entries(audit.path)]
    assert reported == [("key.trust", "old"), ("key.trust", "new"), ("key.revoke", "old")]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrivateKey, bytes]:
    folder = tmp_path_factory.mktemp("signed")
    private, public = new_key("release", folder)
    trust_key(folder / "trust.json", public)
    key = read_private_key(private)
    return folder / "trust.json", key, make_signature("f", "ab" * 32, key)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_byte_of_a_signature_can_be_changed(
    signed: tuple[Path, PrivateKey, bytes], data: st.DataObject
) -> None:
    trust, _, sound = signed
    known = read_trust(trust)
    assert known.check("f", "ab" * 32, sound).name == "release"
    changed = bytearray(sound)
    at = data.draw(st.integers(0, len(sound) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    try:
        known.check("f", "ab" * 32, bytes(changed))
    except GearshiftError:
        return
    # Only what is not signed may differ: blanks, the empty key id, the bundle's own kind.
    before, after = read_signature(sound, "f"), read_signature(bytes(changed), "f")
    assert before == after


def test_what_is_no_signature(signed: tuple[Path, PrivateKey, bytes]) -> None:
    trust, key, sound = signed
    known = read_trust(trust)
    with pytest.raises(ModelError, match="f is not signed"):
        known.check("f", "ab" * 32, b"")
    for data in (b"x", b"[]", b"{}", b"[" * 9999, sound * 20, sound[:-40]):
        with pytest.raises(ModelError, match="no signature"):
            known.check("f", "ab" * 32, data)

    def about(change: Callable[[dict[str, Any]], object]) -> bytes:
        """A statement signed by the right key, but about something else."""
        bundle = json.loads(sound)
        statement = json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))
        change(statement)
        payload = json.dumps(statement).encode()
        kind = b"application/vnd.in-toto+json"
        value = key.sign(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
        bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
        bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(value).decode()
        return json.dumps(bundle).encode()

    assert known.check("f", "ab" * 32, about(lambda statement: None)).name == "release"
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda statement: statement.update(predicateType="https://slsa.dev/provenance/v1"),
        lambda statement: statement["predicate"]["resources"].append({}),
        lambda statement: statement["predicate"]["resources"][0].update(name="other.onnx"),
        lambda statement: statement["predicate"]["resources"][0].update(algorithm="md5"),
        lambda statement: statement["predicate"]["serialization"].update(method="shards"),
        lambda statement: statement["subject"][0]["digest"].update(sha256="00" * 32),
        lambda statement: statement.clear(),
    ]
    for change in changes:
        with pytest.raises(ModelError, match="no single file"):
            known.check("f", "ab" * 32, about(change))


def test_keys_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEARSHIFT_KEY_PASSWORD", "a word")
    private, public = new_key("locked", tmp_path)
    assert b"ENCRYPTED" in private.read_bytes()
    assert read_private_key(private).public == read_public_key(public)
    monkeypatch.delenv("GEARSHIFT_KEY_PASSWORD")
    with pytest.raises(ConfigurationError, match="not its password"):
        read_private_key(private)
    with pytest.raises(ConfigurationError, match="exists"):
        new_key("locked", tmp_path)
    for name in ("", "a/b", ".hidden", "x" * 65):
        with pytest.raises(ConfigurationError, match="key name"):
            new_key(name, tmp_path)
    with pytest.raises(ConfigurationError, match="no public key"):
        read_public_key(private)
    with pytest.raises(StorageError):
        read_public_key(tmp_path / "none")
    command = ["openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / "other.key")]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match="no key on P-256"):
        read_private_key(tmp_path / "other.key")
    for text in ("", "[]", "{}", '{"keys": [{}]}', '{"keys": 1}'):
        (tmp_path / "trust.json").write_text(text)
        with pytest.raises(ConfigurationError, match="no trust file"):
            read_trust(tmp_path / "trust.json")
