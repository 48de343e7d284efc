"""The parts of a picture's file, walked before Pillow does, which takes microseconds and 100 bytes for each."""

from collections.abc import Iterator
from itertools import islice

from PIL.JpegImagePlugin import MARKER

from models.errors import InputError

# A part has a few bytes at least, of real pictures thousands: 8 MB of empty ones would take Pillow seconds and 270 MB.
_FEW_PARTS = 100
_BYTES_A_PART = 256
_START_OF_SCAN = 0xFFDA
# Parts of a PNG that Pillow would inflate, a kilobyte to a megabyte, and whose content we do not look at.
_NO_PIXELS = (b"zTXt", b"iTXt", b"iCCP")


def limit_parts(data: bytes, kind: str, field: str) -> None:
    """Refuse a picture of many tiny parts, however many pictures a request has.

    Args:
        data: The whole file.
        kind: PNG or JPEG, as its first bytes say.
        field: What to call it in errors.

    Raises:
        InputError: More parts than one for 256 bytes, beyond the first hundred.
    """
    most = _FEW_PARTS + len(data) // _BYTES_A_PART
    if has_more_parts(data, kind, most):
        rule = f"a {kind} picture of {len(data)} bytes has at most {most} parts (chunks, segments, bytes between them)"
        raise InputError(field, rule, "more", "Save it anew.")


def has_more_parts(data: bytes, kind: str, most: int) -> bool:
    """Whether a PNG or JPEG has more than ``most`` parts that Pillow would walk; no more are looked at."""
    parts = _chunks(data) if kind == "PNG" else _segments(data)
    return next(islice(parts, most, None), None) is not None


def without_texts(data: bytes) -> bytes:
    """A PNG without what has no pixels in it; what is broken stays as it is."""
    if not any(kind in data for kind in _NO_PIXELS):
        return data
    kept = (chunk for chunk in _chunks(data) if data[chunk.start + 4 : chunk.start + 8] not in _NO_PIXELS)
    return data[:8] + b"".join(data[chunk] for chunk in kept)


def _chunks(data: bytes) -> Iterator[slice]:
    """Where each chunk of a PNG is, up to the end of the picture."""
    at, kind = 8, b""
    while at < len(data) and kind != b"IEND":
        kind = data[at + 4 : at + 8]
        # Length, kind, content, checksum.
        end = at + 12 + int.from_bytes(data[at : at + 4])
        yield slice(at, end)
        at = end


def _segments(data: bytes) -> Iterator[int]:
    """Where each step of Pillow's through the head of a JPEG begins: a segment, or a byte that belongs to none."""
    at, marker = 2, 0
    while at < len(data) and marker != _START_OF_SCAN:
        yield at
        marker = int.from_bytes(data[at : at + 2])
        if data[at] != 0xFF or marker == 0xFFFF:
            at += 1
        elif marker in MARKER and MARKER[marker][2] is not None:
            # The length counts its own two bytes.
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
        else:
            at += 2
