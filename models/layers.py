"""Layers that hyperparameters choose by name: built in, or of `keras.ops`, so that every file loads in safe mode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from models import HEAD

if TYPE_CHECKING:
    import keras

    from models import Facts

Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "gelu", "maxout"]
Cell = Literal["simple", "gru", "lstm"]


def pieces(activation: Activation) -> int:
    """Linear pieces of one unit: maxout takes the largest of two, so the layer before it is twice as wide."""
    return 2 if activation == "maxout" else 1


def activate(x: keras.KerasTensor, activation: Activation) -> keras.KerasTensor:
    """Apply an activation to the last axis.

    Args:
        x: (n, ..., units * pieces(activation)).
        activation: Of the tanh form where it is gelu: the exact one does not export to ONNX.

    Returns:
        (n, ..., units).
    """
    from keras import layers, ops

    match activation:
        case "relu":
            return layers.ReLU()(x)
        case "leaky_relu":
            return layers.LeakyReLU(negative_slope=0.1)(x)
        case "gelu":
            return ops.gelu(x, approximate=True)
        case "maxout":
            return ops.max(layers.Reshape((*x.shape[1:-1], x.shape[-1] // 2, 2))(x), axis=-1)
        case _:
            return layers.Activation(activation)(x)


def recurrent(
    x: keras.KerasTensor, cell: Cell, units: int, *, count: int = 1, bidirectional: bool = False
) -> keras.KerasTensor:
    """Recurrent layers on top of each other, many steps to one.

    Args:
        x: (n, steps, channels).
        cell: An ONNX graph has one operator for an LSTM; GRU and simple cells become loops, about ten times slower.
        units: Of each layer, in each direction.
        count: Layers.
        bidirectional: Read the steps backwards too.

    Returns:
        (n, units), twice as wide where it is bidirectional: the last layer's last state.
    """
    from keras import layers

    for layer in range(count):
        one = _kind(cell)(units, return_sequences=layer < count - 1)
        x = (layers.Bidirectional(one) if bidirectional else one)(x)
    return x


def _kind(cell: Cell) -> Callable[..., keras.Layer]:
    from keras import layers

    kinds: dict[str, Callable[..., keras.Layer]] = {
        "simple": layers.SimpleRNN,
        "gru": layers.GRU,
        "lstm": layers.LSTM,
    }
    return kinds[cell]


def decoder(x: keras.KerasTensor, cell: Cell, units: int, steps: int, *, count: int = 1) -> keras.KerasTensor:
    """Recurrent layers on top of each other that get the same vector at each step, one step to many.

    Args:
        x: (n, features).
        cell: As `recurrent` takes it.
        units: Of each layer.
        steps: That come out.
        count: Layers.

    Returns:
        (n, steps, units).
    """
    from keras import layers

    x = layers.RepeatVector(steps)(x)
    for _ in range(count):
        x = _kind(cell)(units, return_sequences=True)(x)
    return x


def dense(x: keras.KerasTensor, units: Sequence[int], activation: Activation) -> keras.KerasTensor:
    """Dense layers on top of each other, on the last axis of (n, ..., features)."""
    from keras import layers

    for wide in units:
        x = activate(layers.Dense(wide * pieces(activation))(x), activation)
    return x


def classes(x: keras.KerasTensor, count: int, facts: Facts) -> keras.KerasTensor:
    """Hidden units to probabilities (n, count): one sigmoid unit for two classes, softmax for more."""
    from keras import layers, ops

    cool = 1 / facts.get("temperature", 1.0)
    if count > 2:
        x = layers.Dense(count, name=HEAD)(x)
        return layers.Softmax(name="probabilities")(layers.Rescaling(cool, name="temperature")(x))
    unit = layers.Dense(1, name="unit")(x)
    # As two logits whose difference is the unit: the loss of one-hot classes is the binary cross-entropy then.
    head = layers.Concatenate(name=HEAD)([unit * -0.5, unit * 0.5])
    logits = layers.Rescaling(cool, name="temperature")(head)
    second = ops.sigmoid(logits[:, 1:2] - logits[:, 0:1])
    return layers.Concatenate(name="probabilities")([1 - second, second])
