"""Several small networks in one graph for a table: each has a linear skip, they learn the logarithm of the target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from models import HEAD, Architecture
from models.task import Number

if TYPE_CHECKING:
    import keras
    import numpy as np

    from models import Facts
    from models.task import TabularRegression


class RegressorConfig(BaseModel):
    """Hyperparameters. The defaults are the shipped network's.

    Attributes:
        members: Networks that are averaged, each with weights of its own.
        units: Units of each hidden layer of a member.
        dropout: Share of each hidden layer that training leaves out.
        logarithms: Fields that enter by their logarithm; must be above 0.
        clip: Inputs saturate at so many standard deviations from the training mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(8, ge=1)
    units: tuple[int, ...] = (64, 64)
    dropout: float = Field(0.2, ge=0, lt=1)
    logarithms: tuple[str, ...] = ("displacement", "horsepower", "weight")
    clip: float = Field(4.0, gt=0)


def facts(config: RegressorConfig, task: TabularRegression, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Mean and standard deviation of each numeric column and of the target, logarithms taken first."""
    import numpy as np

    numbers = [i for i, field in enumerate(task.fields) if isinstance(field, Number)]
    columns = rows[:, numbers].astype(np.float64)
    for column, index in enumerate(numbers):
        if task.fields[index].name in config.logarithms:
            columns[:, column] = np.log(columns[:, column])
    target = np.log(values.astype(np.float64))
    return {
        "mean": columns.mean(axis=0).tolist(),
        "deviation": np.maximum(columns.std(axis=0), 1e-6).tolist(),
        "target_mean": float(target.mean()),
        "target_deviation": float(max(target.std(), 1e-6)),
    }


def targets(task: TabularRegression, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standardised logarithm of the target (n,), float32."""
    import numpy as np

    standard: np.ndarray = ((np.log(values) - facts["target_mean"]) / facts["target_deviation"]).astype(np.float32)
    return standard


def build(config: RegressorConfig, task: TabularRegression, facts: Facts) -> keras.Model:
    """Raw units and category codes (n, fields) to (n, 3): low <= value <= high, the target's unit."""
    from math import exp

    import keras
    from keras import layers, ops

    rows = keras.Input(task.input_shape, dtype="float32", name="rows")
    columns = []
    number = 0
    for index, field in enumerate(task.fields):
        column = rows[:, index : index + 1]
        if isinstance(field, Number):
            if field.name in config.logarithms:
                column = ops.log(column)
            scale = 1 / facts["deviation"][number]
            column = layers.Rescaling(scale, -facts["mean"][number] * scale)(column)
            columns.append(ops.clip(column, -config.clip, config.clip))
            number += 1
        else:
            # One column a category, 1 where the code is its index. Plain numbers: a constant tensor becomes an
            # input of its own in the ONNX graph.
            columns += [ops.relu(1 - ops.abs(column - float(code))) for code in range(len(field.values))]
    features = layers.Concatenate(name="features")(columns)

    x = layers.RepeatVector(config.members)(features)
    linear = layers.EinsumDense("bmi,mio->bmo", (config.members, 3), bias_axes="mo", name="linear")(x)
    for units in config.units:
        x = layers.EinsumDense("bmi,mio->bmo", (config.members, units), bias_axes="mo", activation="relu")(x)
        x = layers.Dropout(config.dropout)(x)
    x = layers.EinsumDense("bmi,mio->bmo", (config.members, 3), bias_axes="mo")(x)
    x = layers.Add()([linear, x])
    # The ends are distances from the value, so that they never cross it.
    value, below, above = x[..., 0:1], ops.softplus(x[..., 1:2]), ops.softplus(x[..., 2:3])
    head = layers.Concatenate(name=HEAD)([value, value - below, value + above])

    mean = ops.mean(head, axis=1)
    value = mean[:, 0:1]
    below = ops.relu(value - mean[:, 1:2] + facts.get("widen", 0.0))
    above = ops.relu(mean[:, 2:3] - value + facts.get("widen", 0.0))
    ends = layers.Concatenate()([value, value - below, value + above])
    # The mean is multiplied after the exponential: adding it before would lose a digit in float32.
    ratio = ops.exp(layers.Rescaling(facts["target_deviation"], name="logarithm")(ends))
    return keras.Model(rows, layers.Rescaling(exp(facts["target_mean"]), name="unit")(ratio), name="regressor")


ARCHITECTURE = Architecture(
    name="regressor",
    dataset="auto-mpg",
    task_kind="tabular_regression",
    config_class=RegressorConfig,
    facts=facts,
    targets=targets,
    build=build,
)
