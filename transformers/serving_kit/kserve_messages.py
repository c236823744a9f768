"""KServe's gRPC requests and answers, as tensors."""

from __future__ import annotations

from typing import Any

from foundation.errors import InvalidInput
from serving_kit.inference_protocol import CONTENTS, read_parameters, read_tensor
from serving_kit.kserve_protobuf import messages
from serving_kit.tensors import Tensor, V2Answer, V2Request


def from_grpc(sent: Any) -> tuple[V2Request, bool]:
    """A ModelInferRequest, and whether its tensors came as raw bytes.

    Raises:
        InvalidInput: tensors that are described and contents that are sent do not belong together.
    """
    raw = sent.raw_input_contents
    if raw and len(raw) != len(sent.inputs):
        raise InvalidInput(
            f"{len(sent.inputs)} inputs come with {len(raw)} raw contents; send one for each"
        )
    inputs: dict[str, Tensor] = {}
    for place, tensor in enumerate(sent.inputs):
        if raw and tensor.HasField("contents"):
            raise InvalidInput(f"{tensor.name[:80]!r} has raw contents and others; send one kind")
        read = read_tensor(tensor, raw[place] if raw else None)
        if read.name in inputs:
            raise InvalidInput(f"two inputs are named {read.name!r}")
        inputs[read.name] = read
    outputs = tuple(output.name for output in sent.outputs)
    return V2Request(inputs, read_parameters(sent.parameters), outputs, sent.id), bool(raw)


def to_grpc(answer: V2Answer, id: str, model: str, raw: bool) -> Any:
    """KServe's message. Its parameters know no numbers with a fraction, so those are text."""
    response = messages.ModelInferResponse(id=id, model_name=model)
    for tensor in answer.outputs:
        output = response.outputs.add(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        if raw:
            response.raw_output_contents.append(tensor.raw())
        else:
            flat: Any = tensor.values
            values = flat if isinstance(flat, tuple) else flat.ravel().tolist()
            getattr(output.contents, CONTENTS[tensor.datatype]).extend(values)
    for name, value in answer.parameters.items():
        parameter = response.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, int):
            parameter.int64_param = value
        else:
            parameter.string_param = value if isinstance(value, str) else f"{value:.4f}"
    return response
