"""Training that goes on from another version's weights: first a new head on a frozen body, then everything, slower."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import KERAS
from models.errors import ConfigError
from models.task import Category, Classes, Records
from models.task.changes import breaking
from training.config import make_config
from training.datasets import DataError
from training.fingerprints import fingerprints
from training.fit import History, fit
from training.soundness import SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import keras

    from models.bundle import Bundle
    from models.task import Task
    from training.choices import FitConfig
    from training.config import TrainConfig
    from training.split import Part

Lesson = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Start:
    """The version that training begins with.

    Attributes:
        bundle: Every file of it is verified.
    """

    bundle: Bundle

    @property
    def name(self) -> str:
        """`name:version`."""
        return f"{self.bundle.manifest.name}:{self.bundle.manifest.version}"

    @property
    def task(self) -> Task:
        """What its numbers mean."""
        return self.bundle.manifest.task


def start_from(bundle: Bundle, architecture: str) -> Start:
    """A version to begin with, verified whole before any of it is deserialised.

    Raises:
        BundleError: A file is missing or altered.
        ConfigError: It is of another architecture.
    """
    found = bundle.manifest.architecture
    if found != architecture:
        remedy = f"train {found}" if found != "imported" else "train from scratch: nothing is known of its layers"
        raise ConfigError(
            f"{bundle.manifest.name}:{bundle.manifest.version} is of the architecture {found}, "
            f"not {architecture}: {remedy}"
        )
    bundle.verify()
    return Start(bundle)


def begun(config: TrainConfig, start: Start, settings: Sequence[str] = (), *, keep_model: bool = False) -> TrainConfig:
    """A configuration that begins with a version: its hyperparameters, unless the user's own file says others.

    Args:
        config: Of the run.
        start: The version.
        settings: `key=value` each, that the user changed.
        keep_model: The configuration's hyperparameters are the user's.

    Raises:
        ConfigError: A setting that is unknown or at odds with another.
    """
    document = config.model_dump(mode="json")
    document["transfer"]["parent"] = start.name
    if not keep_model:
        document["model"] = start.bundle.manifest.lineage.config["model"]
    return make_config(document, settings, source="--from")


def refuse_unsuited(start: Start, task: Task, data_sha256: str, config: TrainConfig) -> None:
    """Refuse data whose numbers mean something else than those that the version was trained on.

    Classes may differ: they get a new head. What else differs would make the weights meaningless.

    Raises:
        ConfigError: Says what differs; or that its seed must be used, since it parts the same data.
    """
    old = start.task
    if old.kind == task.kind and isinstance(old, Classes) and isinstance(task, Classes):
        same: dict[str, Any] = {"labels": task.labels}
        if isinstance(task, Records):
            same["target"] = task.target
        old = old.model_copy(update=same)
    found = breaking(old, task)
    if not found and isinstance(old, Records) and isinstance(task, Records):
        for before, now in zip(old.fields, task.fields, strict=True):
            if isinstance(before, Category) and isinstance(now, Category) and before.values != now.values:
                new = ", ".join(now.values[len(before.values) :])
                found.append(f"{now.name} has values that it does not know: {new}")
            elif before.missing != now.missing:
                found.append(f"{now.name} may be missing, which it does not know")
    if found:
        raise ConfigError(
            f"{start.name} was trained on other data: {'; '.join(found)}. Train from scratch, without --from"
        )
    lineage = start.bundle.manifest.lineage
    if lineage.data_sha256 == data_sha256 and lineage.seed != config.seed:
        raise ConfigError(
            f"{start.name} was trained on the same data with the seed {lineage.seed}, and another seed would hold out "
            f"rows that it was trained on: set seed = {lineage.seed}"
        )


def refuse_known(start: Start, test: Part) -> list[str]:
    """Refuse test rows that the version was trained on; a line for a person about those that are few enough.

    Raises:
        DataError: Too many are.
    """
    known = start.bundle.trained_rows()
    if known is None:
        return [f"{start.name} does not say which rows it was trained on: if test rows are among them, figures flatter"]
    share = float(np.isin(fingerprints(test.rows), known).mean())
    if share > SEEN:
        raise DataError(
            f"{share:.0%} of the test rows were training rows of {start.name} (at most {SEEN:.0%} may be), and the "
            "figures would mean nothing. Train on rows that are new to it, or from scratch."
        )
    return [f"begins with {start.name}, which was trained on {share:.1%} of the test rows"]


def fit_from(
    start: Start,
    model: keras.Model,
    task: Task,
    lessons: tuple[Lesson, Lesson | None],
    config: TrainConfig,
    *,
    checkpoints: Path | None = None,
    tensorboard: Path | None = None,
) -> History:
    """Take the version's weights and train on, in place.

    A head for other classes learns alone first: its random gradients would spoil the body. The frozen body's batch
    normalisation works with the statistics that it has. Then everything learns, at a lower rate.

    Args:
        start: The version.
        model: Of the same architecture; from rows to output rows.
        task: Of the model.
        lessons: Rows and what the layer `head` should say of them: to train on, and to watch, if any.
        config: Of the run.
        checkpoints: As `training.fit.fit` takes it.
        tensorboard: As well.

    Returns:
        Each epoch's losses and metrics, those of the frozen body first.
    """
    train, held_out = lessons
    new_head = isinstance(task, Classes) and isinstance(start.task, Classes) and task.labels != start.task.labels
    body = take_weights(model, start, new_head=new_head)
    transfer, first = config.transfer, {}
    if new_head and transfer.frozen_epochs:
        alone = checkpoints / "head" if checkpoints else None
        with _frozen(body):
            first = fit(
                model, train, held_out, _head_only(config), seed=config.seed, checkpoints=alone, tensorboard=tensorboard
            )
    lower = config.fit.model_copy(update={"learning_rate": config.fit.learning_rate * transfer.rate})
    then = fit(
        model,
        train,
        held_out,
        lower,
        seed=config.seed,
        checkpoints=checkpoints,
        tensorboard=tensorboard,
        before=len(first.get("loss", [])),
    )
    return {name: [*first.get(name, []), *values] for name, values in then.items()}


def _head_only(config: TrainConfig) -> FitConfig:
    """A short fit at one rate: too few weights for a schedule, and all of its epochs count."""
    plain = {"schedule": "constant", "warmup": 0.0, "decay": None, "decay_epochs": None}
    none = {"early_stopping": 0, "averaging": 0.0}
    return config.fit.model_copy(update={"epochs": config.transfer.frozen_epochs, **plain, **none})


def take_weights(model: keras.Model, start: Start, *, new_head: bool) -> list[keras.Layer]:
    """Copy weights layer by layer; what new training rows fixed (a frozen ridge regression) stays.

    Args:
        model: Of the same architecture.
        start: Where they come from.
        new_head: The last layer's stay as they are.

    Returns:
        The layers that were copied.

    Raises:
        ConfigError: Other hyperparameters than the version's.
    """
    ours, theirs = _layers(model), _layers(_load(start.bundle))
    if len(ours) != len(theirs):
        raise ConfigError(
            f"{start.name} has {len(theirs)} layers with weights, this network {len(ours)}: "
            "leave the settings model.* out"
        )
    pairs = list(zip(ours, theirs, strict=True))[: -1 if new_head else None]
    for our, their in pairs:
        wanted, found = ([weight.shape for weight in layer.get_weights()] for layer in (our, their))
        if wanted != found:
            raise ConfigError(
                f"{start.name} has weights of the shape {found} where this network's layer {our.name} has {wanted}: "
                "leave the settings model.* out"
            )
    for our, their in pairs:
        our.set_weights(their.get_weights())
    return [our for our, _ in pairs]


def _layers(model: keras.Model) -> list[keras.Layer]:
    return [layer for layer in model.layers if layer.trainable and layer.weights]


def _load(bundle: Bundle) -> keras.Model:
    """From the verified bytes, so that what was hashed is what is loaded."""
    import keras

    with tempfile.NamedTemporaryFile(suffix=".keras") as file:
        file.write(bundle.read(KERAS))
        file.flush()
        return keras.saving.load_model(file.name, compile=False, safe_mode=True)


@contextmanager
def _frozen(body: list[keras.Layer]) -> Iterator[None]:
    for layer in body:
        layer.trainable = False
    try:
        yield
    finally:
        for layer in body:
            layer.trainable = True
