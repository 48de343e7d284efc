"""One frozen value that says how a model is trained; its sha256 names the run."""

from __future__ import annotations

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, model_validator

from models import UnknownArchitectureError, architecture
from models.errors import ServingError


class ConfigError(ServingError):
    """A configuration that cannot be used. The message is one line and says the remedy."""


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


class FitConfig(BaseModel):
    """How the weights are found.

    Attributes:
        epochs: Passes over the training rows; the learning rate follows one cosine over all of them.
        batch_size: Rows in a step.
        learning_rate: The highest one, after `warmup` epochs.
        warmup: Epochs in which the learning rate rises from 0.
        weight_decay: AdamW's, on kernels; not on biases and normalisation.
        label_smoothing: For classes.
        averaging: Momentum of the exponential average of the weights that the fit ends with; 0 for none.
        point: Loss of the value beside the pinball loss of its interval ("huber", "mse", or "pinball" for the median).
        augment: Pictures only.
        deterministic: The same seed gives the same weights, at some cost in speed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(10, ge=1)
    batch_size: int = Field(128, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    warmup: float = Field(1.0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    averaging: float = Field(0.0, ge=0, lt=1)
    point: Literal["huber", "pinball", "mse"] = "pinball"
    augment: Augment = Augment()
    deterministic: bool = True


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
        model: The architecture's hyperparameters.
        fit: How the weights are found.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str
    dataset: str = ""
    seed: int = 1
    validation: float = Field(0.2, gt=0, lt=1)
    folds: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=50)
    model: SerializeAsAny[BaseModel]
    fit: FitConfig = FitConfig()

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, values: dict[str, Any]) -> dict[str, Any]:
        definition = architecture(str(values.get("architecture", "")))
        given = values.get("model", {})
        if isinstance(given, dict):
            given = definition.config_class.model_validate(given)
        return {**values, "model": given, "dataset": values.get("dataset") or definition.dataset}

    @property
    def sha256(self) -> str:
        """Of the canonical JSON of all fields, defaults included."""
        document = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(document.encode()).hexdigest()


def config_path(name: str) -> Path:
    """Where the committed configuration of that name lies (`cnn`, `textbook-dnn`, ...)."""
    return Path(__file__).parent / "configs" / f"{name}.toml"


def load_config(path: Path) -> TrainConfig:
    """Read a TOML file.

    Raises:
        ConfigError: No such file, no TOML, or a field that is unknown, missing or out of range.
    """
    try:
        return TrainConfig.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        known = ", ".join(sorted(file.stem for file in config_path("").parent.glob("*.toml")))
        raise ConfigError(f"no configuration {path}; committed ones: {known}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    except UnknownArchitectureError as error:
        raise ConfigError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "configuration"
        raise ConfigError(f"{path}: {field}: {first['msg']}; received {first['input']!r}") from None
