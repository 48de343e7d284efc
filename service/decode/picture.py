"""Encoded pictures -> a model's rows, prepared as in training."""

import base64
import binascii
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile

from models.errors import DecodeError, shorten
from models.picture_parts import has_more_parts
from models.pictures import load_picture, look_at_picture, prepare
from models.task import ImageClassification
from service.errors import TooLargeError

# More pixels take over a millisecond to decode: long enough to be worth a thread.
_INLINE_PIXELS = 128 * 1024
# Pillow takes microseconds for each.
_INLINE_PARTS = 64
# Parts of a PNG that are compressed too, each looked at.
_TEXTS = (b"zTXt", b"iTXt", b"iCCP")

Row = tuple[NDArray[np.uint8], tuple[str, ...]]
"""One of the model, and what was done to its picture on the way."""


@dataclass(slots=True)
class File:
    """A picture as it was sent.

    Attributes:
        name: What to call it in errors.
        data: PNG or JPEG.
    """

    name: str
    data: bytes


@dataclass(slots=True)
class Seen:
    """A picture of which the header was read.

    Attributes:
        name: What to call it in errors.
        image: Without its pixels yet.
        cost: Its pixels, or its bytes where these are more: what reading it takes.
    """

    name: str
    image: ImageFile
    cost: int


@dataclass(slots=True)
class Pictures:
    """A request's pictures, still to be decoded.

    Attributes:
        task: What their rows must look like.
        parts: One a row, at least one: a file, or what is a row already.
        max_pixels: Largest width times height of one of them.
        max_together: Of all of them.
    """

    task: ImageClassification
    parts: Sequence[File | Row]
    max_pixels: int
    max_together: int

    @property
    def size(self) -> int:
        """Bytes of the files."""
        return sum(len(part.data) for part in self.parts if isinstance(part, File))

    def is_small(self) -> bool:
        """Whether decoding surely takes no time."""
        return len(self.parts) == 1 and (not isinstance(self.parts[0], File) or is_small(self.parts[0].data))

    def look(self) -> deque[Seen | Row]:
        """The headers, before any pixel is decoded.

        Raises:
            DecodeError: Neither PNG nor JPEG, or broken.
            InputError: One has more pixels than allowed.
            TooLargeError: All have.
        """
        seen: deque[Seen | Row] = deque()
        pixels = 0
        for part in self.parts:
            if not isinstance(part, File):
                seen.append(part)
                continue
            image = look_at_picture(part.data, max_pixels=self.max_pixels, field=part.name)
            size = image.width * image.height
            pixels += size
            if pixels > self.max_together:
                raise TooLargeError(
                    f"{part.name}: the pictures of a request have at most {self.max_together} pixels together. "
                    f"Received: {pixels} up to this one. Scale them down, or split the request."
                )
            seen.append(Seen(part.name, image, max(size, len(part.data))))
        return seen


def decode_pictures(task: ImageClassification, seen: deque[Seen | Row]) -> list[Row]:
    """Rows of pictures that were looked at, which are let go of one by one.

    Raises:
        DecodeError: One is broken.
    """
    rows: list[Row] = []
    while seen:
        part = seen.popleft()
        if isinstance(part, Seen):
            image = load_picture(part.image, field=part.name)
            rows.append(prepare(task.preparation, image, task.height, task.width, task.channels))
        else:
            rows.append(part)
    return rows


def is_small(data: bytes) -> bool:
    """Whether a picture surely decodes in no time, by its header: 23 kB of PNG may hold 24 million black pixels."""
    # A second header would count instead of the first.
    known = data.startswith(b"\x89PNG") and data[12:16] == b"IHDR" and data.count(b"IHDR") == 1
    small = known and int.from_bytes(data[16:20]) * int.from_bytes(data[20:24]) <= _INLINE_PIXELS
    plain = small and len(data) <= _INLINE_PIXELS and not any(kind in data for kind in _TEXTS)
    return plain and not has_more_parts(data, "PNG", _INLINE_PARTS)


def picture_of_base64(text: str, field: str) -> bytes:
    """The file that ``text`` holds.

    Raises:
        DecodeError: Not base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise DecodeError(f"{field}: not base64. Received: {shorten(text)}. Encode the file's bytes.") from None
