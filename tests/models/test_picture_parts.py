"""Pictures of a great many tiny parts are refused before Pillow walks them, and real ones pass."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from models.errors import InputError
from models.picture_parts import has_more_parts
from models.pictures import open_picture

PIXELS = np.random.default_rng(0).integers(0, 256, (600, 500), dtype=np.uint8)
SOI = b"\xff\xd8"


def encoded(kind: str, pixels: np.ndarray = PIXELS[:28, :28]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


PNG, JPEG = encoded("PNG"), encoded("JPEG")


@pytest.mark.parametrize("count", [200, 100_000])
@pytest.mark.parametrize(
    ("kind", "before", "part", "after"),
    [
        ("PNG", PNG[:33], chunk(b"prVt"), PNG[33:]),
        ("PNG", PNG[:33], chunk(b"IDAT"), PNG[33:]),
        ("PNG", PNG[:-12], chunk(b"prVt"), PNG[-12:]),
        ("PNG", PNG[:33], chunk(b"zTXt"), PNG[33:]),
        ("JPEG", SOI, b"\xff\xfe\0\2", JPEG[2:]),
        ("JPEG", SOI, b"\xff\xe7\0\2", JPEG[2:]),
        ("JPEG", SOI, b"\xff\xe7\0\0", JPEG[2:]),
        ("JPEG", SOI, b"\xff\xd0", JPEG[2:]),
        ("JPEG", SOI, b"\xff\0", JPEG[2:]),
        ("JPEG", SOI, b"\xff", JPEG[2:]),
        ("JPEG", SOI + JPEG[2:20], b"a", JPEG[20:]),
    ],
    ids=["private", "IDAT", "trailing", "zTXt", "comment", "APP7", "no length", "restart", "escaped", "fill", "junk"],
)
def test_a_picture_of_many_tiny_parts_is_refused_before_they_are_walked(
    kind: str, before: bytes, part: bytes, after: bytes, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = before + part * count + after
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(InputError) as caught:
        open_picture(data, max_pixels=10_000, field="files[3]")
    assert caught.value.field == "files[3]"
    assert f"a {kind} picture of {len(data)} bytes has at most {100 + len(data) // 256} parts" in caught.value.rule


def test_the_last_part_allowed_is_the_last_one() -> None:
    assert [has_more_parts(PNG, "PNG", most) for most in (2, 3)] == [True, False]  # IHDR, IDAT, IEND
    # APP0, DQT, SOF, four DHT, SOS.
    segments = JPEG.count(b"\xff\xc4") + JPEG.count(b"\xff\xdb") + 3
    assert [has_more_parts(JPEG, "JPEG", most) for most in (segments - 1, segments)] == [True, False]


def test_pictures_as_encoders_write_them_pass() -> None:
    head = PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", *PIXELS.shape[::-1], 8, 0, 0, 0, 0))
    content = zlib.compress(b"".join(b"\0" + row.tobytes() for row in PIXELS))
    for size in (1024, 8192, 32_768):
        idats = b"".join(chunk(b"IDAT", content[at : at + size]) for at in range(0, len(content), size))
        # What stands behind the end is no part, whatever it is.
        data = head + idats + chunk(b"IEND") + bytes(100_000)
        np.testing.assert_array_equal(np.asarray(open_picture(data, max_pixels=PIXELS.size)), PIXELS)
    described = SOI + b"\xff\xe2" + struct.pack(">H", 65_535) + bytes(65_533) + JPEG[2:]
    assert open_picture(described, max_pixels=10_000).size == (28, 28)
    # A camera's fill bytes.
    assert open_picture(SOI + b"\xff" * 50 + JPEG[2:], max_pixels=10_000).size == (28, 28)
