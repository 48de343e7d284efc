"""One frozen value that says how a model is trained; its sha256 names the run."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from models import UnknownArchitectureError, architecture
from models.errors import ConfigError
from training.choices import CLASS_LOSSES, OWNED, VALUE_LOSSES, Augment, FitConfig, TransferConfig
from training.overrides import known_keys, overridden

__all__ = ["Augment", "ConfigError", "FitConfig", "TrainConfig", "config_path", "load_config", "make_config"]


class TrainConfig(BaseModel):
    """Everything that decides a run, data apart.

    Attributes:
        architecture: A name of the zoo.
        dataset: A known data set; by default the architecture's own.
        seed: Of split, weights, augmentation and order.
        validation: Share of the training rows held out for every choice (a series' own borders go before it).
        folds: Folds of the training rows for out-of-fold figures and intervals, then one fit on all of them;
            0 for one fit on what the validation share leaves.
        limit: Use only so many training and test rows (trials and tests); none uses all.
        train_rows: Train on only so many of the training rows, at random; the held-out rows stay as they are.
        model: The architecture's hyperparameters.
        fit: How the weights are found.
        transfer: The version whose weights training goes on from, if any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    dataset: str = ""
    seed: int = 1
    validation: float = Field(0.2, gt=0, lt=1)
    folds: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=50)
    train_rows: int | None = Field(None, ge=10)
    model: SerializeAsAny[BaseModel]
    fit: FitConfig = FitConfig()
    transfer: TransferConfig = TransferConfig()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: dict[str, Any]) -> dict[str, Any]:
        definition = architecture(str(values.get("architecture", "")))
        given = values.get("model", {})
        if isinstance(given, dict):
            given = _nested("model", definition.config_class, given)
        return {**values, "model": given, "dataset": values.get("dataset") or definition.dataset}

    @model_validator(mode="after")
    def _combine(self) -> Self:
        if self.folds and (self.fit.early_stopping or self.fit.schedule == "plateau"):
            what = "early_stopping" if self.fit.early_stopping else 'schedule = "plateau"'
            raise ValueError(
                f"fit.{what} watches held-out rows, but folds = {self.folds} ends with a fit on all: set folds = 0"
            )
        if self.folds and self.transfer.parent:
            raise ValueError(
                f"folds = {self.folds} judges each fold by the others, and {self.transfer.parent} may have seen "
                "all of them: set folds = 0"
            )
        definition = architecture(self.architecture)
        if self.dataset != definition.dataset:
            # What the numbers of other data mean is known when they are read: `training.losses` checks it then.
            return self
        classes = definition.task_kind.endswith("classification")
        wrong = VALUE_LOSSES if classes else CLASS_LOSSES
        if self.fit.loss in wrong:
            right = "categorical_crossentropy, sparse_categorical_crossentropy" if classes else ", ".join(VALUE_LOSSES)
            what = "classes" if classes else "values"
            raise ValueError(f'fit.loss = "{self.fit.loss}" is not for {what}: set one of {right}, or auto')
        if self.fit.label_smoothing and not classes:
            raise ValueError("fit.label_smoothing is for classes: set it to 0")
        if self.fit.augment != Augment() and definition.task_kind != "image_classification":
            raise ValueError("fit.augment is for pictures: leave it out")
        return self

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of all fields, defaults included."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()


def config_path(name: str) -> Path:
    """Where the committed configuration of that name lies (`cnn`, `textbook-dnn`, ...)."""
    return Path(__file__).parent / "configs" / f"{name}.toml"


def load_config(path: Path, settings: Sequence[str] = ()) -> TrainConfig:
    """Read a TOML file, and change single settings of it.

    Args:
        path: Of the file.
        settings: `key=value` each, such as `fit.optimizer=nesterov`; see `training.overrides`.

    Raises:
        ConfigError: No such file, no TOML, or a field that is unknown, missing, out of range or at odds with another.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in config_path("").parent.glob("*.toml")))
        raise ConfigError(f"no configuration {path}; committed ones: {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    return make_config(document, settings, source=str(path))


def make_config(
    document: dict[str, Any], settings: Sequence[str] = (), *, source: str = "configuration"
) -> TrainConfig:
    """Validate what a TOML file says, single settings changed.

    Raises:
        ConfigError: As `load_config` says.
    """
    try:
        known = known_keys(TrainConfig, architecture(str(document.get("architecture", ""))).config_class)
        return TrainConfig.model_validate(overridden(document, settings, known))
    except UnknownArchitectureError as error:
        raise ConfigError(f"{source}: {error}") from None
    except ValidationError as error:
        raise ConfigError(f"{source}: {_said(error.errors()[0], known)}") from None


def settings_between(base: TrainConfig, config: TrainConfig) -> list[str]:
    """`key=value` for each setting that makes `config` of `base`, the version to begin with apart (`--from` says it).

    Where an optimizer or schedule differs, the numbers that were chosen for it are all there: `training.overrides`
    forgets the base's.
    """
    ours, theirs = (dict(_numbers(one.model_dump(mode="json"))) for one in (config, base))
    forgotten = {
        f"fit.{name}"
        for owner, names in OWNED.items()
        for name in names
        if ours[f"fit.{owner}"] != theirs[f"fit.{owner}"]
    }
    return [
        f"{key}={json.dumps(value)}"
        for key, value in ours.items()
        # TOML has no null: a setting that is none is none by default.
        if value is not None and (value != theirs.get(key) or key in forgotten) and key not in _ELSEWHERE
    ]


_ELSEWHERE = ("architecture", "dataset", "transfer.parent")


def _numbers(document: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{path}{name}.")
        else:
            yield path + name, value


def _said(first: Any, known: Sequence[str]) -> str:
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{field}: there is no such setting; known: {', '.join(known)}"
    message = first["msg"].removeprefix("Value error, ")
    received = "" if first["type"] == "value_error" else f"; received {first['input']!r}"
    return f"{field}: {message}{received}" if field else message + received


def _nested(name: str, kind: type[BaseModel], given: dict[str, Any]) -> BaseModel:
    """Validate a part of the document, whose errors say where it is."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        found: list[Any] = [
            {"type": e["type"], "loc": (name, *e["loc"]), "input": e["input"], "ctx": e.get("ctx", {})}
            for e in error.errors()
        ]
        raise ValidationError.from_exception_data(name, found) from None
