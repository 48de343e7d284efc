"""What each part of a fitted model adds: the held-out figure again, with the part taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.task import Classes, SequenceForecast
from training.calibrate import cooled
from training.export import predict
from training.gate_statistics import lower, resampled, upper
from training.metrics import calibration_error, mean_squared

if TYPE_CHECKING:
    import keras

    from models import Facts
    from models.task import Task
    from training.split import Part

RELIABLE = 0.01
"""Least share of the squared error that recurrent layers must save: less changes with the seed."""
_BLOCKS = 10


def parts(task: Task, model: keras.Model, facts: Facts, held_out: Part) -> tuple[str, dict[str, float]]:
    """The figure's name, and its value for the whole model and without each part; nothing where no part can be taken.

    Args:
        task: Of the model.
        model: Calibrated; it is as before afterwards.
        facts: In its graph.
        held_out: Rows that its weights never saw.
    """
    if isinstance(task, Classes):
        whole = predict(model, held_out.rows)
        found = {"as it ships": calibration_error(whole, held_out.values)}
        if facts["temperature"] != 1:
            found["without its temperature"] = calibration_error(
                cooled(whole, 1 / facts["temperature"]), held_out.values
            )
        return "expected calibration error, validation rows", found
    if isinstance(task, SequenceForecast) and any(layer.name == "ridge" for layer in model.layers):
        target = [channel.name for channel in task.channels].index(task.target)
        last = held_out.rows[:, -1:, target].repeat(task.horizon, axis=1)
        found = {
            "as it ships": mean_squared(predict(model, held_out.rows)[..., 0], held_out.values),
            "recurrent branch zeroed (the ridge regression alone)": mean_squared(
                without_recurrence(model, held_out.rows)[..., 0], held_out.values
            ),
            "ridge regression zeroed too (repeat the last value)": mean_squared(last, held_out.values),
        }
        return f"mean squared error in {task.unit} squared, validation rows", found
    return "", {}


def recurrence(task: Task, model: keras.Model, held_out: Part) -> str:
    """What the recurrent layers beside a ridge regression change, in words for the top of a card; else empty.

    Windows overlap, so blocks of them are drawn again, each as long as two windows reach.

    Args:
        task: Of the model.
        model: Calibrated; it is as before afterwards.
        held_out: Windows that its weights never saw, of stride 1.
    """
    if not isinstance(task, SequenceForecast) or all(layer.name != "ridge" for layer in model.layers):
        return ""
    block = 2 * (task.lookback + task.horizon)
    answers = predict(model, held_out.rows), without_recurrence(model, held_out.rows)
    errors = np.stack([((answer[..., 0] - held_out.values) ** 2).mean(axis=1) for answer in answers], axis=1)
    gain = 1 - errors[:, 0].mean() / errors[:, 1].mean()
    measured = f"On {len(errors):,} validation windows they change its squared error by {-gain:+.1%}"
    if len(errors) < _BLOCKS * block:
        return (
            f"A ridge regression with recurrent networks beside it. {measured}; that is too few to tell "
            f"whether they improve it ({_BLOCKS * block:,} would be needed)."
        )
    drawn = resampled(errors, block=block)
    gains = 1 - drawn[:, 0] / drawn[:, 1]
    measured += f" (90 % interval {-upper(gains):+.1%} to {-lower(gains):+.1%}, blocks of windows drawn again)"
    if lower(gains) > RELIABLE:
        return f"A ridge regression with recurrent networks beside it, which improve it. {measured}."
    return (
        "**Its forecasts are those of a ridge regression.** Recurrent networks stand beside it, and add nothing to the "
        f"forecast that one could rely on. {measured}. What they add are the ends of the intervals."
    )


def without_recurrence(model: keras.Model, rows: np.ndarray) -> np.ndarray:
    """Output rows when what follows the recurrent layers says nothing; the model is as before afterwards."""
    import keras

    heads = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense) and layer.name != "ridge"]
    kept = [layer.get_weights() for layer in heads]
    for layer, weights in zip(heads, kept, strict=True):
        layer.set_weights([weight * 0 for weight in weights])
    try:
        return predict(model, rows)
    finally:
        for layer, weights in zip(heads, kept, strict=True):
            layer.set_weights(weights)
