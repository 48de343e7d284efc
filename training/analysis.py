"""A first look at data as it was read, before anything is changed or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from training.datasets import Raw

_VALUES = 12


def analyse(raw: Raw) -> list[str]:
    """One line on the size, one on the pictures, and one a column: kind, blanks, range or commonest values."""
    table = raw.table
    lines = [f"{len(table):,} rows, {table.shape[1]} columns, {int(table.duplicated().sum()):,} of them repeated rows"]
    if raw.pictures is not None:
        shape = " x ".join(str(size) for size in raw.pictures.shape[1:])
        lines = [f"{len(table):,} pictures, {shape}, {raw.pictures.dtype}, mean pixel {raw.pictures.mean():.1f}"]
    for name in table.columns:
        column = table[name]
        blanks = int(column.isna().sum())
        empty = f", {blanks} blank" if blanks else ""
        if np.issubdtype(getattr(column.dtype, "type", object), np.number) and column.nunique() > _VALUES:
            lines.append(f"{name}: {column.min():g} to {column.max():g}, mean {column.mean():.4g}{empty}")
        else:
            common = column.value_counts()
            shown = ", ".join(f"{value} x {count:,}" for value, count in common.sort_index().head(_VALUES).items())
            lines.append(f"{name}: {shown if len(common) <= _VALUES else f'{len(common):,} values'}{empty}")
    return lines
