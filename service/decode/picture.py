"""Encoded pictures -> a model's rows, prepared as in training."""

import base64
import binascii
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from models.errors import DecodeError, shorten
from models.pictures import open_picture, prepare
from models.task import ImageClassification

# More pixels take over a millisecond to decode: long enough to be worth a thread.
_INLINE_PIXELS = 128 * 1024
# Parts of a PNG that are compressed too: a kilobyte of text may be a megabyte.
_INFLATED = (b"zTXt", b"iTXt", b"iCCP")


def decode_pictures(
    task: ImageClassification, pictures: Mapping[str, bytes], *, max_pixels: int
) -> tuple[NDArray[np.uint8], list[tuple[str, ...]]]:
    """Rows from PNG or JPEG files, at least one, and what was done to each of them on the way.

    Args:
        task: What the rows must look like.
        pictures: What to call each file in errors -> its bytes.
        max_pixels: Largest width times height of one of them.

    Raises:
        DecodeError: Neither PNG nor JPEG, or broken.
        InputError: More pixels than allowed.
    """
    rows, applied = [], []
    for name, data in pictures.items():
        image = open_picture(data, max_pixels=max_pixels, field=name)
        row, steps = prepare(task.preparation, image, task.height, task.width, task.channels)
        rows.append(row)
        applied.append(steps)
    return np.stack(rows), applied


def is_small(data: bytes) -> bool:
    """Whether a picture surely decodes in no time, by its header: 23 kB of PNG may hold 24 million black pixels."""
    # A second header would count instead of the first.
    known = data.startswith(b"\x89PNG") and data[12:16] == b"IHDR" and data.count(b"IHDR") == 1
    small = known and int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]) <= _INLINE_PIXELS
    return small and not any(kind in data for kind in _INFLATED)


def picture_of_base64(text: str, field: str) -> bytes:
    """The file that ``text`` holds.

    Raises:
        DecodeError: Not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(f"{field}: not base64. Received: {shorten(text)}. Encode the file's bytes.") from None
