"""V2 over REST: JSON, or JSON with binary tensors after it, read and written.

KServe's own reader turns binary tensors into lists (40 ms for 100 KB of pixels) and fails on
bytes that are not UTF-8, so images over REST pass through here instead.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from foundation.errors import InvalidInput
from serving_kit.base64_text import from_base64
from serving_kit.tensors import (
    BYTES,
    Parameter,
    Tensor,
    V2Answer,
    V2Request,
    from_raw,
    from_values,
)

HEADER_LENGTH = "inference-header-content-length"
_BINARY_SIZE = "binary_data_size"
_BINARY = "binary_data"
_ALL_BINARY = "binary_data_output"
_NONE: Mapping[str, str] = MappingProxyType({})


class RestRequest:
    """A V2 request over REST and the form its answer shall have.

    Attributes:
        request: what is asked.
    """

    def __init__(self, request: V2Request, binary: Mapping[str, bool], all_binary: bool) -> None:
        """Keep what :func:`read_request` found."""
        self.request = request
        self._binary = binary
        self._all_binary = all_binary

    def write(self, answer: V2Answer, model: str) -> tuple[bytes, int | None]:
        """An answer's body, and the length of its JSON where binary tensors follow it."""
        outputs, tail = [], []
        for tensor in answer.outputs:
            output: dict[str, Any] = {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "datatype": tensor.datatype,
            }
            if self._binary.get(tensor.name, self._all_binary):
                raw = tensor.raw()
                output["parameters"] = {_BINARY_SIZE: len(raw)}
                tail.append(raw)
            else:
                output["data"] = _json_values(tensor)
            outputs.append(output)
        document: dict[str, Any] = {
            "id": self.request.id or str(uuid.uuid4()),
            "model_name": model,
            "outputs": outputs,
        }
        if answer.parameters:
            document["parameters"] = dict(answer.parameters)
        head = orjson.dumps(document)
        return b"".join((head, *tail)), len(head) if tail else None


def read_request(body: bytes, json_length: str | None) -> RestRequest:
    """A request from its body.

    Args:
        body: JSON, then the binary tensors in the order of the inputs.
        json_length: the header with the length of the JSON; without it all is JSON.

    Raises:
        InvalidInput: no JSON, fields missing or of another type, data that do not fit.
        ImageError: a BYTES element in JSON that is no base64.
    """
    document, end = _document(body, json_length, "inputs")
    inputs: dict[str, Tensor] = {}
    for place, entry in enumerate(document["inputs"]):
        tensor, end = _tensor(entry, f"inputs[{place}]", body, end)
        if tensor.name in inputs:
            raise InvalidInput(f"two inputs are named {tensor.name!r}"[:120])
        inputs[tensor.name] = tensor
    if json_length is not None and end != len(body):
        raise InvalidInput(f"{len(body) - end} bytes follow the last tensor; leave them out")
    parameters = _parameters(document)
    outputs = _outputs(document)
    request = V2Request(inputs, parameters, tuple(outputs), _text(document, "id"))
    binary = {name: flag for name, flag in outputs.items() if flag is not None}
    return RestRequest(request, binary, parameters.get(_ALL_BINARY) is True)


def write_request(
    tensors: Sequence[Tensor], outputs: Sequence[str] = (), parameters: Mapping[str, str] = _NONE
) -> tuple[bytes, str]:
    """A request with binary tensors that wants its answer in binary, and its JSON's length."""
    inputs = [
        {
            "name": tensor.name,
            "shape": list(tensor.shape),
            "datatype": tensor.datatype,
            "parameters": {_BINARY_SIZE: len(tensor.raw())},
        }
        for tensor in tensors
    ]
    document = {
        "inputs": inputs,
        "outputs": [{"name": name} for name in outputs],
        "parameters": {**parameters, _ALL_BINARY: True},
    }
    head = orjson.dumps(document)
    return b"".join((head, *(tensor.raw() for tensor in tensors))), str(len(head))


def read_answer(
    body: bytes, json_length: str | None
) -> tuple[dict[str, Tensor], dict[str, Parameter]]:
    """Tensors and parameters of an answer, by name.

    Raises:
        InvalidInput: it is none of this protocol.
    """
    document, end = _document(body, json_length, "outputs")
    tensors = {}
    for place, entry in enumerate(document["outputs"]):
        tensor, end = _tensor(entry, f"outputs[{place}]", body, end)
        tensors[tensor.name] = tensor
    return tensors, _parameters(document)


def read_json(body: bytes) -> Any:
    """What a JSON document holds.

    Raises:
        InvalidInput: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"the body is no JSON: {error}") from error


def _document(body: bytes, json_length: str | None, tensors: str) -> tuple[dict[str, Any], int]:
    """The JSON part with its list of tensors, and where it ends."""
    end = len(body)
    if json_length is not None:
        if not json_length.isdecimal() or len(json_length) > 10 or int(json_length) > len(body):
            raise InvalidInput(
                f"{HEADER_LENGTH} is {json_length[:20]!r}; the body has {len(body)} bytes"
            )
        end = int(json_length)
    document = read_json(body[:end])
    if not isinstance(document, dict) or not isinstance(document.get(tensors), list):
        raise InvalidInput(
            f'the body has no list of "{tensors}"; send {{"{tensors}": [{{"name": …}}]}}'
        )
    return document, end


def _tensor(entry: Any, where: str, body: bytes, start: int) -> tuple[Tensor, int]:
    """A tensor and where the next one's binary data begin."""
    if not isinstance(entry, dict):
        raise InvalidInput(f"{where} is no object")
    name, datatype, shape = entry.get("name"), entry.get("datatype"), entry.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str) or not isinstance(shape, list):
        raise InvalidInput(f"{where} lacks a name, a datatype or a shape")
    name, datatype = name[:80], datatype.upper()
    size = _parameters(entry).get(_BINARY_SIZE)
    data = entry.get("data")
    if isinstance(data, list) and size is None:
        if datatype == BYTES:
            data = [from_base64(element, f"{where}.data") for element in data[:1025]]
        return from_values(name, datatype, shape, data), start
    if type(size) is not int or data is not None:
        raise InvalidInput(f'{where} needs either a list "data" or a "{_BINARY_SIZE}"')
    if not 0 <= size <= len(body) - start:
        raise InvalidInput(
            f"{where} declares {size} bytes of binary data; {len(body) - start} are left"
        )
    return from_raw(name, datatype, shape, body[start : start + size]), start + size


def _outputs(document: Mapping[str, Any]) -> dict[str, bool | None]:
    """Names of the outputs wanted, each with whether it shall be binary."""
    entries = document.get("outputs") or []
    if not isinstance(entries, list):
        raise InvalidInput('"outputs" is no list')
    wanted: dict[str, bool | None] = {}
    for place, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str):
            raise InvalidInput(f"outputs[{place}] has no name")
        flag = _parameters(entry).get(_BINARY)
        wanted[name[:80]] = flag if isinstance(flag, bool) else None
    return wanted


def _parameters(holder: Mapping[str, Any]) -> dict[str, Parameter]:
    parameters = holder.get("parameters") or {}
    if not isinstance(parameters, dict):
        raise InvalidInput('"parameters" is no object')
    return {
        name: value
        for name, value in parameters.items()
        if isinstance(value, str | int | float | bool)
    }


def _text(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput(f'"{name}" is no text')
    return value or ""


def _json_values(tensor: Tensor) -> list[Any]:
    if isinstance(tensor.values, tuple):
        if tensor.text:
            return [element.decode("utf-8", "replace") for element in tensor.values]
        return [base64.b64encode(element).decode("ascii") for element in tensor.values]
    flat: list[Any] = tensor.values.ravel().tolist()
    return flat
