"""Dense network on the pixels of a small picture, or on the columns of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from models import Architecture, tables
from models.layers import Activation, activate, classes, pieces
from models.task import Records, TabularRegression

if TYPE_CHECKING:
    import keras
    import numpy as np

    from models import Facts
    from models.task import Classes, ImageClassification, TabularClassification

    DnnTask = ImageClassification | TabularClassification | TabularRegression


class DnnConfig(BaseModel):
    """Hyperparameters. The defaults are the shipped network's.

    Attributes:
        units: Units of each hidden layer.
        activation: Of each hidden layer.
        batch_norm: Normalise before each activation.
        dropout: Share of each hidden layer that training leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: tuple[PositiveInt, ...] = (512, 256)
    activation: Activation = "relu"
    batch_norm: bool = True
    dropout: float = Field(0.25, ge=0, lt=1)


def no_facts(config: BaseModel, task: ImageClassification, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Pixels need no statistics: their range is known."""
    return {}


def one_hot(task: Classes, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Class numbers (n,) as float32 (n, classes), which label smoothing needs."""
    import numpy as np

    targets: np.ndarray = np.eye(len(task.labels), dtype=np.float32)[values]
    return targets


def facts(config: BaseModel, task: DnnTask, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Statistics of a table's columns, and of a target that is a value."""
    if not isinstance(task, Records):
        return {}
    target = tables.target_statistics(values) if isinstance(task, TabularRegression) else {}
    return tables.statistics(task, rows) | target


def targets(task: DnnTask, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """One-hot classes (n, classes), or standardised values (n,), float32."""
    return (
        tables.standardised(facts, values)
        if isinstance(task, TabularRegression)
        else one_hot(task, facts, rows, values)
    )


def build(config: DnnConfig, task: DnnTask, facts: Facts) -> keras.Model:
    """Pixels uint8 0 to 255 (n, height, width, channels) or a table's rows (n, fields) to the task's output rows."""
    import keras
    from keras import layers

    rows = keras.Input(task.input_shape, dtype=task.dtype, name="rows")
    if isinstance(task, Records):
        x = tables.features(task, facts, rows)
    else:
        x = layers.Flatten()(layers.Rescaling(1 / 255, name="scale")(rows))
    for units in config.units:
        x = layers.Dense(units * pieces(config.activation), use_bias=not config.batch_norm)(x)
        if config.batch_norm:
            x = layers.BatchNormalization(momentum=0.95)(x)
        x = activate(x, config.activation)
        x = layers.Dropout(config.dropout)(x)
    if isinstance(task, TabularRegression):
        head = tables.ordered(layers.Reshape((1, 3))(layers.Dense(3)(x)))
        return keras.Model(rows, tables.interval(head, facts), name="dnn")
    return keras.Model(rows, classes(x, len(task.labels), facts), name="dnn")


ARCHITECTURE = Architecture(
    name="dnn",
    dataset="fashion-mnist",
    task_kind="image_classification",
    config_class=DnnConfig,
    facts=facts,
    targets=targets,
    build=build,
)
