"""Stretches of a series: what every task on sequences shares, from parsed values to rows."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.errors import InputError, shorten
from models.task.base import BaseTask, require_list
from models.task.fields import Number


class Sequences(BaseTask):
    """One stretch of ``lookback`` steps a row.

    Attributes:
        channels: The series that go in; the last step is the most recent.
        lookback: Steps that the model looks at.
        step: Time between two steps, an ISO 8601 duration such as ``PT1H``.
    """

    channels: tuple[Number, ...] = Field(min_length=1)
    lookback: int = Field(ge=1)
    step: str

    dtype: ClassVar[str] = "float32"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(lookback, channels)``, float32, raw units."""
        return (self.lookback, len(self.channels))

    def parse(self, instances: Sequence[Any]) -> NDArray[np.float32]:
        """Rows from lists of at least ``lookback`` steps, of which the most recent count.

        A step is a number, or a list with one number a channel.
        """
        return np.stack([self._parse_one(value, f"instances[{i}]") for i, value in enumerate(instances)])

    def _parse_one(self, value: Any, path: str) -> NDArray[np.float32]:
        steps = require_list(value, path, f"a list of at least {self.lookback} steps")
        self._require_length(len(steps), path)
        first = len(steps) - self.lookback
        steps = steps[first:]
        if len(self.channels) == 1 and set(map(type, steps)) <= {int, float}:
            channel = self.channels[0]
            # The sum, because min and max lose a NaN that is not the first.
            if channel.low <= min(steps) and max(steps) <= channel.high and not math.isnan(sum(steps)):
                return np.array(steps, dtype=np.float32).reshape(self.input_shape)
        return np.array([self._step(step, f"{path}[{first + i}]") for i, step in enumerate(steps)], dtype=np.float32)

    def _step(self, step: Any, path: str) -> list[float]:
        """One step, slowly, with the path of what is wrong."""
        if not isinstance(step, list):
            if len(self.channels) == 1:
                return [self.channels[0].code(step, path)]
            names = ", ".join(channel.name for channel in self.channels)
            raise InputError(path, f"must be a list of {names}", shorten(step), "Send one number a channel.")
        if len(step) != len(self.channels):
            names = ", ".join(channel.name for channel in self.channels)
            raise InputError(path, f"must hold {names}", f"{len(step)} values", "Send one number a channel.")
        return [
            channel.code(item, f"{path}[{i}]")
            for i, (channel, item) in enumerate(zip(self.channels, step, strict=True))
        ]

    def _require_length(self, length: int, path: str) -> None:
        if length < self.lookback:
            raise InputError(
                path,
                f"must hold at least {self.lookback} steps of {self.step}, oldest first",
                f"{length} steps",
                "Send a longer stretch; of more steps the most recent count.",
            )

    def accept(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Rows from ``(steps,)``, ``(n, steps)`` (one channel), or ``(n, steps, channels)``, steps >= lookback."""
        if array.dtype.kind not in "uif":
            raise InputError("array", "dtype must be numeric, best float32", str(array.dtype), "Convert it to float32.")
        channels = len(self.channels)
        if channels == 1 and (array.ndim == 1 or (array.ndim == 2 and array.shape[1] != 1)):
            array = array[..., np.newaxis]
        first = 0
        if array.ndim in (2, 3):
            self._require_length(array.shape[-2], "array")
            first = array.shape[-2] - self.lookback
            array = array[..., first:, :]
        array = self.batched(array, self.input_shape)
        for i, channel in enumerate(self.channels):
            values = array[:, :, i]
            good = (values >= channel.low) & (values <= channel.high)
            if not good.all():
                row, step = np.argwhere(~good)[0]
                channel.code(values[row, step].item(), f"array[{row}][{first + step}][{i}]")
        return array.astype(np.float32, copy=False)
