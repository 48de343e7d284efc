"""A recent stretch of a series in, its next steps with an interval out."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.task.sequences import Sequences


class SequenceForecast(Sequences):
    """One stretch a row; ``horizon`` steps with intervals out.

    Attributes:
        target: Name of the channel that is forecast.
        horizon: Steps that it forecasts.
        unit: Unit of the target.
        coverage: Share of true values that the interval is meant to hold, 0 to 1.
    """

    kind: Literal["sequence_forecast"] = "sequence_forecast"
    target: str
    horizon: int = Field(ge=1)
    unit: str
    coverage: float = Field(default=0.8, gt=0, lt=1)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(horizon, 3)``: value, low, high at each step."""
        return (self.horizon, 3)

    def answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """``forecast``, ``low`` and ``high``, one number a step, with ``unit`` and ``step``."""
        # Contiguous columns: orjson takes no strided array.
        value, low, high = np.ascontiguousarray(output.T)
        return {"forecast": value, "low": low, "high": high, "unit": self.unit, "step": self.step}
