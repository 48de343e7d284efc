"""numpy's .npy format -> array, its header checked before anything is allocated."""

import io
import math
from typing import Any

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
    stream = io.BytesIO(body)
    try:
        version = npy.read_magic(stream)
        # np.load would parse the header too, but allocate what it declares before looking at the length.
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream, max_header_size=_MAX_HEADER_BYTES)
    except Exception as error:  # numpy evaluates the header as Python source, which fails in a dozen ways
        raise DecodeError(f"body: not a .npy array ({str(error)[:120]}). Write it with numpy.save.") from None
    if dtype.kind not in _KINDS:
        raise DecodeError(
            f"body: dtype must be integer or floating point. Received: {str(dtype)[:60]}. Convert the array."
        )
    offset = stream.tell()
    possible = len(shape) <= _MAX_AXES and all(type(n) is int and 0 <= n <= len(body) for n in shape)
    if not possible or math.prod(shape) * dtype.itemsize != len(body) - offset:
        raise DecodeError(
            f"body: shape {str(shape)[:60]} of {dtype} must take the {len(body) - offset} bytes after the header. "
            "Check that the array was sent whole."
        )
    array = np.frombuffer(body, dtype, offset=offset).reshape(shape, order="F" if fortran else "C")
    # Engines take native byte order only.
    return array.astype(dtype.newbyteorder("="), copy=False)
