"""Loss of a value and its interval; Keras has no pinball loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras


def interval_loss(point: Literal["huber", "pinball", "mse"], *, coverage: float = 0.8) -> keras.losses.Loss:
    """Loss of several members' (value, low, high) against one truth.

    Args:
        point: The value's part: Huber (delta 1), squared error, or pinball at the median.
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
            size = ops.abs(value)
            huber = ops.where(size < 1, 0.5 * value * value, size - 0.5)
            firsts = {"huber": huber, "mse": 0.5 * value * value, "pinball": _pinball(value, 0.5)}
            first = firsts[point]
            return ops.mean(first + _pinball(low, tail) + _pinball(high, 1 - tail))

    def _pinball(error: keras.KerasTensor, quantile: float) -> keras.KerasTensor:
        return ops.maximum(quantile * error, (quantile - 1) * error)

    return IntervalLoss()
