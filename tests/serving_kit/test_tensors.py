from __future__ import annotations

import numpy as np
import orjson
import pytest

from foundation.errors import InvalidInput, PayloadTooLarge
from serving_kit.tensors import Tensor, V2Answer, from_raw, from_values
from serving_kit.v2_rest import (
    HEADER_LENGTH,
    read_answer,
    read_request,
    write_request,
)


def test_raw_bytes_are_little_endian_rows() -> None:
    tensor = from_raw("x", "INT16", [2, 2], b"\x01\x00\x02\x00\xff\xff\x00\x80")
    np.testing.assert_array_equal(tensor.array(), [[1, 2], [-1, -32768]])
    assert tensor.array().dtype == np.int16
    assert tensor.raw() == b"\x01\x00\x02\x00\xff\xff\x00\x80"


def test_bytes_carry_their_lengths() -> None:
    raw = b"\x03\x00\x00\x00abc\x00\x00\x00\x00\x01\x00\x00\x00\xff"
    tensor = from_raw("x", "BYTES", [3], raw)
    assert tensor.values == (b"abc", b"", b"\xff")
    assert tensor.raw() == raw
    with pytest.raises(InvalidInput, match="BYTES"):
        tensor.array()


@pytest.mark.parametrize(
    ("array", "datatype"),
    [
        (np.zeros(2, np.float32), "FP32"),
        (np.zeros(2, np.float64), "FP64"),
        (np.zeros((2, 1), np.uint8), "UINT8"),
        (np.zeros(2, np.int64), "INT64"),
        (np.zeros(2, np.bool_), "BOOL"),
    ],
)
def test_arrays_become_tensors_and_come_back(array: np.ndarray, datatype: str) -> None:
    tensor = Tensor.of("x", array)
    assert (tensor.datatype, tensor.shape) == (datatype, array.shape)
    again = from_raw("x", datatype, list(array.shape), tensor.raw()).array()
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)


def test_values_take_the_datatype_declared() -> None:
    assert from_values("x", "FP32", [2], [1, 2]).array().dtype == np.float32
    assert from_values("x", "UINT8", [1, 2], [[0, 255]]).array().tolist() == [[0, 255]]
    assert from_values("x", "BOOL", [2], [True, False]).array().tolist() == [True, False]
    assert from_values("x", "INT32", [0], []).array().shape == (0,)
    assert from_values("x", "BYTES", [2], ["é", b"\xff"]).values == ("é".encode(), b"\xff")


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "words"),
    [
        ("UINT8", [2], [1, 256], "reach from 1 to 256; uint8 holds 0 to 255"),
        ("UINT8", [2], [-1, 5], "reach from -1 to 5"),
        ("UINT8", [1], [1.5], "not all of type uint8"),
        ("FP32", [1], ["1"], "not all of type float32"),
        ("FP32", [2], [1, None], "not all of type float32"),
        ("BOOL", [1], [1], "not all of type bool"),
        ("FP32", [2], [1], "brings 1 values"),
        ("FP32", [2, 2], [[1, 2], [3]], "no list of numbers"),
        ("FP32", [10**15, 10**15], [1], "brings 1 values"),
        ("FP32", [True], [1], "shape"),
        ("FP32", [1.0], [1], "shape"),
        ("FP32", [1] * 9, [1], "up to 8"),
        ("FP16", [1], [1], "datatype 'FP16'"),
        ("BYTES", [1], [1], "not all strings"),
        ("BYTES", [2], ["x"], "brings 1 elements"),
    ],
)
def test_values_that_do_not_fit(
    datatype: str, shape: list[object], data: list[object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        from_values("x", datatype, shape, data)


def test_raw_bytes_that_do_not_fit() -> None:
    with pytest.raises(InvalidInput, match="brings 7 bytes"):
        from_raw("x", "FP32", [2], bytes(7))
    with pytest.raises(InvalidInput, match="element 0 .* is longer"):
        from_raw("x", "BYTES", [1], b"\xff\xff\xff\xff12")
    with pytest.raises(InvalidInput, match="brings 2 elements"):
        from_raw("x", "BYTES", [1], bytes(8))
    with pytest.raises(PayloadTooLarge, match="more than 1024"):
        from_raw("x", "BYTES", [2000], bytes(8000))


def test_a_request_written_is_a_request_read() -> None:
    tensors = (
        Tensor.of("a", np.arange(6, dtype=np.float32).reshape(2, 3)),
        Tensor("b", "BYTES", (1,), (b"\xff",)),
    )
    body, length = write_request(tensors, ["c"], {"tag": "x"})
    read = read_request(body, length)
    np.testing.assert_array_equal(read.request.inputs["a"].array(), tensors[0].array())
    assert read.request.inputs["b"].values == (b"\xff",)
    assert read.request.outputs == ("c",)
    assert read.request.parameters["tag"] == "x"
    answer = V2Answer((Tensor.of("c", np.array([1, 2], np.int64)),), {"spent": 1.5})
    written, json_length = read.write(answer, "model")
    assert json_length is not None
    outputs, parameters = read_answer(written, str(json_length))
    assert outputs["c"].array().tolist() == [1, 2]
    assert parameters == {"spent": 1.5}


def test_bytes_in_json_are_text_or_base64() -> None:
    read = read_request(b'{"inputs": []}', None)
    answer = V2Answer((Tensor.of_text("a", ["é"]), Tensor("b", "BYTES", (1,), (b"\xff\x00",))))
    body, length = read.write(answer, "model")
    assert length is None
    reported = orjson.loads(body)
    assert [output["data"] for output in reported["outputs"]] == [["é"], ["/wA="]]
    assert HEADER_LENGTH.islower()
