"""Several small networks in one graph for a table: each has a linear skip, they learn the target or its logarithm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from models import Architecture, tables
from models.layers import Activation, activate, pieces

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
        activation: Of each hidden layer.
        dropout: Share of each hidden layer that training leaves out.
        logarithms: Fields that enter by their logarithm; must be above 0.
        clip: Inputs saturate at so many standard deviations from the training mean.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(8, ge=1)
    units: tuple[PositiveInt, ...] = (64, 64)
    activation: Activation = "relu"
    dropout: float = Field(0.2, ge=0, lt=1)
    logarithms: tuple[str, ...] = ("displacement", "horsepower", "weight")
    clip: float = Field(4.0, gt=0)


def facts(config: RegressorConfig, task: TabularRegression, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Mean and standard deviation of each numeric column and of the target, logarithms taken where they are used."""
    return tables.statistics(task, rows, config.logarithms) | tables.target_statistics(values)


def targets(task: TabularRegression, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Standardised target, or its logarithm, (n,), float32."""
    return tables.standardised(facts, values)


def build(config: RegressorConfig, task: TabularRegression, facts: Facts) -> keras.Model:
    """Raw units and category codes (n, fields) to (n, 3): low <= value <= high, the target's unit."""
    import keras
    from keras import layers

    rows = keras.Input(task.input_shape, dtype="float32", name="rows")
    features = tables.features(task, facts, rows, logarithms=config.logarithms, clip=config.clip)

    x = layers.RepeatVector(config.members)(features)
    linear = layers.EinsumDense("bmi,mio->bmo", (config.members, 3), bias_axes="mo", name="linear")(x)
    for units in config.units:
        wide = units * pieces(config.activation)
        x = layers.EinsumDense("bmi,mio->bmo", (config.members, wide), bias_axes="mo")(x)
        x = activate(x, config.activation)
        x = layers.Dropout(config.dropout)(x)
    x = layers.EinsumDense("bmi,mio->bmo", (config.members, 3), bias_axes="mo")(x)
    x = layers.Add()([linear, x])
    return keras.Model(rows, tables.interval(tables.ordered(x), facts), name="regressor")


ARCHITECTURE = Architecture(
    name="regressor",
    dataset="auto-mpg",
    task_kind="tabular_regression",
    config_class=RegressorConfig,
    facts=facts,
    targets=targets,
    build=build,
)
