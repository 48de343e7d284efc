"""Build and fit: the loss sees the layer `head`; an interrupted fit goes on from its last whole epoch."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models import HEAD
from training.augment import augment

if TYPE_CHECKING:
    import keras

    from training.config import FitConfig

History = dict[str, list[float]]


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
) -> History:
    """Train `model` in place, up to its layer `head`.

    Args:
        model: From rows to output rows; what follows `head` must have no weights to train.
        train: Rows as the model takes them, and what `head` should say, float32.
        validation: Watched each epoch, never trained on; none watches nothing.
        config: How.
        seed: Of order and augmentation.
        checkpoints: Folder that keeps each whole epoch, so that the same call goes on there; none keeps nothing.

    Returns:
        Each epoch's losses and metrics, by name.
    """
    import keras

    trainee = keras.Model(model.input, model.get_layer(HEAD).output)
    steps = math.ceil(len(train[0]) / config.batch_size)
    trainee.compile(optimizer=_optimizer(config, steps), **_objective(config, train[1]))
    epochs = _Epochs(trainee, checkpoints, config.epochs)
    done, history = epochs.restore()
    if done < config.epochs:
        trainee.fit(
            _batches(train, config, seed=seed, epoch=done),
            validation_data=validation,
            validation_batch_size=1024,
            initial_epoch=done,
            epochs=config.epochs,
            shuffle=False,
            callbacks=[epochs.callback(history)],
            # One line an epoch where nobody watches a bar.
            verbose=1 if sys.stderr.isatty() else 2,
        )
        epochs.save(config.epochs, history, finished=True)
    return history


def _optimizer(config: FitConfig, steps: int) -> keras.optimizers.Optimizer:
    import keras

    warmup = round(config.warmup * steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0 if warmup else config.learning_rate,
        max(1, config.epochs * steps - warmup),
        warmup_target=config.learning_rate if warmup else None,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        use_ema=config.averaging > 0,
        ema_momentum=config.averaging or 0.99,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _objective(config: FitConfig, targets: np.ndarray) -> dict[str, Any]:
    import keras

    from training.losses import interval_loss

    if targets.ndim == 2 and np.array_equal(targets.sum(axis=1), np.ones(len(targets))):
        loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
        return {"loss": loss, "metrics": ["accuracy"]}
    return {"loss": interval_loss(config.point)}


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


class _Epochs:
    """Whole epochs on disk: weights, optimizer and history, each written beside and renamed."""

    def __init__(self, trainee: keras.Model, folder: Path | None, last: int) -> None:
        self.trainee, self.folder, self.last = trainee, folder, last

    def restore(self) -> tuple[int, History]:
        if self.folder is None or not (self.folder / "epochs.json").exists():
            return 0, {}
        document = json.loads((self.folder / "epochs.json").read_text(encoding="utf-8"))
        self.trainee.optimizer.build(self.trainee.trainable_variables)
        self.trainee.load_weights(self.folder / document["weights"])
        for state, numbers in zip(self._random_states(), document["random"], strict=True):
            state.assign(np.array(numbers, np.uint32))
        if not document["finished"] and document["epochs"] == self.last:
            # Cut off between the last epoch and the averaging that ends a fit.
            self.trainee.optimizer.finalize_variable_values(self.trainee.trainable_variables)
        return document["epochs"], document["history"]

    def save(self, epochs: int, history: History, *, finished: bool = False) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Two names in turn: the document always points at a complete file.
        weights = "fitted.weights.h5" if finished else f"epoch-{epochs % 2}.weights.h5"
        self.trainee.save_weights(self.folder / weights, overwrite=True)
        random = [np.asarray(state).tolist() for state in self._random_states()]
        document = {
            "epochs": epochs,
            "finished": finished,
            "weights": weights,
            "random": random,
            "history": history,
        }
        partial = self.folder / "epochs.json.partial"
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(self.folder / "epochs.json")

    def _random_states(self) -> list[keras.Variable]:
        """Dropout's generators, which no weights file holds."""
        return [v for v in self.trainee.non_trainable_variables if "seed_generator" in v.path]

    def callback(self, history: History) -> keras.callbacks.Callback:
        import keras

        class Keep(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type hints
            def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
                for name, value in (logs or {}).items():
                    history.setdefault(name, []).append(float(value))
                keeper.save(epoch + 1, history)

        keeper = self
        return Keep()
