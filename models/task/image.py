"""Pictures in, class probabilities out."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from models.errors import InputError, shorten
from models.pictures import PREPARATIONS
from models.task.base import require_list
from models.task.classes import Classes


class ImageClassification(Classes):
    """One picture a row, one probability a class.

    Attributes:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: 1 (grey) or 3 (red, green, blue).
        preparation: Name in `models.pictures` of the procedure for pictures of another size or colour.
    """

    kind: Literal["image_classification"] = "image_classification"
    height: int = Field(ge=1, le=4096)
    width: int = Field(ge=1, le=4096)
    channels: Literal[1, 3]
    preparation: str

    dtype: ClassVar[str] = "uint8"

    @field_validator("preparation")
    @classmethod
    def _known_preparation(cls, name: str) -> str:
        if name not in PREPARATIONS:
            raise ValueError(f"preparation must be one of {', '.join(PREPARATIONS)}, received {name!r}")
        return name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(height, width, channels)``, uint8, 0 to 255."""
        return (self.height, self.width, self.channels)

    def parse(self, instances: Sequence[Any]) -> NDArray[np.uint8]:
        """Rows from nested lists of whole numbers 0 to 255: ``[height][width]`` or ``[height][width][channels]``."""
        try:
            return self._parse_whole_numbers(instances)
        except (TypeError, ValueError):
            # Rare: floats, an extra axis, or something wrong that deserves an exact message.
            return np.stack([self._parse_one(value, f"instances[{i}]") for i, value in enumerate(instances)])

    def _parse_whole_numbers(self, instances: Sequence[Any]) -> NDArray[np.uint8]:
        """The usual case, about twice as fast as `numpy.array`: bytes() itself checks type and range."""
        if self.channels != 1:
            raise ValueError
        lines = [self.width] * self.height
        for image in instances:
            if list(map(len, image)) != lines:
                raise ValueError
        pixels = b"".join([bytes(line) for image in instances for line in image])
        return np.frombuffer(pixels, np.uint8).reshape(len(instances), *self.input_shape)

    def _parse_one(self, value: Any, field: str) -> NDArray[np.uint8]:
        """One picture, slowly, with the path of what is wrong."""
        lines = require_list(value, field, f"a picture as {self.height} lists of {self.width} pixels")
        self._require_length(lines, self.height, field, "lines")
        for i, line in enumerate(lines):
            self._require_length(require_list(line, f"{field}[{i}]", "a list of pixels"), self.width, f"{field}[{i}]")
            for j, pixel in enumerate(line):
                values = pixel if isinstance(pixel, list) else [pixel]
                self._require_length(values, self.channels, f"{field}[{i}][{j}]", "channels")
                for channel in values:
                    if isinstance(channel, bool) or not isinstance(channel, int | float):
                        raise InputError(
                            f"{field}[{i}][{j}]",
                            "a pixel is a number from 0 to 255",
                            shorten(channel),
                            "Send a number.",
                        )
        try:
            array = np.array(lines, dtype=np.float64).reshape(self.input_shape)
        except (ValueError, OverflowError):
            raise InputError(field, "every pixel has the same form", "a mixture", f"Use {self._form}.") from None
        return self._check_pixels(array, field, axes=3 if isinstance(lines[0][0], list) else 2)

    def accept(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Rows from ``(height, width)``, ``(n, height, width)`` or the same with a channel axis, 0 to 255."""
        if array.dtype.kind not in "uif":
            raise InputError("array", "dtype must be numeric, best uint8", str(array.dtype), "Convert it to uint8.")
        if self.channels == 1 and array.shape[-2:] == self.input_shape[:2]:
            array = array[..., np.newaxis]
        array = self.batched(array, self.input_shape)
        if array.dtype == np.uint8:
            return array
        return self._check_pixels(array, "array", axes=4)

    def _check_pixels(self, array: NDArray[Any], field: str, axes: int) -> NDArray[np.uint8]:
        """``array`` as uint8 when every value is a whole number from 0 to 255."""
        # Cast back and compare: catches fractions, NaN and what is out of range in one pass.
        with np.errstate(invalid="ignore"):
            pixels = array.astype(np.uint8)
        if (pixels == array).all():
            if array.dtype.kind == "f" and field == "array" and 0 < array.max() <= 1:
                raise self._looks_scaled(field)
            return pixels
        if np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1:
            raise self._looks_scaled(field)
        index = np.argwhere(pixels != array)[0]
        path = "".join(f"[{i}]" for i in index[:axes])
        raise InputError(
            field + path,
            "a pixel is a whole number from 0 to 255",
            shorten(array[tuple(index)].item()),
            "Round and clip the pixels, or send the picture itself as PNG or JPEG.",
        )

    def _looks_scaled(self, field: str) -> InputError:
        return InputError(
            field,
            "pixels are whole numbers from 0 to 255",
            "values between 0 and 1, so the picture looks scaled already",
            "Send the raw pixels: scaling happens inside the model.",
        )

    @property
    def _form(self) -> str:
        return f"{self.height} lists of {self.width} pixels"

    def _require_length(self, value: list[Any], length: int, field: str, what: str = "pixels") -> None:
        if len(value) != length:
            raise InputError(field, f"must hold {length} {what}", f"{len(value)} {what}", f"Use {self._form}.")
