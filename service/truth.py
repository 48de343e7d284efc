"""What turned out to be true, beside what a model had said."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.errors import InputError, shorten
from models.task import Classes, SequenceForecast, Task

RIGHT, WRONG, INSIDE, OUTSIDE = "right", "wrong", "inside", "outside"


class Feedback(BaseModel):
    """What is told of one row of an answer.

    Attributes:
        request_id: Of the answer.
        row: Its place among the request's rows.
        label: The true class.
        value: The true value, in the model's unit; of a forecast one for each step.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    request_id: str = Field(min_length=1, max_length=64)
    row: int = Field(default=0, ge=0)
    label: str | None = Field(default=None, max_length=500)
    value: float | list[float] | None = None


@dataclass(frozen=True)
class Verdict:
    """How good one row of an answer was.

    Attributes:
        said: What the model had said: a label, a value, or a value a step.
        outcomes: right or wrong; of values, how many lay inside and outside of their intervals.
        error: Sum of absolute errors in the model's unit; None of classes.
    """

    said: Any
    outcomes: dict[str, int] = field(default_factory=dict)
    error: float | None = None

    def document(self) -> dict[str, Any]:
        """In JSON types."""
        found: dict[str, Any] = {"said": self.said, "outcomes": self.outcomes}
        if self.error is not None:
            found["mean_absolute_error"] = self.error / sum(self.outcomes.values())
        return found


def verdict(task: Task, output: NDArray[np.float32], told: Feedback) -> Verdict:
    """Compare one output row with the truth.

    Raises:
        InputError: The truth is not one that this model could have said.
    """
    if isinstance(task, Classes):
        if told.label not in task.labels or told.value is not None:
            known = ", ".join(f'"{label}"' for label in task.labels[:20])
            received = shorten(told.label) if told.label is not None else "no label"
            raise InputError(
                "label", f"must be one of {known}", received, "Send the true class as label, and no value."
            )
        best = task.labels[int(output.argmax())]
        return Verdict(best, {RIGHT if best == told.label else WRONG: 1})
    values, low, high = np.atleast_2d(output).T.astype(np.float64)
    truth = np.atleast_1d(np.array(told.value if told.value is not None else [], np.float64))
    if truth.shape != values.shape or told.label is not None:
        steps = f"{len(values)} numbers, one a step" if isinstance(task, SequenceForecast) else "one number"
        received = f"{len(truth)} numbers" if told.value is not None else "no value"
        raise InputError(
            "value", f"must be {steps}", received, "Send the true value in the model's unit, and no label."
        )
    inside = int(((truth >= low) & (truth <= high)).sum())
    outcomes = {name: count for name, count in ((INSIDE, inside), (OUTSIDE, len(truth) - inside)) if count}
    said = values.tolist() if isinstance(task, SequenceForecast) else float(values[0])
    return Verdict(said, outcomes, float(np.abs(truth - values).sum()))
