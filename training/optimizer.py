"""The optimizer of a fit, its learning rate over time, and the limit on weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

    from training.choices import FitConfig

MOMENTUM = 0.9


def optimizer(config: FitConfig, steps: int) -> keras.optimizers.Optimizer:
    """What `config` asks for.

    Args:
        config: Of the fit.
        steps: In an epoch.
    """
    import keras

    common = {
        "learning_rate": _rate(config, steps),
        # No weight decay is none, except for AdamW, which would take its own.
        "weight_decay": config.weight_decay if config.optimizer == "adamw" else config.weight_decay or None,
        "use_ema": config.averaging > 0,
        "ema_momentum": config.averaging or 0.99,
    }
    kinds = keras.optimizers
    made: keras.optimizers.Optimizer
    match config.optimizer:
        case "sgd":
            made = kinds.SGD(**common)
        case "momentum" | "nesterov":
            made = kinds.SGD(momentum=MOMENTUM, nesterov=config.optimizer == "nesterov", **common)
        case "adagrad":
            made = kinds.Adagrad(**common)
        case "rmsprop":
            made = kinds.RMSprop(**common)
        case "adam":
            made = kinds.Adam(**common)
        case "adamw":
            made = kinds.AdamW(**common)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made


def _rate(config: FitConfig, steps: int) -> Any:
    import keras

    schedules = keras.optimizers.schedules
    if config.schedule == "cosine":
        warmup = round(config.warmup * steps)
        return schedules.CosineDecay(
            0.0 if warmup else config.learning_rate,
            max(1, config.epochs * steps - warmup),
            warmup_target=config.learning_rate if warmup else None,
            warmup_steps=warmup,
        )
    if config.schedule == "step" and config.decay and config.decay_epochs:
        return schedules.ExponentialDecay(
            config.learning_rate, config.decay_epochs * steps, config.decay, staircase=True
        )
    return config.learning_rate


def plateau_rate(config: FitConfig, losses: list[float]) -> float:
    """Learning rate of the next epoch: a function of the past alone, so that a resumed fit goes on with the same.

    Args:
        config: With `decay` and `decay_epochs`.
        losses: On held-out rows, of each epoch so far.
    """
    rate, best, waited = config.learning_rate, float("inf"), 0
    for loss in losses:
        waited = 0 if loss < best else waited + 1
        best = min(best, loss)
        if waited == config.decay_epochs and config.decay:
            rate, waited = rate * config.decay, 0
    return rate


def limit_norms(model: keras.Model, most: float) -> None:
    """Keep the weights into each unit of each layer within a length, from the next step on.

    The constraint is the fit's: a saved model does not hold it.
    """
    import keras

    for layer in model._flatten_layers(include_self=False, recursive=True):
        for variable in layer.trainable_variables if not layer._layers else ():
            if variable.name in {"kernel", "recurrent_kernel"}:
                # Members share an EinsumDense kernel (members, inputs, units): each has its own length.
                members = isinstance(layer, keras.layers.EinsumDense)
                axis = [1] if members else list(range(len(variable.shape) - 1))
                variable.constraint = keras.constraints.MaxNorm(most, axis=axis)
