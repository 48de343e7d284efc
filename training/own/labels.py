"""The classes that a column of labels holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.task import Classes
from training.datasets import DataError

if TYPE_CHECKING:
    import pandas as pd

    from models.task import Task

MOST = 100
"""Labels; a column with more is taken for something else."""


def labels_of(column: pd.Series, like: Task | None, *, remedy: str) -> dict[str, int]:
    """Label to its number of rows, in the order of the classes.

    That order is the one of the version that is to be replaced where it has the same labels; else numbers come by
    value, before texts by letter.

    Args:
        column: Texts, none missing.
        like: Task of the version that is to be replaced.
        remedy: What helps against a column that holds no classes.

    Raises:
        DataError: One label, or too many.
    """
    counts = {str(label): int(count) for label, count in column.value_counts().items()}
    if len(counts) < 2:
        only = next(iter(counts), "empty")
        raise DataError(f"{column.name} is always {only!r}: there is nothing to learn. {remedy}")
    if len(counts) > MOST:
        raise DataError(
            f"{column.name} has {len(counts)} different values, at most {MOST} classes are possible. {remedy}"
        )
    if isinstance(like, Classes) and set(like.labels) == set(counts):
        return {label: counts[label] for label in like.labels}
    return {label: counts[label] for label in sorted(counts, key=natural)}


def natural(text: str) -> tuple[bool, float, str]:
    """Numbers by their value, before texts by their letters."""
    try:
        return (False, float(text), text)
    except ValueError:
        return (True, 0.0, text)
