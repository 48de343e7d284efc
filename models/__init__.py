"""What a model is. The zoo: one file an architecture, found by name from `models/zoo/`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from models.errors import ServingError

if TYPE_CHECKING:
    import keras
    import numpy as np

    Facts = dict[str, Any]
    """Numbers that the graph holds as constants: learned from training rows, or chosen on validation."""

HEAD = "head"
"""Name of the layer that the loss sees; what follows it in the graph has nothing to train."""


@dataclass(frozen=True)
class Architecture:
    """One file of the zoo.

    Attributes:
        name: The name of the file, and of the command's argument.
        dataset: The known data set it is trained on unless a configuration names another.
        task_kind: `kind` of the task that it answers.
        config_class: Its hyperparameters, a frozen pydantic model.
        facts: `(config, task, rows, values) -> facts`, from training rows and their raw targets only.
        targets: `(task, facts, rows, values) -> what the layer `HEAD` should say`, float32.
        build: `(config, task, facts) -> keras.Model` from the input `rows` to the output rows of its task,
            with built-in layers and `keras.ops` only.
        spread: `(task, facts, rows) -> what each row's interval width is multiplied by`; none multiplies nothing.
    """

    name: str
    dataset: str
    task_kind: str
    config_class: type[BaseModel]
    facts: Callable[[Any, Any, np.ndarray, np.ndarray], Facts]
    targets: Callable[[Any, Facts, np.ndarray, np.ndarray], np.ndarray]
    build: Callable[[Any, Any, Facts], keras.Model]
    spread: Callable[[Any, Facts, np.ndarray], np.ndarray] | None = None


class UnknownArchitectureError(ServingError):
    """No file of that name in the zoo. The message lists the known ones."""


def architectures() -> tuple[str, ...]:
    """Names of the zoo's architectures, sorted: the files of `models/zoo/`."""
    folder = Path(__file__).parent / "zoo"
    return tuple(sorted(module.name for module in pkgutil.iter_modules([str(folder)])))


def architecture(name: str) -> Architecture:
    """Definition of one architecture.

    Raises:
        UnknownArchitectureError: No file of the zoo has that name.
    """
    known = architectures()
    if name not in known:
        raise UnknownArchitectureError(f"unknown architecture {name!r}; known: {', '.join(known)}")
    found: Architecture = importlib.import_module(f"models.zoo.{name}").ARCHITECTURE
    return found
