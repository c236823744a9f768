"""A policy's file on a cluster: gateways are sent it, and find what was promoted on their claim.

KServe reads a ``storageUri``. A gateway takes a policy by its API, so the controller reads the file
for it; and it reads the claim when it starts, so a promoted policy is put there as well.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from foundation.addresses import split_address
from foundation.errors import ConfigurationError, InvalidInput, StorageError
from foundation.signing import SIGNATURE_SUFFIX, signature_file
from foundation.storage import atomic_path, sha256_file, sync
from inference_graph.control.manifests.names import POLICY_FILE
from inference_graph.prediction_log.place import Place, open_place

_BUCKETS = ("s3", "gs")


class PolicyFiles:
    """Where policies lie, as this process reaches them."""

    def __init__(self, claim: str = "", promoted: Path | None = None) -> None:
        """Nothing is read yet.

        Args:
            claim: NAME=FOLDER of a claim that is mounted; none without it.
            promoted: file that gateways start with; not written without it.

        Raises:
            ConfigurationError: ``claim`` is something else.
        """
        self._claim, equals, folder = claim.partition("=")
        if claim and not (self._claim and folder):
            raise ConfigurationError(f"claim is {claim!r}; give NAME=FOLDER")
        self._volume = Path(folder) if equals else None
        self._promoted = promoted
        self._unreadable: set[str] = set()

    def reads(self, uri: str) -> bool:
        """Whether a ``storageUri`` can be read here: on the claim, or in a bucket that answered."""
        if uri in self._unreadable:
            return False
        return split_address(uri).scheme in _BUCKETS or self._on_claim(uri) is not None

    @contextmanager
    def opened(self, uri: str) -> Iterator[Path]:
        """The policy of a ``storageUri`` as a local file, with its signature where it has one.

        Raises:
            InvalidInput: there is no policy on the claim.
            StorageError: the bucket cannot be read; :meth:`reads` says so from then on.
        """
        folder = uri.removesuffix(f"/{POLICY_FILE}")
        on_claim = self._on_claim(folder)
        if on_claim is not None:
            path = on_claim / POLICY_FILE
            if not path.is_file():
                raise InvalidInput(f"{uri} has no {POLICY_FILE}; name the storageUri of a policy")
            yield path
            return
        place = open_place(folder)
        with TemporaryDirectory(prefix="gearshift-") as local:
            path = Path(local, POLICY_FILE)
            try:
                _copy(place, path)
            except StorageError:
                self._unreadable.add(uri)
                raise
            self._unreadable.discard(uri)
            with contextlib.suppress(StorageError):  # it need not be signed
                _copy(place, signature_file(path))
            yield path

    def _on_claim(self, uri: str) -> Path | None:
        parts = split_address(uri)
        if self._volume is None or (parts.scheme, parts.netloc) != ("pvc", self._claim):
            return None
        return self._volume / parts.path.strip("/")

    def kept(self) -> str:
        """Digest of the policy that gateways start with; empty where there is no such file.

        Raises:
            StorageError: the claim cannot be read.
        """
        if self._promoted is None or not self._promoted.is_file():
            return ""
        return sha256_file(self._promoted)

    def keep(self, policy: Path) -> None:
        """Have gateways start with a policy, in place of the one they start with now.

        Killed anywhere, one of the two is there with its signature: the new one's waits under a
        name of its own until the policy is replaced.

        Raises:
            StorageError: the claim cannot be written.
        """
        kept = self._promoted
        if kept is None:
            return
        given, own = signature_file(policy), signature_file(kept)
        if given.is_file():
            _store(given, signature_file(kept, sha256_file(policy)))
        _store(policy, kept)
        if given.is_file():
            _store(given, own)
        try:
            for waiting in own.parent.glob(f"{kept.name}.*{SIGNATURE_SUFFIX}"):
                waiting.unlink(missing_ok=True)
            if not given.is_file():
                own.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(
                f"cannot write {own.parent}: {error.strerror}; correct its rights"
            ) from error


def _store(source: Path, target: Path) -> None:
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)
        sync(partial)


def _copy(place: Place, target: Path) -> None:
    with place.opened(target.name) as file:
        target.write_bytes(file.read())
