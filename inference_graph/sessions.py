"""Opening ONNX weights: read once, checked, and never anything but one self-contained file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime
from google.protobuf.message import DecodeError  # type: ignore[import-untyped] # ships no types
from onnxruntime.capi import onnxruntime_pybind11_state as native

from foundation.errors import ConfigurationError, ModelError
from foundation.regular_file import open_regular

_FAILURES: tuple[type[Exception], ...] = (
    native.EPFail,
    native.Fail,
    native.InvalidArgument,
    native.InvalidGraph,
    native.InvalidProtobuf,
    native.NoModel,
    native.NoSuchFile,
    native.NotImplemented,
    native.RuntimeException,
    RuntimeError,
    ValueError,
)
"""What ONNX Runtime raises for weights it cannot load or run; they share no base of their own."""
_FILL = "ConstantOfShape"


TRUST = "GEARSHIFT_TRUST"
"""Environment variable that names the trust file for services that are given no option."""


@dataclass(frozen=True)
class OpenModel:
    """Weights that are loaded and ready.

    Attributes:
        path: the file they came from, for messages.
        session: the ONNX Runtime session; its ``run`` may be called from several threads.
        metadata: the file's own key-value notes.
        sha256: digest of the file, 64 hexadecimal digits.
    """

    path: Path
    session: onnxruntime.InferenceSession
    metadata: Mapping[str, str]
    sha256: str

    @property
    def revision(self) -> str:
        """The first 12 digits of the digest."""
        return self.sha256[:12]


def open_model(
    path: Path,
    threads: int = 1,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    sha256: str | None = None,
    data: bytes | None = None,
    trust: Path | None = None,
    signature: bytes | None = None,
    operators: Collection[str] | None = None,
) -> OpenModel:
    """Load an ONNX file.

    Args:
        path: the file.
        threads: threads that work on one inference.
        providers: ONNX Runtime execution providers, the preferred one first.
        sha256: digest the file must have; not checked without it.
        data: what the file holds, where it did not come from a disk; ``path`` then only names it.
        trust: trust file; what none of its keys signed is refused. Not checked without it.
        signature: content of the file's signature, where it does not lie beside the file.
        operators: those it may consist of; any without it.

    Raises:
        ModelError: the file is missing, no ONNX, keeps tensors in other files, has another
            digest or other operators, is not signed as it must be, or ONNX Runtime cannot load it.
        ConfigurationError: less than one thread, a provider this build lacks, or an unusable trust
            file.
    """
    path = Path(path)
    if threads < 1:
        raise ConfigurationError(f"threads is {threads}; give at least 1")
    unknown = [name for name in providers if name not in onnxruntime.get_available_providers()]
    if unknown or not providers:
        raise ConfigurationError(
            f"execution provider {', '.join(unknown) or 'list is empty'}: this ONNX Runtime has "
            f"{', '.join(onnxruntime.get_available_providers())}; choose among them"
        )
    if data is None:
        try:
            with open_regular(path) as stream:
                data = stream.read()
        except OSError as error:
            raise ModelError(f"cannot read the weights {path}: {error.strerror}") from error
    digest = check_source(path, data, sha256, trust, signature)
    _check_network(path, data, operators)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Three rungs share the cores: a thread that spins for its next task takes them from the rung
    # that works. On two busy cores spinning made every rung 1.7 to 2.8 times slower.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4  # failures arrive as exceptions, once
    # Weights stored as int8 with a scale become float32 while loading, not at every inference.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=list(providers))
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except _FAILURES as error:
        raise ModelError(
            f"ONNX Runtime cannot load {path}: {_first_line(error)}; export it again"
        ) from error
    return OpenModel(path, session, metadata, digest)


def check_source(
    path: Path, data: bytes, sha256: str | None, trust: Path | None, signature: bytes | None
) -> str:
    """Digest of weights that come from where they should; nothing is loaded.

    Args:
        path: names them.
        data: what the file holds.
        sha256: digest the file must have; not checked without it.
        trust: trust file; what none of its keys signed is refused. Not checked without it.
        signature: content of the file's signature, where it does not lie beside the file.

    Raises:
        ModelError: another digest, or not signed as they must be.
        ConfigurationError: an unusable trust file.
    """
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256.lower():
        raise ModelError(
            f"the weights {path} have SHA-256 {digest[:12]}…, not {sha256[:12]}… as recorded; "
            "fetch them again"
        )
    if trust is not None:
        # Cryptography is loaded only where signatures are asked for.
        from foundation.signing.trust import check_signed

        check_signed(trust, path, digest, signature)
    return digest


def trust_of_environment() -> Path | None:
    """The trust file that ``$GEARSHIFT_TRUST`` names; None where it is not set."""
    named = os.environ.get(TRUST)
    return Path(named) if named else None


def run(model: OpenModel, outputs: Sequence[str], inputs: Mapping[str, object]) -> list[object]:
    """One inference.

    Raises:
        ModelError: ONNX Runtime fails, for example for lack of memory.
    """
    try:
        return list(model.session.run(list(outputs), dict(inputs)))
    except _FAILURES as error:
        raise ModelError(f"{model.path} failed on a frame: {_first_line(error)}") from error


def _check_network(path: Path, data: bytes, operators: Collection[str] | None) -> None:
    """Refuse external tensors, which name files to read, and operators that are not allowed."""
    advice = "give a YOLO detector or a policy exported to one .onnx file"
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{path} is no ONNX file; {advice}") from error
    if not model.graph.node:
        raise ModelError(f"{path} is no ONNX file or holds no network; {advice}")
    tensors: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    used: set[str] = set()
    graphs = [model.graph]
    for function in model.functions:
        nodes += function.node
        tensors += [tensor for one in function.attribute_proto for tensor in (one.t, *one.tensors)]
    while graphs or nodes:
        for graph in graphs:
            tensors += graph.initializer
            for sparse in graph.sparse_initializer:
                tensors += [sparse.values, sparse.indices]
            nodes += graph.node
        graphs = []
        while nodes:
            node = nodes.pop()
            own = node.domain in ("", "ai.onnx")
            used.add(node.op_type if own else f"{node.domain}.{node.op_type}")
            for attribute in node.attribute:
                tensors += [attribute.t, *attribute.tensors]
                for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                    tensors += [sparse.values, sparse.indices]
                graphs += [attribute.g, *attribute.graphs]
        graphs = [graph for graph in graphs if graph.node or graph.initializer]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ModelError(f"{path} keeps its tensors in other files, which is refused; {advice}")
    # As large as another tensor (torch's zeros_like) it costs no more than that one.
    shapes = {name for node in model.graph.node if node.op_type == "Shape" for name in node.output}
    if all(set(node.input[:1]) & shapes for node in model.graph.node if node.op_type == _FILL):
        used.discard(_FILL)
    odd = set() if operators is None else {one for one in used if one not in operators}
    if odd:
        raise ModelError(
            f"{path} has operators that are not allowed here: {', '.join(sorted(odd))[:200]}; "
            "export a network without them"
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
