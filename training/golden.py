"""Rows that every copy of a model must answer alike, extremes included, and the example that its schema shows."""

from __future__ import annotations

import base64
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from models.pictures import png
from models.task import Category, ImageClassification, Records, Sequences

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.task import Task
    from training.split import Part

ROWS = 256

_ABSENT = 0.2
"""Share of the made-up values that are missing, where they may be."""


def golden_rows(task: Task, held_out: Part, *, synthetic: bool, seed: int) -> NDArray[Any]:
    """At least `ROWS` rows in the task's dtype.

    Args:
        task: Of the model.
        held_out: Rows to choose from.
        synthetic: Take none of them: the licence forbids it. Sequences are made up in any case.
        seed: Of the choice.
    """
    rng = np.random.default_rng([seed, 256])
    if isinstance(task, Sequences):
        return _sequences(task, rng)
    extremes: NDArray[Any]
    made_up: NDArray[Any]
    if isinstance(task, Records):
        extremes = _table_extremes(task)
        made_up = _records(task, rng, ROWS)
    else:
        extremes = _picture_extremes(task)
        made_up = rng.integers(0, 256, (ROWS, *task.input_shape), dtype=np.uint8)
    chosen = made_up[:0] if synthetic else held_out.rows[rng.permutation(len(held_out))[: ROWS - len(extremes)]]
    return np.concatenate([extremes, chosen, made_up[: max(0, ROWS - len(extremes) - len(chosen))]])


def example(task: Task, held_out: Part, *, synthetic: bool) -> Any:
    """One instance as a client would send it."""
    if isinstance(task, Sequences):
        row = _daily(task, base=0.35)
        steps = np.round(row.astype(np.float64), 2)
        return steps[:, 0].tolist() if row.shape[1] == 1 else steps.tolist()
    if isinstance(task, Records):
        return task.record(_middle(task, held_out.rows) if synthetic else held_out.rows[0])
    picture = _picture_extremes(task)[-1] if synthetic else _typical(held_out)
    return {"b64": base64.b64encode(png(picture, optimize=True)).decode()}


def _typical(held_out: Part) -> NDArray[np.uint8]:
    """The picture nearest to its class's mean, of the class with the highest number: one that a person recognises."""
    of_class = held_out.rows[held_out.values == held_out.values.max()]
    distance = np.square(of_class - of_class.mean(axis=0)).sum(axis=(1, 2, 3))
    chosen: NDArray[np.uint8] = of_class[distance.argmin()]
    return chosen


def _middle(task: Records, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each number's median, rounded to three digits, and each commonest category: no record of anyone."""
    columns = []
    for index, field in enumerate(task.fields):
        values = rows[:, index][~np.isnan(rows[:, index])]
        if isinstance(field, Category):
            columns.append(float(np.bincount(values.astype(int), minlength=1).argmax()))
        else:
            middle = float(np.median(values)) if len(values) else (field.low + field.high) / 2
            columns.append(min(max(float(f"{middle:.3g}"), field.low), field.high))
    return np.array(columns, np.float32)


def _picture_extremes(task: ImageClassification) -> NDArray[np.uint8]:
    black = np.zeros(task.input_shape, np.uint8)
    board, corner = black.copy(), black.copy()
    board[::2, ::2] = board[1::2, 1::2] = 255
    corner[0, 0] = 255
    ramp = np.broadcast_to(np.linspace(0, 255, task.width).astype(np.uint8)[:, None], task.input_shape)
    return np.stack([black, black + 255, board, corner, ramp])


def _table_extremes(task: Records) -> NDArray[np.float32]:
    """Each field at both ends with the others in the middle of their range, all at one end, and each one missing."""
    ends = [_ends(field) for field in task.fields]
    middle = np.array([0 if isinstance(f, Category) else (f.low + f.high) / 2 for f in task.fields], np.float32)
    rows = [np.array([low for low, _ in ends], np.float32), np.array([high for _, high in ends], np.float32)]
    for index, side in product(range(len(ends)), (0, 1)):
        row = middle.copy()
        row[index] = ends[index][side]
        rows.append(row)
    optional = [index for index, field in enumerate(task.fields) if field.missing]
    for absent in [*([index] for index in optional), optional] if optional else []:
        row = middle.copy()
        row[absent] = np.nan
        rows.append(row)
    return np.stack(rows)


def _records(task: Records, rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    columns = [
        rng.integers(0, len(f.values), count) if isinstance(f, Category) else rng.uniform(f.low, f.high, count)
        for f in task.fields
    ]
    rows = np.stack(columns, axis=1).astype(np.float32)
    for index, field in enumerate(task.fields):
        if field.missing:
            rows[rng.random(count) < _ABSENT, index] = np.nan
    return rows


def _ends(field: Any) -> tuple[float, float]:
    return (0.0, len(field.values) - 1.0) if isinstance(field, Category) else (field.low, field.high)


def _sequences(task: Sequences, rng: np.random.Generator) -> NDArray[np.float32]:
    """Constants and steps at the range's ends, then daily cycles and random walks of all levels."""
    shape = (task.lookback, len(task.channels))
    low, high = (np.array([getattr(c, end) for c in task.channels], np.float32) for end in ("low", "high"))
    rising = np.linspace(0, 1, task.lookback, dtype=np.float32)[:, None]
    half = (rising > 0.5).astype(np.float32)
    shares = [rising * 0, rising * 0 + 1, rising, 1 - rising, half, 1 - half, rising * 0 + 0.5]
    rows = [low + (high - low) * share for share in shares]
    while len(rows) < ROWS:
        walk = np.cumsum(rng.normal(0, rng.uniform(0.1, 1), shape), axis=0)
        rows.append(np.clip(_daily(task, base=rng.uniform(0.2, 0.5)) + walk, low, high))
    return np.stack(rows).astype(np.float32)


def _daily(task: Sequences, *, base: float) -> NDArray[np.float32]:
    """A daily cycle of 2.5 % of the range at a level of `base` of it; made up."""
    hours = np.arange(task.lookback)[:, None]
    low, high = (np.array([getattr(c, end) for c in task.channels]) for end in ("low", "high"))
    cycle = 0.025 * np.sin(2 * np.pi * (hours - 9) / 24) + 0.005 * np.sin(2 * np.pi * hours / 12)
    level: NDArray[np.float32] = (low + (high - low) * (base + cycle)).astype(np.float32)
    return level
