"""Dense network on the pixels of a small picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from models import HEAD, Architecture

if TYPE_CHECKING:
    import keras
    import numpy as np

    from models import Facts
    from models.task import ImageClassification


class DnnConfig(BaseModel):
    """Hyperparameters. The defaults are the shipped network's.

    Attributes:
        units: Units of each hidden layer.
        batch_norm: Normalise before each activation.
        dropout: Share of each hidden layer that training leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    units: tuple[int, ...] = (512, 256)
    batch_norm: bool = True
    dropout: float = Field(0.25, ge=0, lt=1)


def no_facts(config: BaseModel, task: ImageClassification, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Pixels need no statistics: their range is known."""
    return {}


def one_hot(task: ImageClassification, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Class numbers (n,) as float32 (n, classes), which label smoothing needs."""
    import numpy as np

    targets: np.ndarray = np.eye(len(task.labels), dtype=np.float32)[values]
    return targets


def build(config: DnnConfig, task: ImageClassification, facts: Facts) -> keras.Model:
    """Pixels uint8 0 to 255 (n, height, width, channels) to probabilities (n, classes), sum 1."""
    import keras
    from keras import layers

    rows = keras.Input((task.height, task.width, task.channels), dtype="uint8", name="rows")
    x = layers.Rescaling(1 / 255, name="scale")(rows)
    x = layers.Flatten()(x)
    for units in config.units:
        x = layers.Dense(units, use_bias=not config.batch_norm)(x)
        if config.batch_norm:
            x = layers.BatchNormalization(momentum=0.95)(x)
        x = layers.ReLU()(x)
        x = layers.Dropout(config.dropout)(x)
    x = layers.Dense(len(task.labels), name=HEAD)(x)
    x = layers.Rescaling(1 / facts.get("temperature", 1.0), name="temperature")(x)
    return keras.Model(rows, layers.Softmax(name="probabilities")(x), name="dnn")


ARCHITECTURE = Architecture(
    name="dnn",
    dataset="fashion-mnist",
    task_kind="image_classification",
    config_class=DnnConfig,
    facts=no_facts,
    targets=one_hot,
    build=build,
)
