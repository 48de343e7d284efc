"""How a model is trained on data of a user's own, where no configuration says it."""

from __future__ import annotations

from typing import Any

from training.config import TrainConfig

_TABLE_FIT = {"epochs": 60, "batch_size": 32, "learning_rate": 0.003, "warmup": 3.0, "weight_decay": 0.03}
_RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("dnn", "tabular_classification"): {
        "model": {"units": [64, 64], "batch_norm": False, "dropout": 0.3},
        # A few hundred records are learned by heart otherwise.
        "fit": _TABLE_FIT | {"epochs": 30, "weight_decay": 1.0},
    },
    ("dnn", "tabular_regression"): {
        "model": {"units": [64, 64], "batch_norm": False, "dropout": 0.1},
        "fit": _TABLE_FIT,
    },
    ("regressor", "tabular_regression"): {"model": {"logarithms": []}, "fit": _TABLE_FIT},
    ("dnn", "image_classification"): {
        "fit": {"epochs": 30, "batch_size": 64, "learning_rate": 0.002, "weight_decay": 0.05, "label_smoothing": 0.05},
    },
    ("cnn", "image_classification"): {
        "fit": {
            "epochs": 30,
            "batch_size": 64,
            "learning_rate": 0.003,
            "weight_decay": 0.02,
            "label_smoothing": 0.03,
            "augment": {"shift": 2, "erase": 0.2},
        },
    },
    ("lstm", "sequence_forecast"): {
        "fit": {"epochs": 6, "batch_size": 64, "learning_rate": 0.002, "warmup": 0.5, "weight_decay": 0.01},
    },
    ("lstm", "sequence_classification"): {
        "model": {"members": 1, "dropout": 0.3},
        "fit": {"epochs": 20, "batch_size": 32, "learning_rate": 0.003, "weight_decay": 0.01},
    },
}
_FEW_ROWS, _MANY_ROWS = 1_000, 20_000


def can_train(architecture: str) -> list[str]:
    """Kinds of task that an architecture learns from data of a user's own."""
    return [kind for name, kind in _RECIPES if name == architecture]


def recipe(architecture: str, kind: str, dataset: str, *, rows: int) -> TrainConfig:
    """The configuration for a data set: more passes over few rows, fewer over many.

    Args:
        architecture: Of the zoo; must be able to learn `kind`.
        kind: Of the task.
        dataset: Its name.
        rows: All of them; of series that are told apart, the windows that they have room for.
    """
    chosen = _RECIPES[architecture, kind]
    fit = dict(chosen["fit"])
    if kind != "sequence_forecast":
        fit["epochs"] *= 2 if rows < _FEW_ROWS else 1
        fit["epochs"] = fit["epochs"] if rows < _MANY_ROWS else fit["epochs"] // 3
        fit["batch_size"] *= 1 if rows < _MANY_ROWS else 4
    document = {"architecture": architecture, "dataset": dataset, "model": chosen.get("model", {}), "fit": fit}
    return TrainConfig.model_validate(document)
