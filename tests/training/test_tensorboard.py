"""The course of a fit, as TensorBoard reads it."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util.event_pb2 import Event

from tests.training.test_fit import PowerCutError, _save_until, trained
from training import fit
from training.choices import FitConfig

CONFIG = FitConfig(epochs=3, batch_size=32, learning_rate=0.02, schedule="step", decay_epochs=1)
Curves = dict[str, dict[int, float]]


def curves(folder: Path) -> Curves:
    """Tag to value by step, of every events file of a folder; each must be one that the scalars page shows."""
    found: Curves = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(file)):
            for value in Event.FromString(record.numpy()).summary.value:
                assert value.metadata.plugin_data.plugin_name == "scalars"
                step = Event.FromString(record.numpy()).step
                assert step not in found.get(value.tag, {})
                found.setdefault(value.tag, {})[step] = float(tf.make_ndarray(value.tensor))
    return found


@pytest.fixture
def logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder into which `trained` writes from now on."""
    original = fit.fit
    monkeypatch.setattr(
        "tests.training.test_fit.fit",
        lambda *given, **options: original(*given, **options, tensorboard=tmp_path / "tb"),
    )
    return tmp_path / "tb"


def test_losses_metrics_and_the_learning_rate_are_there_by_epoch(logged: Path) -> None:
    _, history = trained(CONFIG, None, watch=True)
    train, validation = curves(logged / "train"), curves(logged / "validation")
    assert set(train) == {"epoch_loss", "epoch_accuracy", "epoch_learning_rate"}
    assert set(validation) == {"epoch_loss", "epoch_accuracy"}
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(list(train[f"epoch_{name}"].values()), history[name], rtol=1e-6)
        np.testing.assert_allclose(list(validation[f"epoch_{name}"].values()), history[f"val_{name}"], rtol=1e-6)
    assert list(train["epoch_loss"]) == [0, 1, 2]
    # Halved each epoch; what is written is the rate of the step to come.
    np.testing.assert_allclose(list(train["epoch_learning_rate"].values()), [0.01, 0.005, 0.0025], rtol=1e-6)


def test_a_fit_that_goes_on_adds_the_rest_of_its_curve(
    logged: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("training.epochs.Epochs._save", _save_until(2))
        with pytest.raises(PowerCutError):
            trained(CONFIG, tmp_path / "checkpoints")
    _, history = trained(CONFIG, tmp_path / "checkpoints")
    found = curves(logged / "train")["epoch_loss"]
    assert list(found) == [0, 1, 2]
    np.testing.assert_allclose(list(found.values()), history["loss"], rtol=1e-5)
