"""One named tensor of the Open Inference Protocol, over HTTP or gRPC: from raw bytes or listed values, and back.

Nothing is allocated before the shape and the size of the data agree.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DecodeError, InputError, shorten

BYTES = "BYTES"
DTYPES = MappingProxyType(
    {"BOOL": np.dtype("?"), "FP16": np.dtype("<f2"), "FP32": np.dtype("<f4"), "FP64": np.dtype("<f8")}
    | {f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)}
    | {f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)}
)
"""Datatype -> how an element lies in raw data; BYTES alone has a length before each element."""
_MAX_AXES = 8
_MAX_NAME = 200
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Spec:
    """What a model says of one of its tensors; -1 in ``shape`` is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(slots=True)
class Tensor:
    """One tensor with its data.

    Attributes:
        name: As in the model's metadata.
        datatype: A key of `DTYPES`, or BYTES.
        shape: At least 1 in every direction.
        data: Numeric: an array of that shape, maybe a view of what was received. BYTES: the elements, row-major.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: NDArray[Any] | list[bytes]


def tensor_from_raw(name: str, datatype: str, shape: Sequence[Any], raw: bytes | memoryview) -> Tensor:
    """The tensor that ``raw`` holds, little-endian and row-major: a view of it, or the elements of BYTES.

    Raises:
        InputError: An unknown datatype, an impossible shape, or one that does not give the number of bytes.
        DecodeError: BYTES whose lengths do not add up.
    """
    shape, count = _checked(name, datatype, shape)
    if datatype == BYTES:
        return Tensor(name, datatype, shape, _split(name, raw, count))
    dtype = DTYPES[datatype]
    if count * dtype.itemsize != len(raw):
        rule = f"{datatype} of shape {list(shape)} takes {count * dtype.itemsize} bytes"
        raise InputError(name, rule, f"{len(raw)} bytes", "Check shape, datatype and binary_data_size.")
    return Tensor(name, datatype, shape, np.frombuffer(raw, dtype).reshape(shape))


def tensor_from_values(
    name: str, datatype: str, shape: Sequence[Any], values: Sequence[Any], *, booleans: bool = True
) -> Tensor:
    """The tensor of ``values``, flat and row-major or nested as the shape has it.

    Args:
        name: Of the tensor.
        datatype: Of its elements. Where it is a floating point type, None stands for NaN.
        shape: As received.
        values: Numbers; for BYTES bytes or texts.
        booleans: False where there can be no boolean among the values, which saves a look at each.

    Raises:
        InputError: An unknown datatype, an impossible shape, one that does not give the number of values, or a value
            that is not of the datatype.
    """
    shape, count = _checked(name, datatype, shape)
    flat = _flattened(name, shape, values)
    if len(flat) != count:
        raise InputError(name, f"shape {list(shape)} holds {count} values", f"{len(flat)}", "Send as many as it says.")
    try:
        if datatype == BYTES:
            data = [value.encode() if isinstance(value, str) else bytes(memoryview(value)) for value in flat]
            return Tensor(name, datatype, shape, data)
        return Tensor(name, datatype, shape, _numbers(DTYPES[datatype], flat, booleans).reshape(shape))
    except (TypeError, ValueError, OverflowError):
        raise _no_such_value(name, datatype, flat) from None


def raw_of(tensor: Tensor) -> bytes:
    """The data of ``tensor`` as `tensor_from_raw` takes it."""
    if isinstance(tensor.data, list):
        return b"".join(chain.from_iterable((_LENGTH.pack(len(item)), item) for item in tensor.data))
    return np.ascontiguousarray(tensor.data, DTYPES[tensor.datatype]).tobytes()


def _checked(name: str, datatype: Any, shape: Any) -> tuple[tuple[int, ...], int]:
    """The shape, and how many elements it holds."""
    if len(name) > _MAX_NAME:
        raise InputError("inputs", f"a name has at most {_MAX_NAME} characters", shorten(name), "See the metadata.")
    if datatype != BYTES and (not isinstance(datatype, str) or datatype not in DTYPES):
        known = ", ".join((*sorted(DTYPES), BYTES))
        raise InputError(name, f"datatype must be one of {known}", shorten(datatype), "Convert the tensor.")
    # Their number first: there may be millions.
    if not 1 <= len(shape) <= _MAX_AXES or not all(type(n) is int and n >= 1 for n in shape):
        rule = f"shape must be 1 to {_MAX_AXES} whole numbers, each at least 1"
        received = f"{len(shape)} numbers" if len(shape) > _MAX_AXES else shorten(list(shape))
        raise InputError(name, rule, received, "Send the shape of the data, with its batch axis first.")
    return tuple(shape), math.prod(shape)


def _split(name: str, raw: bytes | memoryview, count: int) -> list[bytes]:
    """The elements of raw BYTES: each after its length, four bytes, little-endian."""
    items: list[bytes] = []
    place, end = 0, len(raw)
    # Each takes four bytes at least: a giant shape ends here, not in a giant list.
    while len(items) < count and place + _LENGTH.size <= end:
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if length > end - place:
            break
        items.append(bytes(raw[place : place + length]))
        place += length
    if len(items) != count or place != end:
        raise DecodeError(
            f"{name}: BYTES are {count} elements, each after its length in four bytes, little-endian. "
            f"Received: {end} bytes, in which element {len(items)} does not fit or is the last before others. "
            "Check shape and framing."
        )
    return items


def _flattened(name: str, shape: tuple[int, ...], values: Sequence[Any]) -> Sequence[Any]:
    """``values`` without nesting, if they are nested as ``shape`` says."""
    if not isinstance(values[0] if len(values) else None, list):
        return values
    nested: Any = [values]
    for length in shape:
        if not all(isinstance(part, list) and len(part) == length for part in nested):
            rule = f"nested data must have the shape {list(shape)}"
            raise InputError(name, rule, "lists of other lengths", "Send it flat, or nested as the shape says.")
        nested = list(chain.from_iterable(nested))
    return nested  # type: ignore[no-any-return]


def _numbers(dtype: np.dtype[Any], values: Sequence[Any], booleans: bool) -> NDArray[Any]:
    """One axis of numbers, each exactly representable or, of floating point, rounded.

    Raises:
        TypeError, ValueError, OverflowError: Some value is not of the type.
    """
    if dtype == np.uint8 and not booleans:
        # bytes() itself checks type and range: half the time of what follows.
        return np.frombuffer(bytes(values), dtype)
    kinds = set(map(type, values))
    if not kinds <= ({bool} if dtype.kind == "b" else {int, float, type(None)} if dtype.kind == "f" else {int}):
        raise TypeError
    if dtype.kind != "f":
        return np.array(values, dtype)
    with np.errstate(over="ignore"):
        # By way of float64, as a number of JSON is one. What is too large becomes infinite, and is refused as such.
        return np.array(values, np.float64).astype(dtype)


def _no_such_value(name: str, datatype: str, values: Sequence[Any]) -> InputError:
    """What to say of values of which at least one is not of the datatype."""
    for i, value in enumerate(values):
        try:
            if datatype == BYTES:
                memoryview(value.encode() if isinstance(value, str) else value)
            else:
                _numbers(DTYPES[datatype], [value], booleans=True)
        except (TypeError, ValueError, OverflowError):
            return InputError(f"{name}[{i}]", f"must be a value of {datatype}", shorten(value), "Check the datatype.")
    raise AssertionError("some value is not of the datatype")
