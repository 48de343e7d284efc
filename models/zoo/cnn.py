"""Convolutional network for small pictures: blocks of convolutions and pooling, then a pooled or flattened head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from models import HEAD, Architecture
from models.zoo.dnn import no_facts, one_hot

if TYPE_CHECKING:
    import keras

    from models import Facts
    from models.task import ImageClassification


class CnnConfig(BaseModel):
    """Hyperparameters. The defaults are the shipped network's.

    Attributes:
        filters: Channels of each block; a block halves height and width, but not the last one under "average".
        convolutions: Convolutions in a block.
        kernel: Side of a convolution, pixels.
        batch_norm: Normalise after each convolution (folded into it by onnxruntime).
        head: "average" pools each channel to one number, "flatten" keeps every position.
        dense: Units of the dense layers before the classes.
        dropout: Share of the inputs of each dense layer that training leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: tuple[int, ...] = (24, 48, 96)
    convolutions: int = Field(2, ge=1)
    kernel: int = Field(3, ge=1)
    batch_norm: bool = True
    head: Literal["average", "flatten"] = "average"
    dense: tuple[int, ...] = ()
    dropout: float = Field(0.2, ge=0, lt=1)


def build(config: CnnConfig, task: ImageClassification, facts: Facts) -> keras.Model:
    """Pixels uint8 0 to 255 (n, height, width, channels) to probabilities (n, classes), sum 1."""
    import keras
    from keras import layers

    rows = keras.Input((task.height, task.width, task.channels), dtype="uint8", name="rows")
    x = layers.Rescaling(1 / 255, name="scale")(rows)
    last = len(config.filters) - 1
    for block, filters in enumerate(config.filters):
        for _ in range(config.convolutions):
            x = layers.Conv2D(filters, config.kernel, padding="same", use_bias=not config.batch_norm)(x)
            if config.batch_norm:
                x = layers.BatchNormalization(momentum=0.95)(x)
            x = layers.ReLU()(x)
        if block < last or config.head == "flatten":
            x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x) if config.head == "average" else layers.Flatten()(x)
    for units in config.dense:
        x = layers.Dropout(config.dropout)(x)
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Dropout(config.dropout)(x)
    x = layers.Dense(len(task.labels), name=HEAD)(x)
    x = layers.Rescaling(1 / facts.get("temperature", 1.0), name="temperature")(x)
    return keras.Model(rows, layers.Softmax(name="probabilities")(x), name="cnn")


ARCHITECTURE = Architecture(
    name="cnn",
    dataset="fashion-mnist",
    task_kind="image_classification",
    config_class=CnnConfig,
    facts=no_facts,
    targets=one_hot,
    build=build,
)
