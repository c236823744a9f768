"""The bundle: one tar with policy, ladder and configuration, and a list that proves all of them.

::

    bundle.json          format, observation schema, configuration; name, bytes, SHA-256 of the rest
    bundle.json.sha256   digest of that list, which shows damage
    bundle.json.sig      signature of that list, if it was packed with a key, which shows a forgery
    policy.onnx          left out where the configuration fixes the rung
    ladder/nano.onnx ... small.onnx, large.onnx

Of engines it holds their JSON files and grammars, and the digest of each rung, so that a device
whose packages bring other models refuses it.

The same inputs give the same bytes: names in a fixed order, no times, no owners. It is read into
memory and checked there, so what was checked is what runs; only an engine's few lines are written
to a private folder while it is opened.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import re
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from feature_transformer.makers import (
    DETECTION,
    MAKERS,
    ObservationMaker,
    maker_of,
    maker_of_schema,
)
from foundation.errors import (
    ConfigurationError,
    InvalidInput,
    ModelError,
    SchemaMismatch,
    StorageError,
)
from foundation.signing import SIGNATURE_LIMIT, SIGNATURE_SUFFIX
from foundation.storage import atomic_path, read_bytes, sha256_file
from inference_graph.contract import LADDER
from inference_graph.control.edge.config import EdgeConfig
from inference_graph.detector import Detector, DetectorConfig
from inference_graph.operators import DETECTOR_OPERATORS
from inference_graph.router import Policy
from inference_graph.sessions import open_model
from inference_graph.tasks.rung import ENGINE_SUFFIX, Rung, open_rung_file, rung_files

FORMAT = 1
LIST = "bundle.json"
DIGEST = LIST + ".sha256"
SIGNATURE = LIST + SIGNATURE_SUFFIX
POLICY = "policy.onnx"
_LADDER = "ladder/"
_BESIDE = re.compile(re.escape(_LADDER) + r"\w[\w.-]{0,60}", re.ASCII)
"""A file of the ladder: of a rung, or one that an engine needs, such as a grammar."""
_LIST_LIMIT = 64 * 1024
_FILE_LIMIT = 2 * 1024**3
"""Bytes of a file in a bundle at most: as long as an ONNX file can be."""


@dataclass(frozen=True)
class BundleSummary:
    """A bundle that was written.

    Attributes:
        out: the file.
        bytes: its length.
        sha256: its digest.
        policy: revision of the policy; empty where the rung is fixed.
        ladder: revision of each rung.
        signed_by: id of the key that signed; empty without one.
    """

    out: Path
    bytes: int
    sha256: str
    policy: str
    ladder: Mapping[str, str]
    signed_by: str


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole.

    Attributes:
        name: of its file, for messages.
        revision: first 12 digits of the digest of its list, which holds the digests of the rest.
        config: how the device works.
        files: content by name, the list left out.
        maker: who makes the observations of its task.
        engines: by rung, the digest of an engine and its models; empty for detectors.
        signed_by: name of the key that signed it; empty where no key was asked for.
    """

    name: str
    revision: str
    config: EdgeConfig
    files: Mapping[str, bytes]
    maker: ObservationMaker = MAKERS[DETECTION]
    engines: Mapping[str, str] = field(default_factory=dict)
    signed_by: str = ""

    def policy(self) -> Policy | None:
        """The policy; None where the rung is fixed.

        Raises:
            SchemaMismatch: made for another observation or ladder.
            ModelError: it cannot be used.
        """
        data = self.files.get(POLICY)
        if data is None or self.config.always is not None:
            return None
        return Policy(Path(self.name) / POLICY, data=data, task=self.maker.task)

    def rung(self, rung: str) -> Rung:
        """A rung, loaded.

        Raises:
            ModelError: it cannot be used, or the packages of this device bring other models than
                an engine was packed with.
        """
        named, config = _rung_file(rung, self.files), self.config
        path = Path(self.name) / named
        options = DetectorConfig(
            path,
            rung,
            confidence=config.confidence,
            iou=config.iou,
            max_detections=config.max_detections,
            threads=config.threads,
            sha256=self.engines.get(rung),
        )
        if path.suffix == ENGINE_SUFFIX:
            return self._engine(options)
        data = self.files[named]
        model = open_model(path, config.threads, data=data, operators=DETECTOR_OPERATORS)
        return Detector(options, model)

    def _engine(self, options: DetectorConfig) -> Rung:
        """An engine, opened from copies of its files: engines read files, and only at the start."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in self.files.items():
                if name.startswith(_LADDER):
                    (Path(folder) / name.removeprefix(_LADDER)).write_bytes(data)
            return open_rung_file(replace(options, weights=Path(folder) / options.weights.name))


def write_bundle(
    out: Path,
    policy: Path | None,
    ladder: Mapping[str, Path],
    config: EdgeConfig,
    key: Path | None = None,
) -> BundleSummary:
    """Pack a bundle, after trying what goes into it.

    Args:
        out: the tar.
        policy: ONNX file; None only where ``config.always`` fixes the rung.
        ladder: file of every rung: ONNX, or JSON that names an engine.
        config: how the device works.
        key: private key that signs; unsigned without it.

    Raises:
        ConfigurationError: no policy where one is needed, a rung is missing, or an unusable key.
        ModelError: policy or weights cannot be used.
        StorageError: a file cannot be read, or the bundle not be written.
    """
    if (policy is None) == (config.always is None):
        raise ConfigurationError("give either a policy, or with always the rung of every frame")
    missing = [rung for rung in LADDER if rung not in ladder]
    if missing:
        raise ConfigurationError(f"the bundle lacks {', '.join(missing)}; name weights for each")
    kinds = {path.suffix for path in ladder.values()}
    if len(kinds) > 1:
        raise ConfigurationError(
            f"the ladder mixes {' and '.join(sorted(kinds))} files; give three of one kind"
        )
    files = {} if policy is None else {POLICY: read_bytes(policy)}
    for rung in LADDER:
        own, *beside = rung_files(ladder[rung])
        files[f"{_LADDER}{rung}{own.suffix}"] = read_bytes(own)
        files |= {f"{_LADDER}{path.name}": read_bytes(path) for path in beside}
    bundle = Bundle(str(out), "", config, files)
    rungs = {rung: bundle.rung(rung) for rung in LADDER}
    tasks = {rung.task for rung in rungs.values()}
    if len(tasks) > 1:
        raise ConfigurationError(f"the ladder mixes {' and '.join(sorted(tasks))}; give one task's")
    maker = maker_of(tasks.pop())
    loaded = replace(bundle, maker=maker).policy()
    engines = {name: rung.sha256 for name, rung in rungs.items() if rung.reads}
    listed = json.dumps(
        {
            "format": FORMAT,
            "schema_hash": maker.schema_hash,
            "config": dataclasses.asdict(config),
            "files": {name: _facts(data) for name, data in files.items()},
            **({"engines": engines} if engines else {}),
        },
        indent=1,
        sort_keys=True,
    ).encode()
    signature, signed_by = b"", ""
    if key is not None:
        from foundation.signing.keys import read_private_key
        from foundation.signing.signature import make_signature

        signer = read_private_key(key)
        signature = make_signature(LIST, hashlib.sha256(listed).hexdigest(), signer)
        signed_by = signer.public.key_id
    with atomic_path(out) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            _add(tar, LIST, listed)
            _add(tar, DIGEST, hashlib.sha256(listed).hexdigest().encode())
            if signature:
                _add(tar, SIGNATURE, signature)
            for name, data in files.items():
                _add(tar, name, data)
        summary = BundleSummary(
            out,
            partial.stat().st_size,
            sha256_file(partial),
            "" if loaded is None else loaded.revision,
            {name: rung.revision for name, rung in rungs.items()},
            signed_by,
        )
    return summary


def read_bundle(path: Path, trust: Path | None = None) -> Bundle:
    """Read a bundle and check every byte of it.

    Args:
        path: the tar.
        trust: trust file; a bundle that none of its keys signed is refused. Not checked without.

    Raises:
        InvalidInput: no bundle, one of another format, or one that was cut short.
        ModelError: a file has another digest than listed, or the list is not signed as it must be.
        SchemaMismatch: packed for another observation.
        ConfigurationError: an unusable trust file.
        StorageError: the file cannot be read.
    """
    listed, signature, files = _unpacked(path)
    sha256 = hashlib.sha256(listed).hexdigest()
    signed_by = ""
    if trust is not None:
        from foundation.signing.trust import read_trust

        if not signature:
            raise ModelError(
                f"{path} is not signed, and {trust} says who must have; pack it with a key "
                "(gearshift bundle --key)"
            )
        signed_by = read_trust(trust).check(f"{path} {LIST}", sha256, signature).name
    try:
        content: Any = json.loads(listed)
        if content["format"] != FORMAT:
            raise InvalidInput(
                f"{path} has format {content['format']!r}, this program reads {FORMAT}; pack it "
                "with the version that runs it"
            )
        schema, facts = str(content["schema_hash"]), dict(content["files"])
        engines = {str(rung): str(one) for rung, one in dict(content.get("engines", {})).items()}
        options = dict(content["config"])
        unknown = sorted(set(options) - {one.name for one in fields(EdgeConfig)})
        if unknown:
            raise InvalidInput(
                f"{path} sets {', '.join(unknown)[:200]}, which this program does not know: a "
                "newer one packed it; bring this device to that version, or pack it with this one"
            )
        config = EdgeConfig(**options)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidInput(f"{path} has no sound {LIST}; pack it again") from error
    try:
        maker = maker_of_schema(schema)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path}: {error}; pack it with the version that runs it") from error
    needed = {_rung_file(rung, files) for rung in LADDER}
    needed |= {POLICY} if config.always is None else set()
    if maker.task != DETECTION:
        needed |= {name for name in facts if _BESIDE.fullmatch(name)}
    if set(facts) != needed or set(files) != needed:
        odd = sorted((set(facts) | set(files)) ^ needed) or sorted(needed - set(files))
        raise InvalidInput(f"{path} lacks or adds {', '.join(odd)[:200]}; pack it again")
    for name, data in files.items():
        if _facts(data) != facts[name]:
            raise ModelError(f"{name} in {path} is not what {LIST} lists; it was changed")
    if set(engines) != (set() if maker.task == DETECTION else set(LADDER)):
        raise InvalidInput(f"{path} has no sound {LIST}; pack it again")
    return Bundle(str(path), _revision(listed), config, files, maker, engines, signed_by)


def _unpacked(path: Path) -> tuple[bytes, bytes, dict[str, bytes]]:
    """The list, its signature (empty without one), and the files by name."""
    limits = {LIST: _LIST_LIMIT, DIGEST: 64, SIGNATURE: SIGNATURE_LIMIT}
    known = {LIST, DIGEST, SIGNATURE, POLICY}
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                name = member.name
                fits = name in known or _BESIDE.fullmatch(name)
                if not fits or name in found or not member.isreg():
                    raise InvalidInput(f"{path} holds {name[:80]!r}, which no bundle does")
                if member.size > limits.get(name, _FILE_LIMIT):
                    raise InvalidInput(f"{name} in {path} has {member.size} bytes, too many")
                stream = tar.extractfile(member)
                found[name] = b"" if stream is None else stream.read()
                if len(found[name]) != member.size:
                    raise InvalidInput(f"{path} was cut short in {name}; copy it again")
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(f"{path} is no bundle ({error}); pack it again") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; check the path") from error
    if LIST not in found:
        raise InvalidInput(f"{path} is no bundle: it has no {LIST}; pack one with gearshift bundle")
    listed = found.pop(LIST)
    if found.pop(DIGEST, b"") != hashlib.sha256(listed).hexdigest().encode():
        raise InvalidInput(f"{LIST} in {path} is damaged; copy the bundle again")
    return listed, found.pop(SIGNATURE, b""), found


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o644
    tar.addfile(entry, io.BytesIO(data))


def _facts(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _rung_file(rung: str, names: Iterable[str]) -> str:
    engine = f"{_LADDER}{rung}{ENGINE_SUFFIX}"
    return engine if engine in names else f"{_LADDER}{rung}.onnx"


def _revision(listed: bytes) -> str:
    return hashlib.sha256(listed).hexdigest()[:12]
