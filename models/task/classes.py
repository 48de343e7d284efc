"""What every classification shares: labels, and the answer that a row of probabilities gives."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.task.base import BaseTask


class Classes(BaseTask):
    """One probability a class.

    Attributes:
        labels: Class names, in the order of the output.
    """

    labels: tuple[str, ...] = Field(min_length=2)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(classes,)``: probabilities that sum to 1."""
        return (len(self.labels),)

    def answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """``label``, ``class_id``, ``confidence`` and ``probabilities`` by label, in class order."""
        best = int(output.argmax())
        return {
            "label": self.labels[best],
            "class_id": best,
            "confidence": output[best],
            "probabilities": dict(zip(self.labels, output, strict=True)),
        }
