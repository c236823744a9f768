"""KServe's gRPC requests and answers, as tensors."""

from __future__ import annotations

from typing import Any

from feature_transformer.errors import InvalidInput
from feature_transformer.inference_protocol import CONTENTS
from feature_transformer.tensors import (
    Tensor,
    V2Answer,
    V2Request,
    from_raw,
    from_values,
)


def from_grpc(sent: Any) -> tuple[V2Request, bool]:
    """A request, and whether its tensors came as raw bytes."""
    from kserve.protocol.infer_type import (  # type: ignore[import-untyped]  # ships no types
        to_http_parameters,
    )

    inputs: dict[str, Tensor] = {}
    raw = False
    for tensor in sent.inputs:
        name = tensor.name[:80]
        data = tensor._raw_data  # as_numpy(), the public way, fails on what does not fit
        if data is None:
            read = from_values(name, tensor.datatype, tensor.shape, tensor.data or [])
        else:
            raw, read = True, from_raw(name, tensor.datatype, tensor.shape, data)
        if name in inputs:
            raise InvalidInput(f"two inputs are named {name!r}")
        inputs[name] = read
    outputs = tuple(output.name for output in sent.request_outputs or ())
    parameters = to_http_parameters(sent.parameters) if sent.parameters else {}
    return V2Request(inputs, parameters, outputs, sent.id or ""), raw


def to_grpc(answer: V2Answer, id: str, model: str, raw: bool) -> Any:
    """KServe's message. Its parameters know no numbers with a fraction, so those are text."""
    from kserve.protocol.grpc import (  # type: ignore[import-untyped]  # ships no types
        grpc_predict_v2_pb2 as messages,
    )

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
