"""Records in, a value with its interval out."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.errors import InputError, shorten
from models.task.base import BaseTask


class Number(BaseModel):
    """A numeric field.

    Attributes:
        name: As in the data set.
        unit: Physical unit, or None where there is none.
        low: Smallest accepted value: what is physically plausible, wider than the training data.
        high: Largest accepted value.
        description: One line for a person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["number"] = "number"
    name: str
    unit: str | None = None
    low: float
    high: float
    description: str = ""

    @model_validator(mode="after")
    def _ordered(self) -> "Number":
        if not self.low < self.high:
            raise ValueError(f"{self.name}: low must be below high, received {self.low} and {self.high}")
        return self

    def code(self, value: Any, field: str) -> float:
        """``value`` itself, after its type and range have been checked.

        Raises:
            InputError: Not a number, not finite, or out of range.
        """
        # `type` rather than isinstance: true is an int to Python, but no number to the sender.
        if type(value) in (int, float) and self.low <= value <= self.high:
            return value  # type: ignore[no-any-return]
        unit = f" {self.unit}" if self.unit else ""
        raise InputError(
            field,
            f"must be a number from {self.low:g} to {self.high:g}{unit}",
            shorten(value),
            "Check the value and its unit." if type(value) in (int, float) else "Send a JSON number.",
        )


class Category(BaseModel):
    """A field with a closed vocabulary; its code is the index in ``values``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["category"] = "category"
    name: str
    values: tuple[str, ...] = Field(min_length=1)
    description: str = ""

    @cached_property
    def _codes(self) -> dict[str, float]:
        return {value: float(i) for i, value in enumerate(self.values)}

    def code(self, value: Any, field: str) -> float:
        """Index of ``value`` in the vocabulary.

        Raises:
            InputError: Not one of the values.
        """
        code = self._codes.get(value) if isinstance(value, str) else None
        if code is None:
            known = ", ".join(f'"{v}"' for v in self.values[:20])
            raise InputError(field, f"must be one of {known}", shorten(value), "Send one of these values.")
        return code


class TabularRegression(BaseTask):
    """One record a row; one value with an interval.

    Attributes:
        fields: The columns, in the order of the row.
        target: Name of what is predicted.
        unit: Unit of the value.
        coverage: Share of true values that the interval is meant to hold, 0 to 1.
    """

    kind: Literal["tabular_regression"] = "tabular_regression"
    fields: tuple[Annotated[Number | Category, Field(discriminator="kind")], ...] = Field(min_length=1)
    target: str
    unit: str
    coverage: float = Field(default=0.8, gt=0, lt=1)

    dtype: ClassVar[str] = "float32"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(fields,)``, float32, raw units and category codes."""
        return (len(self.fields),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(3,)``: value, low, high."""
        return (3,)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names in the order of the row."""
        return tuple(field.name for field in self.fields)

    def parse(self, instances: Sequence[Any]) -> NDArray[np.float32]:
        """Rows from objects with every field, or from lists in the order of the fields."""
        rows = [self._parse_one(value, f"instances[{i}]") for i, value in enumerate(instances)]
        return np.array(rows, dtype=np.float32)

    def _parse_one(self, value: Any, path: str) -> list[float]:
        if isinstance(value, dict):
            if len(value) != len(self.fields) or not all(name in value for name in self.names):
                raise self._wrong_members(value, path)
            return [field.code(value[field.name], f"{path}.{field.name}") for field in self.fields]
        if isinstance(value, list):
            if len(value) != len(self.fields):
                raise InputError(
                    path,
                    f"must hold {len(self.fields)} values: {', '.join(self.names)}",
                    f"{len(value)} values",
                    "Send every field in this order, or an object with the field names.",
                )
            return [
                field.code(item, f"{path}[{i}]") for i, (field, item) in enumerate(zip(self.fields, value, strict=True))
            ]
        raise InputError(
            path, "must be a record", shorten(value), f"Send an object with the fields {', '.join(self.names)}."
        )

    def _wrong_members(self, value: dict[str, Any], path: str) -> InputError:
        """The first unknown member, else the first missing one."""
        names = ", ".join(self.names)
        for member in value:
            if member not in self.names:
                close = get_close_matches(member, self.names, n=1)
                remedy = f'Did you mean "{close[0]}"?' if close else "Leave it out."
                return InputError(f"{path}.{shorten(member)[1:-1]}", f"fields are {names}", "an unknown field", remedy)
        missing = next(name for name in self.names if name not in value)
        return InputError(f"{path}.{missing}", "is required", "nothing", f"Send every field: {names}.")

    def accept(self, array: NDArray[Any]) -> NDArray[np.float32]:
        """Rows from a numeric array in the order of the fields, categories as their index."""
        if array.dtype.kind not in "uif":
            raise InputError("array", "dtype must be numeric, best float32", str(array.dtype), "Convert it to float32.")
        array = self.batched(array, self.input_shape)
        for column, field in enumerate(self.fields):
            values = array[:, column]
            if isinstance(field, Category):
                good = (values >= 0) & (values < len(field.values)) & (values == np.floor(values))
                rule = f"{field.name} is an index from 0 to {len(field.values) - 1}"
            else:
                good = (values >= field.low) & (values <= field.high)
                rule = f"{field.name} is a number from {field.low:g} to {field.high:g}"
            if not good.all():
                row = int(np.argmin(good))
                raise InputError(
                    f"array[{row}][{column}]",
                    rule,
                    shorten(values[row].item()),
                    "Check the value, its unit and the order of the columns.",
                )
        return array.astype(np.float32, copy=False)

    def answer(self, output: NDArray[np.float32]) -> dict[str, Any]:
        """``value``, ``unit``, ``low`` and ``high``."""
        value, low, high = output
        return {"value": value, "unit": self.unit, "low": low, "high": high}

    def record(self, row: NDArray[np.float32]) -> dict[str, float | str]:
        """A row as the record that a client would send."""
        record: dict[str, float | str] = {}
        for field, code in zip(self.fields, row.tolist(), strict=True):
            if isinstance(field, Category):
                record[field.name] = field.values[int(code)]
            else:
                record[field.name] = int(code) if math.isfinite(code) and code == int(code) else code
        return record
