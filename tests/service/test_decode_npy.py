"""numpy's file format, its header checked before anything is allocated."""

import contextlib
import io
import pickle
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.lib import format as npy

from models.errors import DecodeError
from service.decode.npy import decode_npy


def saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def forged(header: str, data: bytes = b"\0" * 8, version: tuple[int, int] = (1, 0)) -> bytes:
    """A file with any header text."""
    text = header.encode("utf-8")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def describing(shape: str, descr: str = "'<f4'", data: bytes = b"\0" * 8) -> bytes:
    return forged(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}", data)


@given(
    arrays.arrays(
        dtype=st.sampled_from(["u1", "<u2", ">i4", "<i8", "<f2", "<f4", ">f4", "<f8"]),
        shape=arrays.array_shapes(max_dims=4, max_side=4),
    )
)
@examples(max_examples=60, deadline=None)
def test_what_numpy_saved_comes_back_in_native_byte_order(array: np.ndarray) -> None:
    found = decode_npy(saved(array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.dtype.isnative


def test_one_header_is_never_taken_for_another() -> None:
    arrays_ = [
        np.arange(12, dtype=dtype).reshape(shape) for dtype in ("u1", "<i4", "<f4") for shape in ((3, 4), (4, 3))
    ]
    for array in (*arrays_, *arrays_):
        found = decode_npy(saved(array))
        assert (found.dtype, found.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found, array)


def test_fortran_order_comes_back_in_its_places() -> None:
    array = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(decode_npy(saved(array)), array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_format_is_read(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    npy.write_array(buffer, np.arange(6).reshape(2, 3), version=version)
    assert decode_npy(buffer.getvalue()).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_array_is_a_view_of_the_body() -> None:
    body = saved(np.zeros(1000, np.uint8))
    assert np.shares_memory(decode_npy(body), np.frombuffer(body, np.uint8))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04",
        pickle.dumps([1, 2]),
        b"[1, 2]",
        saved(np.zeros(4))[:40],
        saved(np.zeros(4)).replace(b"\x93NUMPY", b"\x93numpy"),
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_is_no_npy_file_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError, match=r"not a \.npy array"):
        decode_npy(body)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "(",
        "'''",
        "{[]: 1}",
        "{**{}}",
        "[]",
        "(" * 3000,
        "-" * 3000 + "1",
        "9" * 4000,
        "__import__('os')",
        "{'descr': '<f4', 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': 1, 'shape': (2,)}",
        "{'descr': 'no such type', 'fortran_order': False, 'shape': (2,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 2}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,) * 3}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
        "{1: 1, 'a': 2, b'c': 3}",
        "\0",
    ],
    ids=lambda header: repr(header[:40]),
)
def test_a_header_that_makes_no_sense_is_refused(header: str) -> None:
    with pytest.raises(DecodeError, match=r"not a \.npy array"):
        decode_npy(forged(header))


def test_an_oversized_header_is_refused() -> None:
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}" + " " * 5000
    with pytest.raises(DecodeError, match=r"not a \.npy array"):
        decode_npy(forged(header))


@pytest.mark.parametrize("dtype", ["O", "S8", "U2", "?", "c8", "M8[s]", "m8[s]", "V8"])
def test_types_that_are_no_numbers_are_refused(dtype: str) -> None:
    with pytest.raises(DecodeError, match="dtype must be integer or floating point"):
        decode_npy(saved(np.zeros(1, dtype), allow_pickle=True))


def test_records_and_subarrays_are_refused() -> None:
    with pytest.raises(DecodeError, match="dtype must be"):
        decode_npy(describing("(2,)", "[('a', '<f4')]"))


def test_pickled_objects_are_never_loaded() -> None:
    class Mine:
        def __reduce__(self) -> Any:
            return (pytest.fail, ("unpickled",))

    array = np.empty(1, object)
    array[0] = Mine()
    with pytest.raises(DecodeError, match="dtype must be"):
        decode_npy(saved(array, allow_pickle=True))


@pytest.mark.parametrize(
    "shape",
    [
        "(3,)",
        "(1,)",
        "(-2,)",
        "(-2, -1)",
        "(2, 0)",
        "(0, 10**30)".replace("10**30", "1" + "0" * 30),
        "(2, 1000000000000)",
        "(True, 2)",
        "(1" + ", 1" * 70 + ", 2)",
        "(1" + ", 1" * 9 + ", 2)",
        "(4294967296, 4294967296, 4294967296)",
    ],
)
def test_a_shape_that_the_bytes_do_not_fill_is_refused(shape: str) -> None:
    with pytest.raises(DecodeError):
        decode_npy(describing(shape))


def test_a_giant_declared_shape_allocates_nothing() -> None:
    body = describing("(1000000000000,)")
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match="must take the 8 bytes"):
            decode_npy(body)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cut", [1, 7])
def test_a_file_that_was_cut_or_continued_is_refused(cut: int) -> None:
    body = saved(np.zeros(4))
    for changed in (body[:-cut], body + b"\0" * cut):
        with pytest.raises(DecodeError, match="sent whole"):
            decode_npy(changed)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::SyntaxWarning")
@given(st.lists(st.tuples(st.integers(6, 80), st.integers(0, 255)), min_size=1, max_size=4))
@examples(max_examples=200, deadline=None)
def test_damaged_headers_are_read_or_refused_and_never_anything_else(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(saved(np.zeros((2, 3), np.float32)))
    for at, value in changes:
        damaged[at] = value
    with contextlib.suppress(DecodeError):
        assert decode_npy(bytes(damaged)).nbytes <= len(damaged)
