"""Records: what every task on a table shares, from parsed values to rows and back."""

import math
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.errors import InputError, shorten
from models.task.base import BaseTask
from models.task.fields import Category, Number


class Records(BaseTask):
    """One record a row.

    Attributes:
        fields: The columns, in the order of the row.
        target: Name of what is predicted.
    """

    fields: tuple[Annotated[Number | Category, Field(discriminator="kind")], ...] = Field(min_length=1)
    target: str

    dtype: ClassVar[str] = "float32"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """``(fields,)``, float32, raw units and category codes; NaN where a value is missing."""
        return (len(self.fields),)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Field names in the order of the row."""
        return tuple(field.name for field in self.fields)

    def parse(self, instances: Sequence[Any]) -> NDArray[np.float32]:
        """Rows from objects with every field that may not be missing, or from lists in the order of the fields."""
        rows = [self._parse_one(value, f"instances[{i}]") for i, value in enumerate(instances)]
        return np.array(rows, dtype=np.float32)

    def _parse_one(self, value: Any, path: str) -> list[float]:
        if isinstance(value, dict):
            if len(value) != len(self.fields) or not all(name in value for name in self.names):
                self._check_members(value, path)
                return [field.code(value.get(field.name), f"{path}.{field.name}") for field in self.fields]
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

    def _check_members(self, value: dict[str, Any], path: str) -> None:
        """Refuse the first unknown member, else the first absent one that may not be missing."""
        names = ", ".join(self.names)
        for member in value:
            if member not in self.names:
                close = get_close_matches(member, self.names, n=1)
                remedy = f'Did you mean "{close[0]}"?' if close else "Leave it out."
                raise InputError(f"{path}.{shorten(member)[1:-1]}", f"fields are {names}", "an unknown field", remedy)
        for field in self.fields:
            if not field.missing and field.name not in value:
                raise InputError(f"{path}.{field.name}", "is required", "nothing", f"Send every field: {names}.")

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
            if field.missing:
                good |= np.isnan(values)
                rule += " or NaN"
            if not good.all():
                row = int(np.argmin(good))
                raise InputError(
                    f"array[{row}][{column}]",
                    rule,
                    shorten(values[row].item()),
                    "Check the value, its unit and the order of the columns.",
                )
        return array.astype(np.float32, copy=False)

    def record(self, row: NDArray[np.float32]) -> dict[str, float | str | None]:
        """A row as the record that a client would send."""
        record: dict[str, float | str | None] = {}
        for field, code in zip(self.fields, row.tolist(), strict=True):
            if math.isnan(code):
                record[field.name] = None
            elif isinstance(field, Category):
                record[field.name] = field.values[int(code)]
            else:
                record[field.name] = int(code) if math.isfinite(code) and code == int(code) else code
        return record
