"""Recurrent networks for series: the next steps, or the class of the last one.

Forecasts: LSTMs beside a frozen ridge regression, both on a window less its last value, which comes back at the
output. A network that saw the level itself won on validation and lost on test: the level of such a series drifts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from models import HEAD, Architecture
from models.errors import ConfigError
from models.layers import Activation, Cell, classes, decoder, dense, recurrent
from models.task import SequenceClassification
from models.zoo.dnn import one_hot

if TYPE_CHECKING:
    import keras
    import numpy as np

    from models import Facts
    from models.task import SequenceForecast

    LstmTask = SequenceForecast | SequenceClassification


_STEADY = 0.25
"""Share of an interval's width that does not follow the window's moves."""


class LstmConfig(BaseModel):
    """Hyperparameters. The defaults are the shipped network's.

    Attributes:
        members: Recurrent networks side by side, each with weights of its own: forecasts are averaged, a classifier has
            one head on all of them.
        cell: Simple and GRU cells export too, as loops: about ten times slower in onnxruntime than an LSTM.
        units: Of each layer, in each direction.
        layers: Recurrent layers of a member, on top of each other.
        bidirectional: Read the window backwards too.
        arrangement: `many_to_one`: the last state into one head for all steps, or for the class. `many_to_many`: the
            last state into a decoder, which emits one step after another. `one_to_many`: a decoder that sees the last
            step alone, without the ridge regression.
        dense: Units of the dense layers between the recurrent ones and the head.
        activation: Of the dense layers; a cell keeps its own.
        dropout: Share of a member's last state that training leaves out.
        ridge: Penalty of the linear part, on standardised inputs and summed squares.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: int = Field(3, ge=1)
    cell: Cell = "lstm"
    units: int = Field(32, ge=1)
    layers: int = Field(1, ge=1)
    bidirectional: bool = False
    arrangement: Literal["many_to_one", "many_to_many", "one_to_many"] = "many_to_one"
    dense: tuple[PositiveInt, ...] = ()
    activation: Activation = "relu"
    dropout: float = Field(0.5, ge=0, lt=1)
    ridge: float = Field(100.0, gt=0)

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if self.activation != "relu" and not self.dense:
            raise ValueError(
                f"activation = {self.activation} is of the dense layers, and there are none: set dense, such as [32]; "
                "a recurrent cell keeps tanh and its sigmoid gates (maxout, which has two pieces, has no place in one)"
            )
        if self.arrangement == "one_to_many" and self.bidirectional:
            raise ValueError(
                "one_to_many sees one step, which has no order to read backwards: "
                'set bidirectional = false, or arrangement = "many_to_many"'
            )
        return self


def facts(config: LstmConfig, task: LstmTask, rows: np.ndarray, values: np.ndarray) -> Facts:
    """Of a forecast the scale of the changes, and the ridge regression of future changes on past ones.

    Of classes, and of the one step that `one_to_many` sees, each channel's mean and standard deviation.
    """
    import numpy as np

    steps = rows.astype(np.float64)
    levels = {
        "mean": steps.mean(axis=(0, 1)).tolist(),
        "deviation": np.maximum(steps.std(axis=(0, 1)), 1e-6).tolist(),
    }
    if isinstance(task, SequenceClassification):
        return levels
    past = (rows - rows[:, -1:]).reshape(len(rows), -1).astype(np.float64)
    scale = float(max(past.std(), 1e-6))
    if config.arrangement == "one_to_many":
        return {"scale": scale, **levels}
    future = values.astype(np.float64) - rows[:, -1, _target(task), None]
    past, future = past / scale, future / scale
    # The last step of each channel is 0 by construction; the penalty keeps the system solvable.
    gram = past.T @ past + config.ridge * np.eye(past.shape[1])
    moves = _moves(task, rows, np.abs, np.mean)
    move = max(float(moves.mean()), 1e-6)
    return {"scale": scale, "move": move, "ridge": np.linalg.solve(gram, past.T @ future).tolist()}


def spread(task: SequenceForecast, facts: Facts, rows: np.ndarray) -> np.ndarray:
    """What the interval's width is multiplied by, (n, 1): more where the window moved more over one horizon.

    A fixed width covered 69 to 90 % of 16 blocks of the training and validation rows, this one 74 to 83 %. What sees
    one step only knows of no moves: its width is fixed.
    """
    import numpy as np

    if "move" not in facts:
        return np.ones((len(rows), 1))
    wider: np.ndarray = _spread(facts, _moves(task, rows, np.abs, np.mean))
    return wider


def targets(task: LstmTask, facts: Facts, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Change from the window's last value, scaled, (n, horizon), or one-hot classes (n, labels), float32."""
    import numpy as np

    if isinstance(task, SequenceClassification):
        return one_hot(task, facts, rows, values)
    changes: np.ndarray = ((values - rows[:, -1, _target(task), None]) / facts["scale"]).astype(np.float32)
    return changes


def build(config: LstmConfig, task: LstmTask, facts: Facts) -> keras.Model:
    """Raw units (n, lookback, channels) to the task's output rows.

    Raises:
        ConfigError: An arrangement that does not suit the task.
    """
    if isinstance(task, SequenceClassification):
        return _classifier(config, task, facts)
    if task.horizon == 1 and config.arrangement != "many_to_one":
        raise ConfigError(
            f'arrangement = "{config.arrangement}" emits steps one after another, and the horizon is one step: '
            'set arrangement = "many_to_one"'
        )
    return _forecaster(config, task, facts)


def _classifier(config: LstmConfig, task: SequenceClassification, facts: Facts) -> keras.Model:
    """Standardised channels (the level tells) to probabilities (n, labels)."""
    import keras
    from keras import layers

    if config.arrangement != "many_to_one":
        raise ConfigError(
            f'arrangement = "{config.arrangement}" emits many steps, and a window has one class: '
            'set arrangement = "many_to_one"'
        )
    rows = keras.Input(task.input_shape, dtype="float32", name="rows")
    standard = _standardised(facts, rows)
    members = []
    for _ in range(config.members):
        x = recurrent(standard, config.cell, config.units, count=config.layers, bidirectional=config.bidirectional)
        members.append(dense(layers.Dropout(config.dropout)(x), config.dense, config.activation))
    x = layers.Concatenate()(members) if len(members) > 1 else members[0]
    return keras.Model(rows, classes(x, len(task.labels), facts), name="lstm")


def _forecaster(config: LstmConfig, task: SequenceForecast, facts: Facts) -> keras.Model:
    """Window less its last value to (n, horizon, 3): low <= value <= high, raw units."""
    import keras
    from keras import layers, ops

    rows = keras.Input(task.input_shape, dtype="float32", name="rows")
    target = _target(task)
    change = layers.Rescaling(1 / facts["scale"], name="change")(rows - rows[:, -1:, :])
    linear = _ridge(task, facts, change) if "ridge" in facts else None
    seen = change if linear is not None else _standardised(facts, rows[:, -1, :])

    members = []
    for _ in range(config.members):
        x = _steps(config, task, seen)
        value = x[..., 0:1] if linear is None else linear + x[..., 0:1]
        # The ends are distances from the value, so that they never cross it.
        below, above = ops.softplus(x[..., 1:2] - 1), ops.softplus(x[..., 2:3] - 1)
        ends = layers.Concatenate()([value, value - below, value + above])
        members.append(layers.Reshape((1, task.horizon, 3))(ends))
    # One member needs no joining, but the layer that the loss sees keeps its name.
    head = layers.Identity(name=HEAD)(layers.Concatenate(axis=1)(members) if len(members) > 1 else members[0])

    mean = ops.mean(head, axis=1)
    widen = layers.Rescaling(1.0, [[distance] for distance in facts.get("widen", [0.0] * task.horizon)], name="widen")
    value = mean[..., 0:1]
    below, above = ops.relu(widen(value - mean[..., 1:2])), ops.relu(widen(mean[..., 2:3] - value))
    if "move" in facts:
        wider = layers.Reshape((1, 1))(_spread(facts, _moves(task, rows, ops.abs, ops.mean)))
        below, above = below * wider, above * wider
    ends = layers.Concatenate()([value, value - below, value + above])
    scaled = layers.Rescaling(facts["scale"], name="scaled")(ends)
    return keras.Model(rows, scaled + rows[:, -1:, target : target + 1], name="lstm")


def _ridge(task: SequenceForecast, facts: Facts, change: keras.KerasTensor) -> keras.KerasTensor:
    """The linear part, (n, horizon, 1), frozen."""
    import numpy as np
    from keras import layers

    ridge = layers.Dense(task.horizon, use_bias=False, trainable=False, name="ridge")
    linear = layers.Reshape((task.horizon, 1))(ridge(layers.Flatten()(change)))
    ridge.set_weights([np.asarray(facts["ridge"], np.float32)])
    return linear


def _steps(config: LstmConfig, task: SequenceForecast, seen: keras.KerasTensor) -> keras.KerasTensor:
    """One member's value and two distances at each step ahead, (n, horizon, 3), 0 before training."""
    from keras import layers

    if config.arrangement == "one_to_many":
        x = decoder(seen, config.cell, config.units, task.horizon, count=config.layers)
        x = layers.Dropout(config.dropout)(x)
    else:
        x = recurrent(seen, config.cell, config.units, count=config.layers, bidirectional=config.bidirectional)
        x = layers.Dropout(config.dropout)(x)
    if config.arrangement == "many_to_many":
        x = decoder(x, config.cell, config.units, task.horizon)
    x = dense(x, config.dense, config.activation)
    if config.arrangement != "many_to_one":
        return layers.Dense(3, kernel_initializer="zeros")(x)
    return layers.Reshape((task.horizon, 3))(layers.Dense(task.horizon * 3, kernel_initializer="zeros")(x))


def _standardised(facts: Facts, x: keras.KerasTensor) -> keras.KerasTensor:
    """Channels, on the last axis, with the training steps' mean 0 and deviation 1."""
    from keras import layers

    scale = [1 / deviation for deviation in facts["deviation"]]
    offset = [-mean * factor for mean, factor in zip(facts["mean"], scale, strict=True)]
    return layers.Rescaling(scale, offset, name="standard")(x)


def _moves(task: SequenceForecast, rows: Any, absolute: Callable[..., Any], mean: Callable[..., Any]) -> Any:
    """How far the target moves in one horizon, on average over the window, (n, 1)."""
    series = rows[..., _target(task)]
    lag = max(1, min(task.horizon, task.lookback // 2))
    return mean(absolute(series[:, lag:] - series[:, :-lag]), axis=1, keepdims=True)


def _spread(facts: Facts, moves: Any) -> Any:
    return _STEADY + (1 - _STEADY) / facts["move"] * moves


def _target(task: SequenceForecast) -> int:
    return [channel.name for channel in task.channels].index(task.target)


ARCHITECTURE = Architecture(
    name="lstm",
    dataset="etth1",
    task_kind="sequence_forecast",
    config_class=LstmConfig,
    facts=facts,
    targets=targets,
    build=build,
    spread=spread,
)
