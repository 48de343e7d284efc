"""The columns of a table and the channels of a series: what values they accept, and the numbers these become."""

import math
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from models.errors import InputError, shorten

BLANKS = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "?")
"""Texts that stand for a missing value in a CSV file."""


class _Field(BaseModel):
    """What a number and a category share.

    Attributes:
        missing: Whether the value may be missing: null or absent in JSON, NaN in arrays and in the row. The model
            decides what that means.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leaves `missing` out where it is false: manifests written before it existed keep their digest."""
        document: dict[str, Any] = handler(self)
        if not self.missing:
            document.pop("missing", None)
        return document


class Number(_Field):
    """A numeric field.

    Attributes:
        name: As in the data set.
        unit: Physical unit; null where there is none.
        low: Smallest accepted value: what is physically plausible, wider than the training data.
        high: Largest accepted value.
        description: One line for a person.
    """

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
        """``value`` itself, after its type and range have been checked; NaN for None where it may be missing.

        Raises:
            InputError: Not a number, not finite, or out of range.
        """
        # `type` rather than isinstance: true is an int to Python, but no number to the sender.
        if type(value) in (int, float) and self.low <= value <= self.high:
            return value  # type: ignore[no-any-return]
        if value is None and self.missing:
            return math.nan
        unit = f" {self.unit}" if self.unit else ""
        raise InputError(
            field,
            f"must be a number from {self.low:g} to {self.high:g}{unit}{' or null' if self.missing else ''}",
            shorten(value),
            "Check the value and its unit." if type(value) in (int, float) else "Send a JSON number.",
        )


class Category(_Field):
    """A field with a closed vocabulary; its code is the index in ``values``.

    Attributes:
        name: As in the data set.
        values: The accepted texts.
        description: One line for a person.
    """

    kind: Literal["category"] = "category"
    name: str
    values: tuple[str, ...] = Field(min_length=1)
    description: str = ""

    @cached_property
    def _codes(self) -> dict[str, float]:
        return {value: float(i) for i, value in enumerate(self.values)}

    def code(self, value: Any, field: str) -> float:
        """Index of ``value`` in the vocabulary; NaN for None where it may be missing.

        Raises:
            InputError: Not one of the values.
        """
        code = self._codes.get(value) if isinstance(value, str) else None
        if code is None and value is None and self.missing:
            return math.nan
        if code is None:
            known = ", ".join(f'"{v}"' for v in self.values[:20]) + (" or null" if self.missing else "")
            raise InputError(field, f"must be one of {known}", shorten(value), "Send one of these values.")
        return code
