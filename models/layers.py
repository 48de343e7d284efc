"""Layers that hyperparameters choose by name: built in, or of `keras.ops`, so that every file loads in safe mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import keras

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

    kind = {"simple": layers.SimpleRNN, "gru": layers.GRU, "lstm": layers.LSTM}[cell]
    for layer in range(count):
        one = kind(units, return_sequences=layer < count - 1)
        x = (layers.Bidirectional(one) if bidirectional else one)(x)
    return x
