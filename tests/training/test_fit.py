"""Fitting: losses, augmentation, and going on after an interruption."""

from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import architecture
from models.errors import ConfigError
from tests.training.made_up import pictures, tiny
from training.augment import augment
from training.config import Augment, FitConfig
from training.datasets import data_set
from training.epochs import Epochs
from training.fit import History, fit, seed_everything
from training.losses import interval_loss

# Each choice takes three fits; that compiled ones go on as well is the first interruption below.
pytestmark = [
    pytest.mark.usefixtures("uncompiled"),
    # TensorFlow's word that it compiles what prepares the batches all the same.
    pytest.mark.filterwarnings("ignore:Even though the .tf.config:UserWarning"),
]


class PowerCutError(Exception):
    """Stands for a power cut."""


def trained(config: FitConfig, checkpoints: Path | None, *, watch: bool = False) -> tuple[keras.Model, History]:
    definition, task = architecture("dnn"), data_set("fashion-mnist").task
    seed_everything(5, deterministic=True)
    model = definition.build(tiny("dnn").model, task, {})
    raw = pictures()
    assert raw.pictures is not None
    rows = raw.pictures[..., np.newaxis]
    lesson = rows, definition.targets(task, {}, rows, raw.table["label"].to_numpy())
    watched = (lesson[0][::3], lesson[1][::-3]) if watch else None
    history = fit(model, lesson, watched, config, seed=5, checkpoints=checkpoints)
    return model, history


def watched_loss(model: keras.Model) -> float:
    """Of the rows that `trained` watches, with truths that are another picture's."""
    raw = pictures()
    assert raw.pictures is not None
    truths = raw.table["label"].to_numpy()[::-3]
    shares = model.predict(raw.pictures[::3, ..., np.newaxis], verbose=0)[np.arange(len(truths)), truths]
    return float(-np.log(np.maximum(shares, 1e-30)).mean())


def test_the_loss_falls_and_the_history_has_every_epoch() -> None:
    _, history = trained(FitConfig(epochs=4, batch_size=32, learning_rate=0.01, warmup=0), None)
    assert len(history["loss"]) == 4
    assert history["loss"][-1] < history["loss"][0]


@pytest.fixture
def compiled() -> Iterator[None]:
    """As users fit, in this one test."""
    tf.config.run_functions_eagerly(False)
    yield
    tf.config.run_functions_eagerly(True)


@pytest.mark.usefixtures("compiled")
def test_an_interrupted_fit_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FitConfig(epochs=4, batch_size=32, averaging=0.9, augment=Augment(flip=True, shift=1))
    whole, history = trained(config, None)

    with monkeypatch.context() as patch:
        patch.setattr("training.epochs.Epochs._save", _save_until(2))
        with pytest.raises(PowerCutError):
            trained(config, tmp_path)
    again, resumed = trained(config, tmp_path)

    assert resumed["loss"] == pytest.approx(history["loss"], rel=1e-5)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(epochs=3, batch_size=32, optimizer="sgd", schedule="constant"),
        FitConfig(epochs=3, batch_size=32, optimizer="nesterov", schedule="step", decay_epochs=1),
        FitConfig(epochs=3, batch_size=32, optimizer="adagrad", max_norm=1.0),
        FitConfig(epochs=3, batch_size=32, optimizer="rmsprop", loss="sparse_categorical_crossentropy"),
        FitConfig(epochs=3, batch_size=32, optimizer="adam", schedule="plateau", decay_epochs=1, learning_rate=0.3),
        FitConfig(epochs=3, batch_size=32, optimizer="momentum", early_stopping=1, learning_rate=2.0, warmup=0),
    ],
    ids=lambda config: f"{config.optimizer}-{config.schedule}",
)
def test_each_choice_gives_the_same_weights_again_and_after_an_interruption(
    config: FitConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, history = trained(config, None, watch=True)
    with monkeypatch.context() as patch:
        patch.setattr("training.epochs.Epochs._save", _save_until(1))
        with pytest.raises(PowerCutError):
            trained(config, tmp_path, watch=True)
    again, resumed = trained(config, tmp_path, watch=True)
    assert resumed["val_loss"] == pytest.approx(history["val_loss"], rel=1e-4)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_early_stopping_ends_with_the_best_epochs_weights() -> None:
    config = FitConfig(epochs=30, batch_size=32, early_stopping=2, optimizer="adam", learning_rate=0.2, warmup=0)
    model, history = trained(config, None, watch=True)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 3 < 30
    assert watched_loss(model) == pytest.approx(history["val_loss"][best], rel=1e-3)


def test_what_watches_held_out_rows_is_refused_without_them() -> None:
    with pytest.raises(ConfigError, match="hold some out"):
        trained(FitConfig(early_stopping=2), None)


def test_a_finished_fit_is_not_repeated(tmp_path: Path) -> None:
    config = FitConfig(epochs=1, batch_size=32, averaging=0.9)
    first, _ = trained(config, tmp_path)
    second, _ = trained(config, tmp_path)
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_pinball_loss_has_its_least_at_the_quantiles() -> None:
    truth = np.random.default_rng(0).normal(size=(4000,)).astype(np.float32)

    def loss(low: float, high: float) -> float:
        answer = np.tile(np.array([0, low, high], np.float32), (4000, 1, 1))
        return float(interval_loss("pinball")(truth, answer))

    at_the_quantiles = loss(*np.quantile(truth, [0.1, 0.9]).tolist())
    assert at_the_quantiles < min(loss(-1.0, 1.0), loss(-1.7, 1.7), loss(-1.28, 0.5))


@pytest.mark.parametrize("point", ["huber", "pinball"])
def test_the_loss_takes_records_and_forecasts(point: str) -> None:
    loss = interval_loss(point)  # type: ignore[arg-type]
    assert float(loss(np.zeros((5,), np.float32), np.zeros((5, 2, 3), np.float32))) == 0
    assert float(loss(np.zeros((5, 24), np.float32), np.ones((5, 2, 24, 3), np.float32))) > 0


def test_augmentation_keeps_shape_and_dtype_and_the_original() -> None:
    original = np.random.default_rng(0).integers(1, 256, (64, 28, 28, 1), dtype=np.uint8)
    before = original.copy()
    for config in (Augment(shift=2), Augment(flip=True), Augment(erase=1.0), Augment(shift=1, flip=True, erase=0.5)):
        changed = augment(original, config, np.random.default_rng(1))
        assert changed.shape == original.shape
        assert changed.dtype == np.uint8
        assert (changed != original).any()
    np.testing.assert_array_equal(original, before)
    assert augment(original, Augment(), np.random.default_rng(1)) is original


def test_a_shift_moves_by_whole_pixels() -> None:
    dot = np.zeros((200, 9, 9, 1), np.uint8)
    dot[:, 4, 4] = 255
    moved = augment(dot, Augment(shift=2), np.random.default_rng(0))
    where = np.argwhere(moved[..., 0])[:, 1:]
    assert len(where) == 200
    assert where.min() == 2
    assert where.max() == 6


def _save_until(epoch: int) -> Callable[..., None]:
    """The power goes after that epoch was saved."""
    save = Epochs._save

    def cut(self: Epochs) -> None:
        save(self)
        if len(self.history["loss"]) == epoch:
            raise PowerCutError

    return cut
