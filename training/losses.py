"""What a fit minimises, checked against what the network says; Keras has no pinball loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from models.errors import ConfigError
from training.choices import CLASS_LOSSES, VALUE_LOSSES

if TYPE_CHECKING:
    import keras

    from training.choices import FitConfig

Point = Literal["huber", "pinball", "mse", "mae"]


@dataclass(frozen=True)
class Objective:
    """Loss and metrics, and the form of truth that they take.

    Attributes:
        loss: Of truths and the layer `head`.
        metrics: As Keras' `compile` takes them.
        truths: From the architecture's targets to the loss' truths.
    """

    loss: keras.losses.Loss
    metrics: list[Any]
    truths: Callable[[np.ndarray], np.ndarray]


def objective(config: FitConfig, head: tuple[int | None, ...]) -> Objective:
    """What `config` asks for, of a network whose layer `head` has that shape.

    Args:
        config: Of the fit.
        head: (None, classes): logits of classes; (None, 1): the logit of a binary class; else
            (None, members, ..., 3): value, low and high.

    Raises:
        ConfigError: A loss that is not for this network.
    """
    import keras

    losses = keras.losses
    if len(head) > 2:
        if config.loss in CLASS_LOSSES:
            raise _wrong(config.loss, "values and intervals", VALUE_LOSSES)
        if config.label_smoothing:
            raise ConfigError("fit.label_smoothing is for classes, and these are values: set it to 0")
        point: Any = "pinball" if config.loss == "auto" else config.loss
        return Objective(interval_loss(point), [], lambda targets: targets)
    smoothing = config.label_smoothing
    if head[1] == 1:
        if config.loss not in {"auto", "binary_crossentropy"}:
            raise _wrong(config.loss, "one sigmoid unit", ("binary_crossentropy",))
        binary = losses.BinaryCrossentropy(from_logits=True, label_smoothing=smoothing)
        accuracy = keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.0)
        return Objective(binary, [accuracy], lambda targets: targets.reshape(-1, 1))
    if config.loss == "sparse_categorical_crossentropy":
        sparse = losses.SparseCategoricalCrossentropy(from_logits=True)
        return Objective(sparse, ["accuracy"], lambda targets: targets.argmax(axis=1).astype(np.int32))
    # One sigmoid unit as two logits whose difference it is: both cross-entropies are one number then.
    fitting = {"auto", "categorical_crossentropy"} | ({"binary_crossentropy"} if head[1] == 2 else set())
    if config.loss not in fitting:
        raise _wrong(config.loss, f"{head[1]} classes", CLASS_LOSSES[1:])
    one_hot = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    return Objective(one_hot, ["accuracy"], lambda targets: targets)


def _wrong(loss: str, what: str, right: tuple[str, ...]) -> ConfigError:
    return ConfigError(f'fit.loss = "{loss}" is not for {what}: set one of {", ".join(right)}, or auto')


def interval_loss(point: Point, *, coverage: float = 0.8) -> keras.losses.Loss:
    """Loss of several members' (value, low, high) against one truth.

    Args:
        point: The value's part: Huber (delta 1), pinball at the median, squared or absolute error.
        coverage: Of the interval: its ends are the quantiles `(1 - coverage) / 2` and the rest.

    Returns:
        A loss of truths (n, ...) and predictions (n, members, ..., 3).
    """
    import keras
    from keras import ops

    tail = (1 - coverage) / 2

    class IntervalLoss(keras.losses.Loss):  # type: ignore[misc]  # Keras has no type hints
        def call(self, y_true: keras.KerasTensor, y_pred: keras.KerasTensor) -> keras.KerasTensor:
            error = ops.expand_dims(ops.expand_dims(y_true, 1), -1) - y_pred
            value, low, high = error[..., 0], error[..., 1], error[..., 2]
            return ops.mean(_of_value(value) + _pinball(low, tail) + _pinball(high, 1 - tail))

    def _of_value(error: keras.KerasTensor) -> keras.KerasTensor:
        size = ops.abs(error)
        match point:
            case "huber":
                return ops.where(size < 1, 0.5 * error * error, size - 0.5)
            case "mse":
                return error * error
            case "mae":
                return size
            case "pinball":
                return _pinball(error, 0.5)

    def _pinball(error: keras.KerasTensor, quantile: float) -> keras.KerasTensor:
        return ops.maximum(quantile * error, (quantile - 1) * error)

    return IntervalLoss()
