"""Tables in a graph: columns that standardise themselves and fill in what is missing, and a value with its interval.

Built-in layers, `keras.ops` and plain numbers only: a constant tensor becomes an input of its own in the ONNX graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from models import HEAD
from models.task import Number

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    import numpy as np

    from models import Facts
    from models.task import Records


def statistics(task: Records, rows: np.ndarray, logarithms: Sequence[str] = ()) -> Facts:
    """Mean and standard deviation of each numeric column, missing values apart, logarithms taken first."""
    import numpy as np

    numbers = [i for i, field in enumerate(task.fields) if isinstance(field, Number)]
    columns = rows[:, numbers].astype(np.float64)
    for column, index in enumerate(numbers):
        if task.fields[index].name in logarithms:
            columns[:, column] = np.log(columns[:, column])
    return {
        "mean": np.nanmean(columns, axis=0).tolist(),
        "deviation": np.maximum(np.nanstd(columns, axis=0), 1e-6).tolist(),
    }


def features(
    task: Records, facts: Facts, rows: keras.KerasTensor, *, logarithms: Sequence[str] = (), clip: float = 4.0
) -> keras.KerasTensor:
    """One column a number, one a category's value, and one that is 1 where a value that may be missing is.

    Args:
        task: Its fields give the order.
        facts: Of `statistics`.
        rows: (n, fields), raw units and category codes, NaN where a value is missing.
        logarithms: Fields that enter by their logarithm.
        clip: Inputs saturate at so many standard deviations from the training mean.

    Returns:
        (n, columns). A missing number stands at the training mean, a missing category at none of its values.
    """
    from math import exp

    from keras import layers, ops

    columns = []
    number = 0
    for index, field in enumerate(task.fields):
        column = rows[:, index : index + 1]
        if field.missing:
            absent = ops.isnan(column)
            stand_in = -1.0
            if isinstance(field, Number):
                stand_in = facts["mean"][number]
                stand_in = exp(stand_in) if field.name in logarithms else stand_in
            column = ops.where(absent, stand_in, column)
            columns.append(ops.cast(absent, "float32"))
        if isinstance(field, Number):
            if field.name in logarithms:
                column = ops.log(column)
            scale = 1 / facts["deviation"][number]
            column = layers.Rescaling(scale, -facts["mean"][number] * scale)(column)
            columns.append(ops.clip(column, -clip, clip))
            number += 1
        else:
            # 1 where the code is the value's index.
            columns += [ops.relu(1 - ops.abs(column - float(code))) for code in range(len(field.values))]
    return layers.Concatenate(name="features")(columns) if len(columns) > 1 else columns[0]


def target_statistics(values: np.ndarray) -> Facts:
    """Mean and standard deviation of the target, of its logarithm where that is the less skewed."""
    import numpy as np

    values = values.astype(np.float64)
    logarithm = bool(values.min() > 0) and abs(_skewness(np.log(values))) < abs(_skewness(values))
    target = np.log(values) if logarithm else values
    return {
        "logarithm": logarithm,
        "target_mean": float(target.mean()),
        "target_deviation": float(max(target.std(), 1e-6)),
    }


def _skewness(values: np.ndarray) -> float:
    centred = values - values.mean()
    return float((centred**3).mean() / max(centred.std() ** 3, 1e-12))


def standardised(facts: Facts, values: np.ndarray) -> np.ndarray:
    """What the layer `head` should say of values (n,) in the target's unit, float32."""
    import numpy as np

    target = np.log(values) if facts["logarithm"] else values
    standard: np.ndarray = ((target - facts["target_mean"]) / facts["target_deviation"]).astype(np.float32)
    return standard


def ordered(x: keras.KerasTensor) -> keras.KerasTensor:
    """The layer `head` (n, members, 3): value, low, high; the ends are distances, so that they never cross it."""
    from keras import layers, ops

    value, below, above = x[..., 0:1], ops.softplus(x[..., 1:2]), ops.softplus(x[..., 2:3])
    return layers.Concatenate(name=HEAD)([value, value - below, value + above])


def interval(head: keras.KerasTensor, facts: Facts) -> keras.KerasTensor:
    """Standardised members (n, members, 3) to (n, 3): low <= value <= high, the target's unit."""
    from math import exp

    from keras import layers, ops

    mean = ops.mean(head, axis=1)
    value = mean[:, 0:1]
    below = ops.relu(value - mean[:, 1:2] + facts.get("widen", 0.0))
    above = ops.relu(mean[:, 2:3] - value + facts.get("widen", 0.0))
    ends = layers.Concatenate()([value, value - below, value + above])
    if not facts["logarithm"]:
        return layers.Rescaling(facts["target_deviation"], facts["target_mean"], name="unit")(ends)
    # The mean is multiplied after the exponential: adding it before would lose a digit in float32.
    ratio = ops.exp(layers.Rescaling(facts["target_deviation"], name="logarithm")(ends))
    return layers.Rescaling(exp(facts["target_mean"]), name="unit")(ratio)
