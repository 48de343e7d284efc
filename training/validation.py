"""Refuse broken data by column and row, before training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from training.datasets import DataError, Raw

if TYPE_CHECKING:
    import pandas as pd
    import pandera.pandas as pa

_SHOWN = 5


def validate(raw: Raw, schema: pa.DataFrameSchema) -> Raw:
    """Check a table against its schema, and the pictures beside it.

    Args:
        raw: Engineered data.
        schema: What its table must be.

    Returns:
        The same with the schema's dtypes.

    Raises:
        DataError: Names the first failures: column, row (counted from 0, header left out), rule, what was received.
    """
    import pandera.errors

    pictures = raw.pictures
    if pictures is not None and (pictures.dtype != np.uint8 or len(pictures) != len(raw.table)):
        raise DataError(
            f"pictures must be uint8, one a label ({len(raw.table)}). Received: {pictures.dtype}, {len(pictures)}"
        )
    try:
        return Raw(schema.validate(raw.table, lazy=True), pictures)
    except pandera.errors.SchemaErrors as error:
        failures = _distinct(error.failure_cases)
        shown = "; ".join(failures[:_SHOWN])
        more = f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else ""
        raise DataError(f"broken data, nothing was trained: {shown}{more}. Correct or remove these rows.") from None


def _distinct(cases: pd.DataFrame) -> list[str]:
    """One line a broken cell; one that cannot be converted fails further checks that say nothing new."""
    lines: dict[tuple[str, str], str] = {}
    for case in cases.itertuples():
        check, row = str(case.check), case.index
        if check == "column_in_dataframe":
            lines[str(case.failure_case), ""] = f"column {case.failure_case} is missing"
            continue
        if str(case.failure_case).startswith("TypeError("):
            # The check could not run on what is no number; the cell itself is named by the conversion.
            continue
        where = f"column {case.column}" + ("" if _blank(row) else f", row {row:.0f}")
        rule = "must not be empty" if check == "not_nullable" else f"must be {_plain(check)}"
        received = "" if check == "not_nullable" else f", received {case.failure_case!r}"
        lines.setdefault((str(case.column), str(row)), f"{where} {rule}{received}")
    return list(lines.values())


def _blank(row: Any) -> bool:
    return row is None or math.isnan(row)


def _plain(check: str) -> str:
    """A check's name as a phrase: `in_range(0, 9)` is "in range 0, 9"."""
    name, _, arguments = check.partition("(")
    phrases = {"coerce_dtype": "convertible to", "in_range": "in range", "isin": "one of"}
    return f"{phrases.get(name, name)} {arguments.strip('()')}".strip()
