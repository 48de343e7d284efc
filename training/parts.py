"""What each part of a fitted model adds: the held-out figure again, with the part taken away."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.task import Classes, SequenceForecast
from training.calibrate import cooled
from training.export import predict
from training.metrics import calibration_error, mean_squared

if TYPE_CHECKING:
    import keras
    import numpy as np

    from models import Facts
    from models.task import Task
    from training.split import Part


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
