"""One tensor of the Open Inference Protocol: sizes agree before anything is made of it."""

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DecodeError, InputError
from service.protocols.tensors import BYTES, DTYPES, Tensor, raw_of, tensor_from_raw, tensor_from_values

NUMERIC = sorted(DTYPES)


def framed(*items: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


@pytest.mark.parametrize("datatype", NUMERIC)
def test_raw_data_go_in_and_come_out_unchanged(datatype: str) -> None:
    array = np.arange(6).astype(DTYPES[datatype]).reshape(2, 3)
    tensor = tensor_from_raw("x", datatype, [2, 3], array.tobytes())
    assert isinstance(tensor.data, np.ndarray)
    assert tensor.data.dtype == array.dtype
    assert np.array_equal(tensor.data, array)
    assert raw_of(tensor) == array.tobytes()


def test_raw_numbers_are_a_view_of_what_was_received() -> None:
    body = memoryview(bytes(range(12)))
    tensor = tensor_from_raw("x", "UINT8", [2, 5], body[1:11])
    assert np.shares_memory(tensor.data, np.frombuffer(body, np.uint8))


def test_a_shape_of_too_many_axes_is_refused_by_their_number() -> None:
    class Axes(list[int]):
        def __len__(self) -> int:
            return 10**8

        def __iter__(self) -> Iterator[int]:
            raise AssertionError("nobody is to look at each")

    with pytest.raises(InputError, match="Received: 100000000 numbers"):
        tensor_from_values("x", "FP32", Axes(), [])


def test_bytes_are_framed_by_their_length() -> None:
    tensor = tensor_from_raw("x", BYTES, [3, 1], memoryview(framed(b"usa", b"", b"\x89PNG")))
    assert tensor.data == [b"usa", b"", b"\x89PNG"]
    assert raw_of(tensor) == framed(b"usa", b"", b"\x89PNG")


@pytest.mark.parametrize(
    ("shape", "raw"),
    [
        ([2], framed(b"usa")),
        ([1], framed(b"usa", b"")),
        ([1], b"\x03\x00\x00"),
        ([1], b"\x04\x00\x00\x00usa"),
        ([1], b"\xff\xff\xff\xffusa"),
        ([2**40], framed(b"usa")),
        ([2**62, 2**62], framed(*[b""] * 100)),
    ],
    ids=["too few", "too many", "half a length", "broken off", "giant element", "giant shape", "beyond 64 bits"],
)
def test_bytes_whose_lengths_do_not_add_up_are_refused(shape: list[int], raw: bytes) -> None:
    with pytest.raises(DecodeError, match="each after its length"):
        tensor_from_raw("x", BYTES, shape, raw)


@pytest.mark.parametrize("shape", [[], [0], [-1], [1] * 9, [2.0], [True], ["2"], [None], [[2]]])
def test_an_impossible_shape_is_refused(shape: list[Any]) -> None:
    for read in (tensor_from_raw, tensor_from_values):
        with pytest.raises(InputError, match="shape must be 1 to 8 whole numbers"):
            read("x", "UINT8", shape, b"\0\0")


@pytest.mark.parametrize("shape", [[3], [2**31, 2**31], [2**63]])
def test_a_shape_that_the_data_do_not_fill_is_refused_before_anything_is_allocated(shape: list[int]) -> None:
    with pytest.raises(InputError, match="Received: 8 bytes"):
        tensor_from_raw("x", "FP64", shape, bytes(8))
    with pytest.raises(InputError, match=r"holds \d+ values"):
        tensor_from_values("x", "FP64", shape, [1.0])


@pytest.mark.parametrize("datatype", ["BF16", "uint8", "", "STRING", 3, None, ["UINT8"]])
def test_an_unknown_datatype_is_refused(datatype: Any) -> None:
    with pytest.raises(InputError, match="datatype must be one of BOOL"):
        tensor_from_values("x", datatype, [1], [1])


def test_a_giant_name_is_not_echoed() -> None:
    with pytest.raises(InputError) as caught:
        tensor_from_values("x" * 10**6, "UINT8", [1], [1])
    assert len(str(caught.value)) < 300


@given(st.lists(st.integers(0, 255), min_size=1, max_size=20), st.booleans())
@settings(deadline=None)
def test_listed_pixels_are_the_bytes_that_they_say(values: list[int], booleans: bool) -> None:
    tensor = tensor_from_values("x", "UINT8", [len(values)], values, booleans=booleans)
    assert raw_of(tensor) == bytes(values)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
@settings(deadline=None)
def test_listed_floats_keep_their_bits(values: list[float]) -> None:
    tensor = tensor_from_values("x", "FP32", [len(values)], values)
    assert raw_of(tensor) == np.array(values, "<f4").tobytes()


def test_null_stands_for_nan_and_what_is_too_large_is_infinite() -> None:
    tensor = tensor_from_values("x", "FP32", [3], [None, 1e300, 2**70])
    assert np.isnan(tensor.data[0])
    assert np.isinf(tensor.data[1])
    assert tensor.data[2] == np.float32(2**70)


def test_nested_values_have_the_tensors_shape() -> None:
    tensor = tensor_from_values("x", "INT32", [2, 2, 1], [[[1], [2]], [[3], [4]]])
    assert tensor.data.tolist() == [[[1], [2]], [[3], [4]]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "values", [[[1, 2], [3]], [[1, 2, 3, 4]], [[1, 2], 3, 4], [[[1, 2]], [[3, 4]]], [[1], 2, 3, 4]]
)
def test_values_nested_otherwise_are_refused(values: list[Any]) -> None:
    with pytest.raises(InputError):
        tensor_from_values("x", "INT32", [2, 2], values)


@pytest.mark.parametrize(
    ("datatype", "values", "field"),
    [
        ("UINT8", [1, 256], "x[1]"),
        ("UINT8", [-1, 0], "x[0]"),
        ("UINT8", [0, 1.0], "x[1]"),
        ("UINT8", [0, None], "x[1]"),
        ("UINT8", [True, 1], "x[0]"),
        ("UINT64", [0, -1], "x[1]"),
        ("INT8", [0, 2**70], "x[1]"),
        ("INT32", [0, 1.5], "x[1]"),
        ("INT64", [0, "1"], "x[1]"),
        ("FP32", [0.5, "NaN"], "x[1]"),
        ("FP32", [0.5, True], "x[1]"),
        ("FP32", [0.5, {}], "x[1]"),
        ("FP64", [0.5, 10**400], "x[1]"),
        ("BOOL", [True, 1], "x[1]"),
        (BYTES, ["usa", 3], "x[1]"),
        (BYTES, ["usa", None], "x[1]"),
    ],
)
def test_a_value_of_another_type_is_named(datatype: str, values: list[Any], field: str) -> None:
    with pytest.raises(InputError, match=f"must be a value of {datatype}") as caught:
        tensor_from_values("x", datatype, [2], values)
    assert caught.value.field == field


@given(
    st.sampled_from([*NUMERIC, BYTES]),
    st.lists(st.integers(-2, 2**65), max_size=10),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
        max_leaves=12,
    ),
    st.binary(max_size=40),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_breaks_it(datatype: str, shape: list[int], values: Any, raw: bytes) -> None:
    for read, data in ((tensor_from_raw, raw), (tensor_from_values, values if isinstance(values, list) else [values])):
        try:
            tensor = read("x", datatype, shape, data)
        except (InputError, DecodeError):
            continue
        assert isinstance(tensor, Tensor)
        assert len(raw_of(tensor)) <= 8 * 40 + 400
