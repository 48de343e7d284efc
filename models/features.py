"""What is watched of rows and of answers: one number or code a row and feature, the same in training and service.

Pictures are watched by how bright they are and by where the brightness lies: turning a picture by 90 degrees changes
nothing about its pixels but their place.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.task import Category, Classes, ImageClassification, Records, Sequences, Task


@dataclass(frozen=True, eq=False)
class Feature:
    """One feature of n rows.

    Attributes:
        name: Of a field, a channel with what is taken of it, or a statistic of pictures.
        unit: Of the values, if any.
        values: (n,), or (n, many) where a row has many; in `unit`. A category's or label's index; NaN where missing.
        vocabulary: Of a category or of labels; empty for numbers.
        edges: Of the histogram's bins where they do not depend on the data.
        may_lack: Whether values may be missing.
    """

    name: str
    unit: str | None
    values: NDArray[Any]
    vocabulary: tuple[str, ...] = ()
    edges: NDArray[np.float64] | None = None
    may_lack: bool = False


def input_features(task: Task, rows: NDArray[Any]) -> list[Feature]:
    """Features of what goes in.

    Args:
        task: Of the model.
        rows: (n, ...), as the model takes them.
    """
    if isinstance(task, ImageClassification):
        return _picture(rows)
    if isinstance(task, Records):
        return [
            Feature(
                field.name,
                None if isinstance(field, Category) else field.unit,
                rows[:, index],
                field.values if isinstance(field, Category) else (),
                may_lack=field.missing,
            )
            for index, field in enumerate(task.fields)
        ]
    return _stretch(task, rows)


def output_features(task: Task, outputs: NDArray[np.float32]) -> list[Feature]:
    """Features of what the model says: the class mix and how sure it is, or the value and its interval's width.

    Args:
        task: Of the model.
        outputs: (n, *output_shape).
    """
    if isinstance(task, Classes):
        sure = outputs.max(axis=1)
        return [
            Feature("label", None, outputs.argmax(axis=1), task.labels),
            Feature("confidence", None, sure, edges=np.linspace(0, 1, 21)),
        ]
    return [
        Feature("value", task.unit, outputs[..., 0]),
        Feature("interval_width", task.unit, outputs[..., 2] - outputs[..., 1]),
    ]


def _picture(rows: NDArray[np.uint8]) -> list[Feature]:
    flat = rows.reshape(len(rows), -1)
    means = flat.mean(axis=1, dtype=np.float64)
    # Not `std`: it would make a float of every pixel, several times. Sums of whole numbers are exact.
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64, casting="unsafe") / flat.shape[1]
    centre_x, width = _spread_along(rows.sum(axis=(1, 3), dtype=np.float64))
    centre_y, height = _spread_along(rows.sum(axis=(2, 3), dtype=np.float64))
    return [
        Feature("pixel_intensity", None, flat, edges=np.linspace(0, 256, 17)),
        Feature("picture_mean", None, means),
        Feature("picture_spread", None, np.sqrt(np.maximum(squares - means**2, 0))),
        Feature("picture_centre_x", "px", centre_x),
        Feature("picture_centre_y", "px", centre_y),
        Feature("picture_width", "px", width),
        Feature("picture_height", "px", height),
    ]


def _spread_along(profile: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and standard deviation of brightness (n, pixels) along one axis; an all black picture is even."""
    places = np.arange(profile.shape[1])
    weights = np.where(profile.sum(axis=1, keepdims=True) > 0, profile, 1.0)
    weights = weights / weights.sum(axis=1, keepdims=True)
    centre = weights @ places
    return centre, np.sqrt(np.maximum(weights @ places**2 - centre**2, 0))


def _stretch(task: Sequences, rows: NDArray[np.float32]) -> list[Feature]:
    found = []
    for index, channel in enumerate(task.channels):
        series = rows[:, :, index]
        found += [
            Feature(f"{channel.name}_level", channel.unit, series.mean(axis=1)),
            Feature(f"{channel.name}_spread", channel.unit, series.std(axis=1)),
            Feature(f"{channel.name}_last", channel.unit, series[:, -1]),
        ]
    return found
