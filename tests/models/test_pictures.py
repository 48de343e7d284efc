"""Pictures of any size and colour, decoded within limits and prepared the same way for ever."""

import hashlib
import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFile

from models import pictures
from models.errors import DecodeError, InputError, ServingError
from models.pictures import PREPARATIONS, open_picture, png, prepare

LIMIT = 1_000_000


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def prepared(
    image: Image.Image, channels: int = 1, name: str = "fashion_mnist_v1"
) -> tuple[np.ndarray, tuple[str, ...]]:
    return prepare(name, image, 28, 28, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_come_back_from_a_file_made_of_them(channels: int) -> None:
    pixels = noise(9, 7, channels)
    for optimize in (False, True):
        image = open_picture(png(pixels, optimize=optimize), max_pixels=LIMIT)
        np.testing.assert_array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def photograph() -> Image.Image:
    """A dark shirt on a light background, drawn so that every platform draws the same pixels."""
    image = Image.new("RGB", (90, 120), (250, 248, 245))
    draw = ImageDraw.Draw(image)
    draw.rectangle((20, 30, 69, 99), fill=(40, 60, 90))
    draw.rectangle((5, 30, 19, 54), fill=(120, 20, 30))
    draw.rectangle((70, 30, 84, 54), fill=(20, 120, 30))
    return image


def png_declaring(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header declares any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", sorted(PREPARATIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_that_has_the_form_passes_bit_for_bit(name: str, channels: int) -> None:
    pixels = noise(28, 28, channels)
    image = open_picture(encoded(Image.fromarray(pixels.squeeze())), max_pixels=LIMIT)
    array, applied = prepared(image, channels, name)
    np.testing.assert_array_equal(array, pixels)
    assert array.dtype == np.uint8
    assert applied == ()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("name", sorted(PREPARATIONS))
@pytest.mark.parametrize("channels", [1, 3])
def test_any_mode_and_size_gets_the_form_and_says_what_was_applied(mode: str, name: str, channels: int) -> None:
    array, applied = prepared(Image.new(mode, (51, 33)), channels, name)
    assert array.shape == (28, 28, channels)
    assert array.dtype == np.uint8
    assert applied


def test_a_light_background_is_negated_and_the_content_trimmed_fitted_and_centred() -> None:
    array, applied = prepared(photograph())
    assert applied == ("grey", "trimmed", "longest edge to 28", "centred", "negated")
    assert array[0, 0, 0] == 0, "the background is black, as the training pictures have it"
    assert array[14, 14, 0] > 150, "the content is light"


def test_a_dark_background_is_not_negated() -> None:
    image = Image.new("L", (60, 60), 0)
    ImageDraw.Draw(image).rectangle((10, 10, 49, 49), fill=200)
    array, applied = prepared(image)
    assert "negated" not in applied
    assert array[14, 14, 0] == 200


@pytest.mark.parametrize("size", [(28, 100), (100, 28)])
def test_the_aspect_is_kept(size: tuple[int, int]) -> None:
    image = Image.new("L", (140, 140), 0)
    image.paste(200, (20, 20, 20 + size[0], 20 + size[1]))
    array, _ = prepared(image)
    content = np.argwhere(array[:, :, 0] > 100)
    height, width = content.max(axis=0) - content.min(axis=0) + 1
    assert {int(height), int(width)} == {28, 8}


@pytest.mark.parametrize("colour", [0, 255, 128])
def test_a_picture_of_one_colour_is_no_error(colour: int) -> None:
    array, _ = prepared(Image.new("L", (50, 40), colour))
    assert array.shape == (28, 28, 1)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (27, 28), (29, 28)])
def test_extreme_shapes_are_no_error(size: tuple[int, int]) -> None:
    assert prepared(Image.fromarray(noise(size[1], size[0])))[0].shape == (28, 28, 1)


def test_sixteen_bits_are_scaled_to_eight_and_not_clipped() -> None:
    eight = np.arange(28 * 28, dtype=np.uint16).reshape(28, 28) % 256
    image = open_picture(encoded(Image.fromarray(eight * 257)), max_pixels=LIMIT)
    array, applied = prepare("stretch_v1", image, 28, 28, 1)
    assert applied == ("16 bits to 8",)
    np.testing.assert_array_equal(array[:, :, 0], eight)


@pytest.mark.parametrize(("background", "negated"), [(127, False), (128, True)])
def test_a_background_is_light_from_the_middle_on(background: int, negated: bool) -> None:
    image = Image.new("L", (60, 60), background)
    image.paste(60, (20, 20, 40, 40))
    assert ("negated" in prepared(image)[1]) is negated


def test_transparency_is_laid_on_white() -> None:
    pixels = np.zeros((28, 28, 4), np.uint8)
    pixels[10:20, 10:20] = (50, 50, 50, 255)
    array, applied = prepare("stretch_v1", Image.fromarray(pixels), 28, 28, 1)
    assert applied == ("transparency on white", "grey")
    assert (array[0, 0, 0], array[15, 15, 0]) == (255, 50)


def test_a_transparent_palette_is_laid_on_white_too() -> None:
    image = Image.new("P", (28, 28), 0)
    image.putpalette([10, 10, 10, 200, 0, 0])
    opened = open_picture(encoded(image, transparency=0), max_pixels=LIMIT)
    assert prepare("stretch_v1", opened, 28, 28, 1)[0].min() == 255


# sha256 of the prepared pixels. A procedure never changes under its name: what fails here needs a new version.
PINNED = {
    ("fashion_mnist_v1", 1): "ed590d683decc3fe",
    ("fashion_mnist_v1", 3): "212f0ac42759baa4",
    ("stretch_v1", 1): "f82d0a5118f9adb5",
    ("stretch_v1", 3): "9533734718b52fa2",
}


@pytest.mark.parametrize(("name", "channels"), sorted(PINNED))
def test_a_version_prepares_a_picture_to_the_same_pixels_for_ever(name: str, channels: int) -> None:
    array, _ = prepared(photograph(), channels, name)
    assert hashlib.sha256(array.tobytes()).hexdigest()[:16] == PINNED[name, channels]


def test_every_version_is_pinned() -> None:
    assert {name for name, _ in PINNED} == set(PREPARATIONS)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_lies_on_its_side_is_turned_upright(orientation: int) -> None:
    image = Image.new("L", (32, 16), 0)
    image.paste(255, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", exif=exif, quality=95)
    upright = open_picture(data, max_pixels=LIMIT)
    assert upright.size == ((32, 16) if orientation < 5 else (16, 32))
    expected = {1: "left", 2: "right", 3: "right", 4: "left", 5: "top", 6: "top", 7: "bottom", 8: "bottom"}
    pixels = np.asarray(upright)
    height, width = pixels.shape
    halves = {
        "left": pixels[:, : width // 2],
        "right": pixels[:, width // 2 :],
        "top": pixels[: height // 2],
        "bottom": pixels[height // 2 :],
    }
    assert halves[expected[orientation]].mean() > 240


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_size_limit_is_inclusive(kind: str) -> None:
    data = encoded(Image.new("L", (20, 10)), kind)
    assert open_picture(data, max_pixels=200).size == (20, 10)
    with pytest.raises(InputError) as caught:
        open_picture(data, max_pixels=199, field="files[2]")
    assert caught.value.field == "files[2]"
    assert caught.value.received == "20x10"


@pytest.mark.parametrize("size", [(10_000, 10_000), (1, 90_000_000), (2**31 - 1, 2**31 - 1)])
def test_the_size_is_checked_before_any_pixel_is_decoded(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", loaded.append)
    with pytest.raises((InputError, DecodeError)):
        open_picture(png_declaring(*size), max_pixels=24_000_000)
    assert not loaded


def test_the_first_bytes_decide_what_a_picture_is() -> None:
    for kind in ("GIF", "BMP", "TIFF", "WEBP", "EPS", "PPM"):
        with pytest.raises(DecodeError, match="must be a PNG or JPEG"):
            open_picture(encoded(Image.new("L", (9, 9)), kind), max_pixels=LIMIT)


@pytest.mark.parametrize("data", [b"", b"\x89PN", b"<svg/>", b"8BPS", b"SIMPLE  =", b"%!PS-Adobe", b"\0" * 100])
def test_bytes_that_are_no_picture_are_refused_with_how_they_start(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        open_picture(data, max_pixels=LIMIT, field="instances[1].b64")
    assert str(caught.value).startswith("instances[1].b64: must be a PNG or JPEG")
    assert repr(data[:8]) in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(DecodeError, match=f"broken {kind} picture"):
        open_picture(data[: int(len(data) * share)], max_pixels=LIMIT)


def test_a_picture_whose_header_is_broken_says_so_and_nothing_of_the_inside() -> None:
    data = encoded(Image.fromarray(noise(64, 64)), "PNG")
    with pytest.raises(DecodeError, match=r"^body: broken PNG picture \(its header\)"):
        open_picture(data[:16] + b"\x7f" + data[17:], max_pixels=LIMIT)


def test_a_png_that_expands_beyond_its_declared_size_is_refused_or_cut() -> None:
    data = png_declaring(28, 28)
    with pytest.raises(DecodeError, match="broken PNG"):
        open_picture(data, max_pixels=LIMIT)


_SEEDS = (
    encoded(Image.fromarray(noise(12, 10, 3))),
    encoded(
        Image.fromarray(noise(12, 10, 3)),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0",
    ),
    encoded(Image.fromarray(noise(12, 10)).convert("P"), transparency=0),
)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about broken EXIF data
@given(
    st.sampled_from(_SEEDS), st.lists(st.tuples(st.integers(3, 10_000), st.integers(0, 255)), min_size=1, max_size=6)
)
@examples(max_examples=150, deadline=None)
def test_damaged_pictures_are_prepared_or_refused_and_never_anything_else(
    data: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at % len(damaged)] = value
    try:
        image = open_picture(bytes(damaged), max_pixels=LIMIT)
    except ServingError:
        return
    assert prepared(image)[0].shape == (28, 28, 1)


def parts_of_png(*parts: tuple[bytes, bytes]) -> bytes:
    """The pixels of a small PNG, with other parts after its header."""
    data = png(noise(9, 7, 1))
    made = [struct.pack(">I", len(d)) + kind + d + struct.pack(">I", zlib.crc32(kind + d)) for kind, d in parts]
    return data[:33] + b"".join(made) + data[33:]


@pytest.mark.parametrize(
    ("kind", "begins"), [(b"zTXt", b"key\0\0"), (b"iTXt", b"key\0\1\0\0\0"), (b"iCCP", b"key\0\0")]
)
def test_texts_in_a_picture_are_not_inflated(kind: bytes, begins: bytes) -> None:
    text = begins + zlib.compress(b"a" * 900_000)
    image = open_picture(parts_of_png(*[(kind, text)] * 100), max_pixels=LIMIT)
    np.testing.assert_array_equal(np.asarray(image), noise(9, 7, 1)[:, :, 0])
    assert not image.info


@pytest.mark.parametrize(("width", "height"), [(65_536, 1), (1, 65_536)])
def test_a_side_longer_than_jpeg_knows_is_refused(width: int, height: int) -> None:
    with pytest.raises(InputError, match="at most 65535 pixels a side"):
        open_picture(png_declaring(width, height), max_pixels=LIMIT)
    assert open_picture(encoded(Image.new("L", (65_535, 1))), max_pixels=LIMIT).size == (65_535, 1)


def test_a_jpeg_that_goes_over_its_pixels_for_ever_is_refused_before_it_is_decoded() -> None:
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda\0")
    assert open_picture(data, max_pixels=LIMIT).size == (64, 64)
    with pytest.raises(InputError, match="at most 100 scans"):
        open_picture(data[:last] + data[last:-2] * 100 + data[-2:], max_pixels=LIMIT)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_prepared_in_strips_is_the_same_as_in_one_piece(
    mode: str, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = photograph()
    image.paste(Image.fromarray(noise(20, 30, 3)), (30, 50))
    image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 250) if mode == "I;16" else image
    image = image.convert(mode)
    for name in PREPARATIONS:
        monkeypatch.setattr(pictures, "_STRIP_PIXELS", image.width * image.height)
        whole, steps = prepared(image, channels, name)
        # Of seven rows, so that the last one is shorter.
        monkeypatch.setattr(pictures, "_STRIP_PIXELS", image.width * 7)
        in_strips, same_steps = prepared(image, channels, name)
        np.testing.assert_array_equal(in_strips, whole)
        assert same_steps == steps


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_preparing_a_picture_takes_little_more_memory_than_its_pixels(mode: str) -> None:
    image = Image.new(mode, (1500, 1000))
    tracemalloc.start()
    try:
        prepared(image)
        # numpy's part; Pillow's is out of sight.
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3 * 2**20, "one number of 8 bytes a pixel would be 11 MiB"
