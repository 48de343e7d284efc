"""Whole epochs on disk, so that an interrupted fit goes on where it was; and the best of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from training.optimizer import plateau_rate

if TYPE_CHECKING:
    import keras

    from training.choices import FitConfig

History = dict[str, list[float]]


class Epochs:
    """Weights, optimizer and history of each epoch, each written beside and renamed.

    What an epoch changes beside the weights (rate of a plateau, the best epoch, the end) is a function of the history
    alone, so that a fit that goes on decides as one that was never cut off.
    """

    def __init__(self, trainee: keras.Model, folder: Path | None, config: FitConfig) -> None:
        self.trainee, self.folder, self.config = trainee, folder, config
        self.finished = False
        self.history: History = {}
        self.kept: list[Any] = []

    def restore(self) -> int:
        """Go on from what the folder holds; return how many epochs are done."""
        if self.folder is None or not (self.folder / "epochs.json").exists():
            return 0
        document = json.loads((self.folder / "epochs.json").read_text(encoding="utf-8"))
        self.trainee.optimizer.build(self.trainee.trainable_variables)
        self.trainee.load_weights(self.folder / document["weights"])
        for state, numbers in zip(self._random_states(), document["random"], strict=True):
            state.assign(np.array(numbers, np.uint32))
        self.history, self.finished = document["history"], document["finished"]
        if not self.finished and document["epochs"] == self.config.epochs:
            # Cut off between the last epoch and the averaging that ends a fit.
            self.trainee.optimizer.finalize_variable_values(self.trainee.trainable_variables)
        return int(document["epochs"])

    def over(self) -> bool:
        """Whether no epoch is to come."""
        losses = self.history.get("val_loss", [])
        patience = self.config.early_stopping
        stopped = bool(patience and losses) and len(losses) - self._best() >= patience
        return stopped or len(self.history.get("loss", [])) >= self.config.epochs

    def finish(self) -> None:
        """End with the best epoch's weights, where the fit stops early; and keep what it ended with."""
        if self.config.early_stopping and self.folder is not None:
            self.trainee.load_weights(self._best_file())
        elif self.kept:
            self.trainee.set_weights(self.kept)
        self.finished = True
        self._save()

    def callback(self) -> keras.callbacks.Callback:
        """Keeps each epoch; sets a plateau's rate; stops early."""
        import keras

        class Keep(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type hints
            def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
                if keeper.config.schedule == "plateau":
                    rate = plateau_rate(keeper.config, keeper.history.get("val_loss", []))
                    keeper.trainee.optimizer.learning_rate.assign(rate)

            def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
                for name, value in (logs or {}).items():
                    keeper.history.setdefault(name, []).append(float(value))
                keeper._keep_best()
                keeper._save()
                if keeper.over():
                    keeper.trainee.stop_training = True

        keeper = self
        return Keep()

    def _best(self) -> int:
        """Number of the epoch with the lowest loss on held-out rows, from 1."""
        return int(np.argmin(self.history["val_loss"])) + 1

    def _best_file(self) -> Path:
        assert self.folder is not None  # noqa: S101 - only called where there is one
        return self.folder / f"best-{self._best()}.weights.h5"

    def _keep_best(self) -> None:
        if not self.config.early_stopping or self._best() < len(self.history["val_loss"]):
            return
        if self.folder is None:
            self.kept = self.trainee.get_weights()
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.trainee.save_weights(self._best_file(), overwrite=True)

    def _save(self) -> None:
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # Two names in turn: the document always points at a complete file.
        epochs = len(self.history["loss"])
        weights = "fitted.weights.h5" if self.finished else f"epoch-{epochs % 2}.weights.h5"
        self.trainee.save_weights(self.folder / weights, overwrite=True)
        document = {
            "epochs": epochs,
            "finished": self.finished,
            "weights": weights,
            "random": [np.asarray(state).tolist() for state in self._random_states()],
            "history": self.history,
        }
        partial = self.folder / "epochs.json.partial"
        partial.write_text(json.dumps(document), encoding="utf-8")
        partial.replace(self.folder / "epochs.json")

    def _random_states(self) -> list[keras.Variable]:
        """Dropout's generators, which no weights file holds."""
        return [v for v in self.trainee.non_trainable_variables if "seed_generator" in v.path]
