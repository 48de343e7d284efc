"""Named, versioned preparation of a picture: the one step outside the graph, shared by training and service.

A manifest records the name. A procedure never changes under its name; a better one gets the next version.
"""

import io
import warnings
from collections.abc import Callable, Iterator
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from models.errors import DecodeError, InputError
from models.picture_parts import limit_parts, without_texts

Prepared = tuple[Image.Image, tuple[str, ...]]
Preparation = Callable[[Image.Image, int, int, int], Prepared]

# Share of the full range by which an edge may differ from the corner pixel and still be trimmed.
_TRIM_TOLERANCE = 0.05
_SIGNATURES = {"PNG": b"\x89PNG\r\n\x1a\n", "JPEG": b"\xff\xd8\xff"}
_EXIF_ORIENTATION = 0x0112
_BROKEN = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)
# As far as JPEG goes. Resampling a line of millions would take a table of hundreds of megabytes.
_MOST_A_SIDE = 65_535
# Encoders make ten. Each goes over all pixels, and may be a few bytes.
_MOST_SCANS = 100
# Its length has two bytes and is small.
_START_OF_SCAN = b"\xff\xda\0"
# What is made of a picture pixel by pixel is made of so many at once, so that it takes little memory.
_STRIP_PIXELS = 64 * 1024


def open_picture(data: bytes, *, max_pixels: int, field: str = "body") -> Image.Image:
    """Decode a PNG or JPEG picture; its first bytes decide which, whatever the sender calls it.

    Args:
        data: The whole file.
        max_pixels: Largest width times height; checked before any pixel is decoded.
        field: What to call the picture in errors.

    Returns:
        The loaded picture, turned upright where its EXIF data say that it lies on its side.

    Raises:
        DecodeError: Neither PNG nor JPEG, or broken.
        InputError: More pixels, scans or parts than allowed.
    """
    return load_picture(look_at_picture(data, max_pixels=max_pixels, field=field), field=field)


def look_at_picture(data: bytes, *, max_pixels: int, field: str = "body") -> ImageFile:
    """A PNG or JPEG picture of which only the header was read; it takes little more memory than its file.

    Args and errors as of `open_picture`.
    """
    kind = next((kind for kind, signature in _SIGNATURES.items() if data.startswith(signature)), None)
    if kind is None:
        raise DecodeError(
            f"{field}: must be a PNG or JPEG picture. Received: bytes that start with {data[:8]!r}. Convert it."
        )
    if kind == "JPEG" and data.count(_START_OF_SCAN) > _MOST_SCANS:
        rule = f"a JPEG picture has at most {_MOST_SCANS} scans"
        raise InputError(field, rule, "more", "Save it anew, not as progressive.")
    limit_parts(data, kind, field)
    if kind == "PNG":
        data = without_texts(data)
    try:
        with warnings.catch_warnings():
            # Pillow's own limit is far above ours, and we look at the size ourselves.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image: ImageFile = Image.open(io.BytesIO(data), formats=(kind,))
    except _BROKEN as error:
        raise _broken(error, kind, field) from None
    width, height = image.size
    if width * height > max_pixels:
        rule, remedy = f"a picture has at most {max_pixels} pixels", "Scale it down before sending it."
        raise InputError(field, rule, f"{width}x{height}", remedy)
    if width > _MOST_A_SIDE or height > _MOST_A_SIDE:
        rule, remedy = f"a picture has at most {_MOST_A_SIDE} pixels a side", "Cut it before sending it."
        raise InputError(field, rule, f"{width}x{height}", remedy)
    return image


def load_picture(image: ImageFile, *, field: str = "body") -> Image.Image:
    """The pixels of a picture that was looked at, turned upright where its EXIF data say that it lies on its side.

    Raises:
        DecodeError: It is broken.
    """
    # A JPEG file of several pictures has a name of its own.
    kind = "PNG" if image.format == "PNG" else "JPEG"
    try:
        image.load()
        # Looking is much cheaper than transposing, which copies.
        if kind == "JPEG" and image.getexif().get(_EXIF_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    except _BROKEN as error:
        raise _broken(error, kind, field) from None
    return image


def _broken(error: Exception, kind: str, field: str) -> DecodeError:
    """What Pillow says, in our words."""
    # The message of the first is about the object in memory.
    what = "its header" if isinstance(error, UnidentifiedImageError) else error
    return DecodeError(f"{field}: broken {kind} picture ({what}). Check that it was sent whole.")


def prepare(
    name: str, image: Image.Image, height: int, width: int, channels: int
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Bring a decoded picture into a model's form.

    Args:
        name: A key of `PREPARATIONS`.
        image: Any size and mode, already loaded within the limits.
        height: Rows of pixels wanted.
        width: Columns of pixels wanted.
        channels: 1 for grey, 3 for red, green, blue.

    Returns:
        uint8 ``(height, width, channels)``, and what was applied, in order. A picture that has the form already
        passes bit for bit, with nothing applied.
    """
    mode = "L" if channels == 1 else "RGB"
    applied: tuple[str, ...] = ()
    if image.mode != mode or image.size != (width, height):
        image, applied = PREPARATIONS[name](image, height, width, channels)
    return np.asarray(image, dtype=np.uint8).reshape(height, width, channels), applied


def png(pixels: NDArray[np.uint8], *, optimize: bool = False) -> bytes:
    """A PNG file.

    Args:
        pixels: (height, width, channels), grey or red, green, blue.
        optimize: Take the time to make it small.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=optimize)
    return buffer.getvalue()


def _stretch(image: Image.Image, height: int, width: int, channels: int) -> Prepared:
    """Transparency on white, colour or grey, then the size, with no regard for the aspect."""
    image, applied = _flatten(image, channels)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        applied += (f"resized to {width}x{height}",)
    return image, applied


def _fashion_mnist(image: Image.Image, height: int, width: int, channels: int) -> Prepared:
    """The procedure that the Fashion-MNIST paper gives for its own pictures (Xiao et al. 2017, section 2).

    Trim edges close to the corner pixels' colour, longest edge to 28, centre on the canvas, negate, grey. Two
    deviations, so that other pictures than the paper's photographs work: negated only when the background is
    light (the model has seen clothes on black), and resampled smoothly instead of by skipping pixels with a
    sharpening afterwards.
    """
    image, applied = _flatten(image, channels)
    light = _background(image) > 127
    box = _content_box(image)
    if box is not None and box != (0, 0, *image.size):
        image = image.crop(box)
        applied += ("trimmed",)
    scale = min(width / image.width, height / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
        applied += (f"longest edge to {max(size)}",)
    if image.size != (width, height):
        border = 255 if light else 0
        canvas = Image.new(image.mode, (width, height), color=border if channels == 1 else (border,) * 3)
        canvas.paste(image, ((width - image.width) // 2, (height - image.height) // 2))
        image = canvas
        applied += ("centred",)
    if light:
        image = Image.eval(image, lambda pixel: 255 - pixel)
        applied += ("negated",)
    return image, applied


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The picture in strips of whole rows from top to bottom, each with the row in which it begins."""
    rows = max(1, _STRIP_PIXELS // image.width)
    if rows >= image.height:
        yield 0, image
        return
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def _flatten(image: Image.Image, channels: int) -> Prepared:
    """Grey or RGB with 8 bits, transparency laid on white."""
    applied: tuple[str, ...] = ()
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image, applied
    flat = Image.new(mode, image.size)
    for top, strip in _strips(image):
        flattened, applied = _flatten_strip(strip, mode)
        flat.paste(flattened, (0, top))
    return flat, applied


def _flatten_strip(image: Image.Image, mode: str) -> Prepared:
    applied: tuple[str, ...] = ()
    if image.mode in ("I", "I;16", "I;16B", "I;16L", "F"):
        # 16-bit grey: Pillow would clip it to white instead of scaling it.
        values = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(np.clip(values / 257, 0, 255).round().astype(np.uint8), "L")
        applied += ("16 bits to 8",)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
        applied += ("transparency on white",)
    if image.mode != mode:
        image = image.convert(mode)
        applied += ("grey" if mode == "L" else "colour",)
    return image, applied


def _content_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Bounding box of what differs from the corner pixel, or None for a picture of one colour."""
    corner = np.asarray(image.crop((0, 0, 1, 1)), dtype=np.int16).reshape(-1)
    differs = np.abs(np.arange(256) - corner[:, np.newaxis]) > 255 * _TRIM_TOLERANCE
    table = (255 * differs).ravel().tolist()
    found = None
    for top, strip in _strips(image):
        box = strip.point(table).getbbox()
        if box is None:
            continue
        left, first, right, last = box
        if found is not None:
            left, first, right = min(left, found[0]), found[1] - top, max(right, found[2])
        found = (left, top + first, right, top + last)
    return found


def _background(image: Image.Image) -> float:
    """Median brightness of the border, 0 to 255."""
    width, height = image.size
    edges = ((0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height))
    border = np.concatenate([np.asarray(image.crop(edge).convert("L")).ravel() for edge in edges])
    return float(np.median(border))


PREPARATIONS: MappingProxyType[str, Preparation] = MappingProxyType(
    {"fashion_mnist_v1": _fashion_mnist, "stretch_v1": _stretch}
)
