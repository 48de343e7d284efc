"""Records in, a value with its interval out."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.task.records import Records


class TabularRegression(Records):
    """One record a row; one value with an interval.

    Attributes:
        unit: Unit of the value.
        coverage: Share of true values that the interval is meant to hold, 0 to 1.
    """

    kind: Literal["tabular_regression"] = "tabular_regression"
    unit: str
    coverage: float = Field(default=0.8, gt=0, lt=1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(3,)``: value, low, high."""
        return (3,)

    def answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """``value``, ``unit``, ``low`` and ``high``."""
        value, low, high = output
        return {"value": value, "unit": self.unit, "low": low, "high": high}
