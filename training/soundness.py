"""Data whose figures would mean nothing: constant columns, a copy of the target, test rows seen in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import Classes, Records, SequenceClassification, SequenceForecast
from training.datasets import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.task import Task
    from training.split import Part, Split

LEAK = 0.9999
"""Correlation with the target, either sign, from which a column counts as a copy of it."""

SEEN = 0.2
"""Largest share of test rows that may be in the training rows too."""


def refuse_unsound(task: Task, split: Split) -> None:
    """Refuse data on which a figure would mean nothing.

    Raises:
        DataError: Names each column or share, the rule and the remedy.
    """
    if found := problems(task, split):
        raise DataError(f"the figures would mean nothing, nothing was trained: {'; '.join(found)}.")


def problems(task: Task, split: Split) -> list[str]:
    """What is wrong, one phrase each, with the remedy; nothing for sound data."""
    found = []
    if isinstance(task, Records):
        for index, field in enumerate(task.fields):
            column = split.train.rows[:, index]
            present = column[~np.isnan(column)]
            if len(np.unique(present)) < 2 and len(present) == len(column):
                found.append(f"column {field.name} has one value in all training rows, leave it out (--ignore)")
            elif _tells(task, column, split.train.values):
                found.append(f"column {field.name} is the target in another form, leave it out (--ignore)")
    elif isinstance(task, SequenceForecast) and np.ptp(split.train.values) == 0:
        found.append(f"the series {task.target} never changes in the training rows, forecast another one (--column)")
    elif isinstance(task, SequenceClassification):
        for index, channel in enumerate(task.channels):
            if _tells(task, split.train.rows[:, -1, index], split.train.values):
                found.append(f"column {channel.name} is the label in another form, leave it out (--column)")
    if not isinstance(task, SequenceForecast) and (share := seen(split)) > SEEN:
        found.append(
            f"{share:.0%} of the test rows are training rows too (at most {SEEN:.0%} may be), remove the repeated rows"
        )
    return found


def seen(split: Split) -> float:
    """Share of test rows that are, with their truth, among the training and validation rows byte for byte."""
    known = _fingerprints(split.train) | _fingerprints(split.validation)
    return float(np.mean([row in known for row in _each(split.test)])) if len(split.test) else 0.0


def _fingerprints(part: Part) -> set[bytes]:
    return set(_each(part))


def _each(part: Part) -> list[bytes]:
    values = np.ascontiguousarray(part.values)
    return [row.tobytes() + value.tobytes() for row, value in zip(part.rows, values, strict=True)]


def _tells(task: Task, column: NDArray[Any], values: NDArray[Any]) -> bool:
    """Whether a column is the target: one value a class, or a straight line to the number."""
    present = ~np.isnan(column)
    column, values = column[present], values[present]
    if len(column) < 2:
        return False
    if isinstance(task, Classes):
        pairs = len(np.unique(np.stack([column, values.astype(np.float64)], axis=1), axis=0))
        return bool(pairs == len(np.unique(column)) == len(np.unique(values)))
    if np.ptp(column) == 0 or np.ptp(values) == 0:
        return False
    return bool(abs(np.corrcoef(column.astype(np.float64), values.astype(np.float64))[0, 1]) > LEAK)
