"""Build and fit: the loss sees the layer `head`; an interrupted fit goes on from its last whole epoch."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models import HEAD
from models.errors import ConfigError
from training.augment import augment
from training.choices import Augment
from training.epochs import Epochs, History
from training.losses import objective
from training.optimizer import limit_norms, optimizer
from training.tensorboard import logs

if TYPE_CHECKING:
    import keras

    from training.choices import FitConfig

__all__ = ["History", "fit", "seed_everything"]


def seed_everything(seed: int, *, deterministic: bool) -> None:
    """Seed Python, NumPy and TensorFlow; with `deterministic` the same seed gives the same weights."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def fit(
    model: keras.Model,
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None,
    config: FitConfig,
    *,
    seed: int,
    checkpoints: Path | None = None,
    tensorboard: Path | None = None,
    before: int = 0,
) -> History:
    """Train `model` in place, up to its layer `head`.

    Args:
        model: From rows to output rows; what follows `head` must have no weights to train.
        train: Rows as the model takes them, and what `head` should say, float32.
        validation: Watched each epoch, never trained on; none watches nothing.
        config: How.
        seed: Of order and augmentation.
        checkpoints: Folder that keeps each whole epoch, so that the same call goes on there; none keeps nothing.
        tensorboard: Folder for the course of the fit, as `training.tensorboard` writes it; none writes nothing.
        before: Epochs that count first there.

    Returns:
        Each epoch's losses and metrics, by name.

    Raises:
        ConfigError: A choice that does not suit this network or these rows.
    """
    import keras

    trainee = keras.Model(model.input, model.get_layer(HEAD).output)
    aim = objective(config, trainee.output.shape)
    watched = (validation[0], aim.truths(validation[1])) if validation else None
    if watched is None and (config.early_stopping or config.schedule == "plateau"):
        raise ConfigError(
            "early stopping and a plateau schedule watch held-out rows, and there are none: hold some out"
        )
    if config.augment != Augment() and train[0].ndim != 4:
        raise ConfigError("fit.augment is for pictures, and these rows are none: leave it out")
    if config.max_norm:
        limit_norms(trainee, config.max_norm)
    steps = math.ceil(len(train[0]) / config.batch_size)
    trainee.compile(optimizer=optimizer(config, steps), loss=aim.loss, metrics=aim.metrics)
    epochs = Epochs(trainee, checkpoints, config)
    done = epochs.restore()
    if not epochs.over():
        trainee.fit(
            _batches((train[0], aim.truths(train[1])), config, seed=seed, epoch=done),
            validation_data=watched,
            validation_batch_size=1024,
            initial_epoch=done,
            epochs=config.epochs,
            shuffle=False,
            # An epoch that counts as done is written before it does: none is missing after an interruption.
            callbacks=[*([logs(tensorboard, before=before)] if tensorboard else []), epochs.callback()],
            # One line an epoch where nobody watches a bar.
            verbose=1 if sys.stderr.isatty() else 2,
        )
    if not epochs.finished:
        epochs.finish()
    return epochs.history


def _batches(data: tuple[np.ndarray, np.ndarray], config: FitConfig, *, seed: int, epoch: int) -> keras.utils.PyDataset:
    import keras

    class Batches(keras.utils.PyDataset):  # type: ignore[misc]  # Keras has no type hints
        """Shuffled and augmented from (seed, epoch, batch) alone, so that a resumed fit sees the same pictures."""

        def __init__(self) -> None:
            super().__init__()
            self.epoch = epoch
            self._shuffle()

        def _shuffle(self) -> None:
            self.order = np.random.default_rng([seed, self.epoch]).permutation(len(data[0]))

        def __len__(self) -> int:
            return math.ceil(len(data[0]) / config.batch_size)

        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            chosen = self.order[index * config.batch_size : (index + 1) * config.batch_size]
            rng = np.random.default_rng([seed, self.epoch, index])
            return augment(data[0][chosen], config.augment, rng), data[1][chosen]

        def on_epoch_end(self) -> None:
            self.epoch += 1
            self._shuffle()

    return Batches()
