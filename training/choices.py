"""How the weights are found: every choice of the trade, each with a default."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Optimizer = Literal["sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw"]
Schedule = Literal["constant", "step", "cosine", "plateau"]
Loss = Literal[
    "auto",
    "pinball",
    "huber",
    "mse",
    "mae",
    "binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
]

RATES: dict[str, float] = {
    "sgd": 0.1,
    "momentum": 0.02,
    "nesterov": 0.02,
    "adagrad": 0.02,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
}
"""Learning rate of an optimizer where none is given."""

OWNED: dict[str, tuple[str, ...]] = {
    "optimizer": ("learning_rate", "weight_decay"),
    "schedule": ("warmup", "decay", "decay_epochs"),
}
"""Fields whose numbers were chosen for one value of another field, and mean nothing for the next."""

VALUE_LOSSES = ("pinball", "huber", "mse", "mae")
CLASS_LOSSES = ("binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy")


class Augment(BaseModel):
    """What training does to a picture, anew in each epoch.

    Attributes:
        shift: Largest shift in each direction, pixels.
        flip: Mirror half of the pictures left to right.
        erase: Share of the pictures that lose a rectangle of 2 to 20 % of their area.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shift: int = Field(0, ge=0)
    flip: bool = False
    erase: float = Field(0.0, ge=0, le=1)


class TransferConfig(BaseModel):
    """How training goes on from another version's weights.

    Attributes:
        parent: `name:version` of it, as `--from` says; empty where training begins from scratch.
        frozen_epochs: Passes in which the head for other classes learns alone, on a frozen body, before the fit.
        rate: What the fit's learning rate is multiplied by.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    parent: str = ""
    frozen_epochs: int = Field(10, ge=0)
    rate: float = Field(0.3, gt=0, le=1)

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if not self.parent and self != type(self).model_construct():
            raise ValueError("transfer is of a fit that begins with a version: name it with --from")
        return self


class FitConfig(BaseModel):
    """How the weights are found.

    Attributes:
        epochs: Passes over the training rows, at most.
        batch_size: Rows in a step.
        optimizer: `momentum` and `nesterov` are SGD with a momentum of 0.9.
        learning_rate: The highest one; by default the optimizer's in `RATES`.
        schedule: `constant`; `step`: times `decay` each `decay_epochs`; `cosine`: up in `warmup` epochs, then along one
            cosine to 0 at the last epoch; `plateau`: times `decay` after `decay_epochs` without a lower loss on
            held-out rows.
        warmup: Epochs in which the learning rate rises from 0 (cosine; 1 unless said).
        decay: Factor of `step` and `plateau` (0.5 unless said).
        decay_epochs: Of `step` and `plateau` (5 and 3 unless said).
        weight_decay: Decoupled and multiplied with the learning rate, on kernels; not on biases and normalisation.
        max_norm: Largest length of the weights into one unit; 0 for no limit.
        loss: `auto` is what the task asks for: cross-entropy for classes; for values the median (`pinball`), always
            with pinball losses for the ends of the interval. Huber's delta is 1, in standardised units.
        label_smoothing: For classes.
        early_stopping: Ends the fit after so many epochs without a lower loss on held-out rows, with the best epoch's
            weights; 0 never.
        averaging: Momentum of the exponential average of the weights that the fit ends with; 0 for none.
        augment: Pictures only.
        deterministic: The same seed gives the same weights, at some cost in speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    optimizer: Optimizer = "adamw"
    learning_rate: float = Field(1e-3, gt=0)
    schedule: Schedule = "cosine"
    warmup: float = Field(1.0, ge=0)
    decay: float | None = Field(None, gt=0, lt=1)
    decay_epochs: int | None = Field(None, ge=1)
    weight_decay: float = Field(0.0, ge=0)
    max_norm: float = Field(0.0, ge=0)
    loss: Loss = "auto"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    early_stopping: int = Field(0, ge=0)
    averaging: float = Field(0.0, ge=0, lt=1)
    augment: Augment = Augment()
    deterministic: bool = True

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        """Fill in what depends on another choice, so that the manifest records the numbers."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        if "point" in values:
            # What manifests called the loss of a value before there were others; classifiers had its default too.
            point = values.pop("point")
            values.setdefault("loss", "auto" if point == "pinball" else point)
        values.setdefault("learning_rate", RATES.get(str(values.get("optimizer", "adamw")), 1e-3))
        schedule = values.get("schedule", "cosine")
        values.setdefault("warmup", 1.0 if schedule == "cosine" else 0.0)
        if schedule in {"step", "plateau"}:
            defaults = {"decay": 0.5, "decay_epochs": 5 if schedule == "step" else 3}
            values |= {name: number for name, number in defaults.items() if values.get(name) is None}
        return values

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if self.optimizer == "adam" and self.weight_decay:
            raise ValueError('adam has no weight decay: set optimizer = "adamw", or weight_decay = 0')
        if self.warmup and self.schedule != "cosine":
            raise ValueError(f'{self.schedule} has no warm-up: set schedule = "cosine", or leave warmup out')
        if self.schedule in {"constant", "cosine"} and (self.decay or self.decay_epochs):
            raise ValueError(
                f'decay is not used by {self.schedule}: set schedule = "step" or "plateau", or leave it out'
            )
        if self.warmup > self.epochs:
            raise ValueError(
                f"warmup of {self.warmup:g} epochs is longer than the fit of {self.epochs}: set more epochs"
            )
        if self.early_stopping and self.averaging:
            raise ValueError(
                "early stopping ends with one epoch's weights, averaging with a mean over epochs: "
                "set early_stopping = 0 or averaging = 0"
            )
        if self.label_smoothing and self.loss not in {"auto", "binary_crossentropy", "categorical_crossentropy"}:
            raise ValueError(
                f"{self.loss} has no label smoothing: "
                'set loss = "categorical_crossentropy" (the same loss on one-hot classes), or label_smoothing = 0'
            )
        return self
