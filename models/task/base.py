"""What every kind of task shares: shapes, and the checks on an array that arrives as an array (npy, tensors)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from models.errors import InputError, shorten


class BaseTask(BaseModel, ABC):
    """Schema of one model's input and output; immutable, stored in the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dtype: ClassVar[str]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input row, without the batch axis."""

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one output row (float32), without the batch axis."""

    @abstractmethod
    def parse(self, instances: Sequence[Any]) -> NDArray[Any]:
        """Rows from parsed JSON values, one an instance.

        Args:
            instances: At least one value, each as the task's own documentation says.

        Returns:
            Array of `dtype`, shape ``(len(instances), *input_shape)``.

        Raises:
            InputError: A value breaks the schema; its field starts with ``instances[i]``.
        """

    @abstractmethod
    def accept(self, array: NDArray[Any]) -> NDArray[Any]:
        """Rows from an array, one row or a batch of them, checked as strictly as `parse` checks values.

        Raises:
            InputError: Wrong shape, dtype or range; its field starts with ``array``.
        """

    @abstractmethod
    def answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """What one output row says, in JSON types and numpy scalars.

        Args:
            output: float32, shape `output_shape`.
        """

    def batched(self, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """``array`` with a batch axis, after checking it against one row's ``shape``.

        Raises:
            InputError: Neither one row nor a batch of at least one.
        """
        if array.shape == shape:
            array = array[np.newaxis]
        if array.shape[1:] != shape or array.shape[0] == 0:
            wanted = ", ".join(map(str, shape))
            raise InputError(
                "array",
                f"shape must be ({wanted}) for one row or (n, {wanted}) for n rows",
                f"shape {array.shape}",
                "Reshape the array before sending it.",
            )
        return array


def require_list(value: Any, field: str, what: str) -> list[Any]:
    """``value`` when it is a list.

    Raises:
        InputError: It is something else.
    """
    if not isinstance(value, list):
        raise InputError(field, f"must be {what}", shorten(value), f"Send {what}.")
    return value
