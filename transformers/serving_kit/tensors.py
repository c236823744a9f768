"""Tensors of the Open Inference Protocol (KServe's V2), checked before anything is made of them.

A request declares a datatype and a shape for every tensor. Both come from the caller, so the
number of values is compared with the shape first, in Python integers, which do not overflow.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from foundation.errors import InvalidInput, PayloadTooLarge

Parameter = str | int | float | bool

BYTES = "BYTES"
_DTYPES: dict[str, npt.DTypeLike] = {
    "BOOL": np.bool_,
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (8, 16)},
    **{f"{sign}INT{bits}": f"{sign}int{bits}".lower() for sign in ("", "U") for bits in (32, 64)},
    "FP32": np.float32,
    "FP64": np.float64,
}
_MAX_DIMENSIONS = 8
_MAX_ELEMENTS = 1024
"""Elements of a BYTES tensor; each is a Python object."""


@dataclass(frozen=True)
class TensorFacts:
    """The description of a service's tensor; -1 stands for any length.

    Attributes:
        name: its name.
        datatype: BOOL, INT64, FP32, BYTES, ….
        shape: its dimensions.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A tensor that was sent or is to be sent.

    Attributes:
        name: its name.
        datatype: as the protocol writes it.
        shape: its dimensions.
        values: an array of that shape; for BYTES a tuple of the elements in row-major order.
        text: whether the elements of BYTES are UTF-8, to be shown as text in JSON; others are
            shown in base64, because JSON cannot carry bytes.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | tuple[bytes, ...]
    text: bool = False

    @classmethod
    def of(cls, name: str, values: npt.NDArray[Any]) -> Tensor:
        """An array as a tensor."""
        kind = "BOOL" if values.dtype == np.bool_ else values.dtype.name.upper()
        return cls(name, kind.replace("FLOAT", "FP"), values.shape, values)

    @classmethod
    def of_text(cls, name: str, lines: Sequence[str]) -> Tensor:
        """Texts as a BYTES tensor of one dimension."""
        return cls(name, BYTES, (len(lines),), tuple(line.encode() for line in lines), text=True)

    def array(self) -> npt.NDArray[Any]:
        """The values as an array.

        Raises:
            InvalidInput: the tensor holds bytes.
        """
        if isinstance(self.values, tuple):
            raise InvalidInput(f"tensor {self.name!r} is {BYTES}; send numbers")
        return self.values

    def raw(self) -> bytes:
        """The values as the protocol's binary form has them."""
        if isinstance(self.values, tuple):
            return b"".join(struct.pack("<I", len(one)) + one for one in self.values)
        return np.ascontiguousarray(self.values).tobytes()


@dataclass(frozen=True)
class V2Request:
    """A V2 request, whichever way it came.

    Attributes:
        inputs: the tensors by name.
        parameters: the request's parameters.
        outputs: names of the tensors wanted; all that the service gives by default if empty.
        id: the caller's identifier, or "".
    """

    inputs: Mapping[str, Tensor]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    id: str = ""

    def only(self, name: str) -> Tensor:
        """The one input this service takes.

        Raises:
            InvalidInput: it is missing, or others came with it.
        """
        if set(self.inputs) != {name}:
            given = ", ".join(map(repr, self.inputs)) or "none"
            raise InvalidInput(f"the input tensors are {given}; send one named {name!r}"[:300])
        return self.inputs[name]


@dataclass(frozen=True)
class V2Answer:
    """What a service answers in V2.

    Attributes:
        outputs: the tensors.
        parameters: facts beside them.
    """

    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)


def from_raw(name: str, datatype: str, shape: Sequence[object], data: bytes) -> Tensor:
    """A tensor from the protocol's binary form.

    Raises:
        InvalidInput: an unknown datatype, or data whose length is not the shape's.
    """
    dimensions = _dimensions(name, shape)
    count = math.prod(dimensions)
    if datatype == BYTES:
        elements = _split(name, data)
        if len(elements) != count:
            raise InvalidInput(_mismatch(name, datatype, dimensions, len(elements), "elements"))
        return Tensor(name, datatype, dimensions, elements)
    dtype = _dtype(name, datatype)
    if len(data) != count * dtype.itemsize:
        raise InvalidInput(_mismatch(name, datatype, dimensions, len(data), "bytes"))
    return Tensor(name, datatype, dimensions, np.frombuffer(data, dtype).reshape(dimensions))


def from_values(name: str, datatype: str, shape: Sequence[object], data: Sequence[Any]) -> Tensor:
    """A tensor from a list, flat or nested, as JSON and gRPC's typed contents have it.

    Raises:
        InvalidInput: an unknown datatype, values of another type or out of its range, or
            a number of them that is not the shape's.
    """
    dimensions = _dimensions(name, shape)
    count = math.prod(dimensions)
    if datatype == BYTES:
        elements = _byte_elements(name, data)
        if len(elements) != count:
            raise InvalidInput(_mismatch(name, datatype, dimensions, len(elements), "elements"))
        return Tensor(name, datatype, dimensions, elements)
    dtype = _dtype(name, datatype)
    if len(data) not in (count, *dimensions[:1]):  # neither flat nor nested: not worth reading
        raise InvalidInput(_mismatch(name, datatype, dimensions, len(data), "values"))
    try:
        values = np.array(data) if len(data) else np.empty(0, dtype)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidInput(f"the data of tensor {name!r} are no list of numbers") from error
    if values.size != count:
        raise InvalidInput(_mismatch(name, datatype, dimensions, values.size, "values"))
    return Tensor(name, datatype, dimensions, _fitted(name, values, dtype).reshape(dimensions))


def _fitted(name: str, values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Values in a datatype that can hold every one of them."""
    kinds = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}[dtype.kind]
    if values.dtype.kind not in kinds:
        raise InvalidInput(f"the data of tensor {name!r} are not all of type {dtype}")
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        low, high = int(values.min()), int(values.max())
        if low < limits.min or high > limits.max:
            raise InvalidInput(
                f"the data of tensor {name!r} reach from {low} to {high}; {dtype} holds "
                f"{limits.min} to {limits.max}"
            )
    with np.errstate(over="ignore"):  # infinity is for the service to refuse
        return values.astype(dtype)


def _dimensions(name: str, shape: Sequence[object]) -> tuple[int, ...]:
    proper = [side for side in shape if type(side) is int and side >= 0]
    if len(proper) != len(shape) or len(proper) > _MAX_DIMENSIONS:
        raise InvalidInput(
            f"tensor {name!r} declares shape {str(list(shape))[:80]}; give up to "
            f"{_MAX_DIMENSIONS} whole numbers of at least 0"
        )
    return tuple(proper)


def _dtype(name: str, datatype: str) -> np.dtype[Any]:
    known = _DTYPES.get(datatype)
    if known is None:
        raise InvalidInput(
            f"tensor {name!r} declares datatype {datatype[:20]!r}; this server reads "
            f"{', '.join(_DTYPES)} and {BYTES}"
        )
    return np.dtype(known)


def _mismatch(name: str, datatype: str, shape: tuple[int, ...], count: int, unit: str) -> str:
    return f"tensor {name!r} declares {datatype} {str(list(shape))[:80]} but brings {count} {unit}"


def _split(name: str, data: bytes) -> tuple[bytes, ...]:
    """Elements of a BYTES tensor: each its length as a little-endian uint32, then its bytes."""
    elements: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        if at + 4 > len(data) or end > len(data):
            raise InvalidInput(
                f"element {len(elements)} of tensor {name!r} is longer than the data that came; "
                "send its length as four bytes, little end first, then so many bytes"
            )
        elements.append(data[at + 4 : end])
        at = end
        if len(elements) > _MAX_ELEMENTS:
            raise PayloadTooLarge(f"tensor {name!r} has more than {_MAX_ELEMENTS} elements")
    return tuple(elements)


def _byte_elements(name: str, data: Sequence[Any]) -> tuple[bytes, ...]:
    if len(data) > _MAX_ELEMENTS:
        raise PayloadTooLarge(f"tensor {name!r} has more than {_MAX_ELEMENTS} elements")
    elements = []
    for element in data:
        if isinstance(element, bytes):
            elements.append(element)
        elif isinstance(element, str):
            elements.append(element.encode("utf-8", "surrogatepass"))
        else:
            raise InvalidInput(f"the data of tensor {name!r} are not all strings")
    return tuple(elements)
