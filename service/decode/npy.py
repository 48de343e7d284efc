"""numpy's .npy format -> array, its header checked before anything is allocated."""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from models.errors import DecodeError

_KINDS = "uif"
_MAX_HEADER_BYTES = 4096
_MAX_AXES = 8


def decode_npy(body: bytes) -> NDArray[Any]:
    """The array in ``body``: a read-only view of it, never a copy larger than it.

    Raises:
        DecodeError: Not .npy, an object or other non-numeric dtype, or a length that its shape does not give.
    """
    # Two bytes of length in version 1, four in those after it.
    offset = (
        10 + int.from_bytes(body[8:10], "little") if body[6:7] == b"\1" else 12 + int.from_bytes(body[8:12], "little")
    )
    try:
        header = _parse_header(body[: min(offset, 12 + _MAX_HEADER_BYTES)])
    except DecodeError:
        raise
    except Exception as error:  # numpy evaluates the header as Python source, which fails in a dozen ways
        raise DecodeError(f"body: not a .npy array ({str(error)[:120]}). Write it with numpy.save.") from None
    if header.nbytes != len(body) - offset:
        raise DecodeError(
            f"body: shape {str(header.shape)[:60]} of {header.dtype} must take the {len(body) - offset} bytes after "
            "the header. Check that the array was sent whole."
        )
    array = np.frombuffer(body, header.dtype, offset=offset).reshape(header.shape, order=header.order)
    # Engines take native byte order only.
    return array if header.dtype.isnative else array.astype(header.dtype.newbyteorder("="))


@dataclass(frozen=True, slots=True)
class _Header:
    """What the header of a numeric array says; -1 ``nbytes`` where there can be no such array."""

    shape: tuple[int, ...]
    order: Literal["F", "C"]
    dtype: np.dtype[Any]
    nbytes: int


@lru_cache(maxsize=64)
def _parse_header(head: bytes) -> _Header:
    """Kept, as clients send the same header again and again and numpy takes 80 us over it.

    Raises:
        DecodeError: The dtype is not numeric.
        Exception: Of any kind: it is no header.
    """
    stream = io.BytesIO(head)
    version = npy.read_magic(stream)
    # np.load would parse the header too, but allocate what it declares before looking at the length.
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    if dtype.kind not in _KINDS:
        raise DecodeError(
            f"body: dtype must be integer or floating point. Received: {str(dtype)[:60]}. Convert the array."
        )
    possible = len(shape) <= _MAX_AXES and all(type(n) is int and n >= 0 for n in shape)
    nbytes = math.prod(shape) * dtype.itemsize if possible else -1
    return _Header(shape, "F" if fortran else "C", dtype, nbytes)
