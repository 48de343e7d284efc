"""Convolutional network for small pictures: blocks of convolutions and pooling, then a pooled or flattened head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from models import HEAD, Architecture
from models.errors import ConfigError
from models.layers import Activation, activate, dense, pieces
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
        stride: Step of each block's first convolution, pixels.
        padding: "same" keeps height and width, "valid" loses `kernel - 1` of each.
        pooling: Largest or mean of each 2 x 2 pixels, after each block.
        activation: Of each convolution and dense layer.
        batch_norm: Normalise after each convolution (folded into it by onnxruntime).
        head: "average" pools each channel to one number, "flatten" keeps every position.
        dense: Units of the dense layers before the classes.
        dropout: Share of the inputs of each dense layer that training leaves out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    filters: tuple[PositiveInt, ...] = Field((24, 48, 96), min_length=1)
    convolutions: int = Field(2, ge=1)
    kernel: int = Field(3, ge=1)
    stride: int = Field(1, ge=1)
    padding: Literal["same", "valid"] = "same"
    pooling: Literal["max", "average"] = "max"
    activation: Activation = "relu"
    batch_norm: bool = True
    head: Literal["average", "flatten"] = "average"
    dense: tuple[PositiveInt, ...] = ()
    dropout: float = Field(0.2, ge=0, lt=1)


def build(config: CnnConfig, task: ImageClassification, facts: Facts) -> keras.Model:
    """Pixels uint8 0 to 255 (n, height, width, channels) to probabilities (n, classes), sum 1.

    Raises:
        ConfigError: The blocks leave nothing of a picture of this size.
    """
    import keras
    from keras import layers

    rows = keras.Input((task.height, task.width, task.channels), dtype="uint8", name="rows")
    x = layers.Rescaling(1 / 255, name="scale")(rows)
    wide = pieces(config.activation)
    last = len(config.filters) - 1
    pool = layers.MaxPooling2D if config.pooling == "max" else layers.AveragePooling2D
    for block, filters in enumerate(config.filters):
        for convolution in range(config.convolutions):
            stride = 1 if convolution else config.stride
            _needs(x, config.kernel if config.padding == "valid" else 1, config, task)
            x = layers.Conv2D(
                filters * wide, config.kernel, stride, padding=config.padding, use_bias=not config.batch_norm
            )(x)
            if config.batch_norm:
                x = layers.BatchNormalization(momentum=0.95)(x)
            x = activate(x, config.activation)
        if block < last or config.head == "flatten":
            _needs(x, 2, config, task)
            x = pool()(x)
    x = layers.GlobalAveragePooling2D()(x) if config.head == "average" else layers.Flatten()(x)
    for units in config.dense:
        x = dense(layers.Dropout(config.dropout)(x), [units], config.activation)
    x = layers.Dropout(config.dropout)(x)
    x = layers.Dense(len(task.labels), name=HEAD)(x)
    x = layers.Rescaling(1 / facts.get("temperature", 1.0), name="temperature")(x)
    return keras.Model(rows, layers.Softmax(name="probabilities")(x), name="cnn")


def _needs(x: keras.KerasTensor, side: int, config: CnnConfig, task: ImageClassification) -> None:
    """Refuse a layer that takes `side` pixels of what is smaller."""
    if min(x.shape[1:3]) < side:
        raise ConfigError(
            f"{len(config.filters)} blocks with kernel {config.kernel}, stride {config.stride} and {config.padding} "
            f"padding leave nothing of {task.height} x {task.width} pixels: "
            'use fewer filters entries, a smaller kernel, stride = 1 or padding = "same"'
        )


ARCHITECTURE = Architecture(
    name="cnn",
    dataset="fashion-mnist",
    task_kind="image_classification",
    config_class=CnnConfig,
    facts=no_facts,
    targets=one_hot,
    build=build,
)
