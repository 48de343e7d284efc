"""Every choice of the trade: what it does, and which combinations are refused with the reason and the remedy."""

from pathlib import Path
from typing import Any, get_args

import keras
import numpy as np
import pytest

from models import architecture
from models.errors import ConfigError
from tests.training.made_up import tiny
from training.choices import RATES, FitConfig, Optimizer
from training.config import load_config, make_config
from training.losses import interval_loss, objective
from training.optimizer import limit_norms, optimizer, plateau_rate
from training.split import Part, Split


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        ({"optimizer": "adam", "weight_decay": 0.1}, 'adam has no weight decay: set optimizer = "adamw"'),
        ({"schedule": "constant", "warmup": 2}, 'constant has no warm-up: set schedule = "cosine"'),
        ({"schedule": "cosine", "decay": 0.1}, 'decay is not used by cosine: set schedule = "step"'),
        ({"epochs": 3, "warmup": 5}, "warmup of 5 epochs is longer than the fit of 3"),
        ({"early_stopping": 2, "averaging": 0.9}, "set early_stopping = 0 or averaging = 0"),
        ({"loss": "sparse_categorical_crossentropy", "label_smoothing": 0.1}, "has no label smoothing: set loss"),
        ({"loss": "mse"}, 'fit.loss = "mse" is not for classes: set one of categorical_crossentropy'),
        ({"optimizer": "lion"}, "fit.optimizer: .*'adamw'; received 'lion'"),
    ],
)
def test_a_wrong_combination_is_refused_with_the_remedy(fit: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        make_config({"architecture": "dnn", "fit": fit})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"fit": {"loss": "binary_crossentropy"}}, "is not for values: set one of pinball, huber, mse, mae"),
        ({"fit": {"label_smoothing": 0.1}}, "label_smoothing is for classes"),
        ({"fit": {"augment": {"flip": True}}}, "augment is for pictures"),
        ({"folds": 3, "fit": {"early_stopping": 2}}, "set folds = 0"),
        ({"folds": 3, "fit": {"schedule": "plateau"}}, "set folds = 0"),
        ({"folds": 3, "transfer": {"parent": "cars:1"}}, "cars:1 may have seen all of them: set folds = 0"),
        ({"transfer": {"rate": 0.1}}, "transfer is of a fit that begins with a version: name it with --from"),
        ({"model": {"activation": "swish"}}, "model.activation: .*'maxout'; received 'swish'"),
    ],
)
def test_what_does_not_suit_a_table_is_refused(document: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({"architecture": "regressor", **document})


def test_blocks_that_leave_nothing_of_a_picture_are_refused() -> None:
    config = tiny("cnn", model={"filters": [4, 4, 4], "kernel": 7, "padding": "valid"})
    task = _picture_task()
    with pytest.raises(ConfigError, match=r"leave nothing of 28 x 28 pixels: use fewer filters"):
        architecture("cnn").build(config.model, task, {})


def test_each_optimizer_has_a_rate_of_its_own_and_the_manifest_gets_it() -> None:
    assert set(RATES) == set(get_args(Optimizer))
    assert FitConfig(optimizer="sgd").learning_rate == RATES["sgd"]
    assert FitConfig(optimizer="sgd", learning_rate=0.5).learning_rate == 0.5
    step = FitConfig(schedule="step")
    assert (step.warmup, step.decay, step.decay_epochs) == (0, 0.5, 5)
    assert FitConfig.model_validate(step.model_dump()) == step


def test_a_manifest_from_before_there_were_losses_to_choose_is_read() -> None:
    assert FitConfig.model_validate({"point": "huber"}).loss == "huber"


def test_the_step_schedule_halves_and_the_cosine_ends_at_nothing() -> None:
    step = optimizer(FitConfig(optimizer="sgd", schedule="step", learning_rate=0.8, decay_epochs=2), steps=10)
    rates = []
    for iteration in (0, 19, 20, 40):
        step.iterations.assign(iteration)
        rates.append(float(step.learning_rate))
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.2])
    cosine = optimizer(FitConfig(epochs=4, learning_rate=0.8), steps=10)
    cosine.iterations.assign(40)
    assert float(cosine.learning_rate) == pytest.approx(0, abs=1e-6)


def test_a_plateau_lowers_the_rate_only_after_the_wait() -> None:
    config = FitConfig(schedule="plateau", learning_rate=0.8, decay_epochs=2)
    assert plateau_rate(config, [3, 2, 2.5]) == 0.8
    assert plateau_rate(config, [3, 2, 2.5, 2.1]) == 0.4
    assert plateau_rate(config, [3, 2, 2.5, 2.1, 1.9]) == 0.4


def test_max_norm_keeps_the_weights_of_each_unit_short() -> None:
    rows = keras.Input((3,))
    model = keras.Model(rows, keras.layers.Dense(4)(rows))
    limit_norms(model, 0.5)
    model.compile(optimizer(FitConfig(optimizer="sgd", schedule="constant"), 1), loss="mse")
    model.fit(np.ones((8, 3), np.float32), np.full((8, 4), 9, np.float32), epochs=3, verbose=0)
    assert np.linalg.norm(model.get_weights()[0], axis=0).max() <= 0.5 + 1e-5


@pytest.mark.parametrize(
    ("loss", "head", "answer", "truth", "kind"),
    [
        ("auto", (None, 3), [[0, 9, 0]], [[0, 1, 0]], "CategoricalCrossentropy"),
        ("sparse_categorical_crossentropy", (None, 3), [[0, 9, 0]], [[0, 1, 0]], "SparseCategoricalCrossentropy"),
        ("auto", (None, 1), [[9]], [[1]], "BinaryCrossentropy"),
        ("binary_crossentropy", (None, 2), [[-9, 9]], [[0, 1]], "CategoricalCrossentropy"),
        ("auto", (None, 2, 3), np.ones((1, 2, 3)), [1], "IntervalLoss"),
    ],
)
def test_the_loss_suits_what_the_network_says_and_is_small_where_it_is_right(
    loss: Any, head: Any, answer: Any, truth: Any, kind: str
) -> None:
    aim = objective(FitConfig(loss=loss), head)
    assert type(aim.loss).__name__ == kind
    right = aim.truths(np.array(truth, np.float32))
    wrong = aim.truths(1 - np.array(truth, np.float32)) if len(head) == 2 else right + 3
    answers = np.array(answer, np.float32)
    assert float(aim.loss(right, answers)) < 0.01 < float(aim.loss(wrong, answers))


@pytest.mark.parametrize(
    ("loss", "head"), [("binary_crossentropy", (None, 10)), ("mae", (None, 3)), ("mse", (None, 1))]
)
def test_a_loss_that_does_not_suit_the_network_is_refused(loss: Any, head: Any) -> None:
    with pytest.raises(ConfigError, match="set one of"):
        objective(FitConfig(loss=loss), head)


def test_squared_and_absolute_errors_are_what_they_say() -> None:
    def loss(point: Any, error: float) -> float:
        answer = np.zeros((1, 1, 3), np.float32)
        return float(interval_loss(point)(np.array([error], np.float32), answer))

    # Both ends add the same to each, so differences are the value's part alone.
    assert loss("mse", 3) - loss("mae", 3) == pytest.approx(9 - 3)
    assert loss("mae", 3) - loss("huber", 3) == pytest.approx(0.5)
    assert loss("mae", 3) - loss("pinball", 3) == pytest.approx(1.5)


def test_fewer_training_rows_leave_the_other_parts_alone() -> None:
    part = Part(np.arange(100), np.arange(100))
    split = Split(part, part.take(slice(9)), part.take(slice(5)))
    fewer = split.fewer(20, seed=1)
    assert (len(fewer.train), len(fewer.validation), len(fewer.test)) == (20, 9, 5)
    assert len(set(fewer.train.rows.tolist())) == 20
    assert split.fewer(None, seed=1) is split


SETTINGS = [
    (["fit.optimizer=nesterov"], "nesterov", 0.02, 0.0),
    (["optimizer=nesterov", "learning_rate=0.3"], "nesterov", 0.3, 0.0),
    (["fit.optimizer=adamw"], "adamw", 0.003, 0.05),
]


@pytest.mark.parametrize(("settings", "name", "rate", "decay"), SETTINGS)
def test_another_optimizer_forgets_the_numbers_of_the_former_one(
    tmp_path: Path, settings: list[str], name: str, rate: float, decay: float
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('architecture = "dnn"\n[fit]\nlearning_rate = 0.003\nweight_decay = 0.05', encoding="utf-8")
    fit = load_config(path, settings).fit
    assert (fit.optimizer, fit.learning_rate, fit.weight_decay) == (name, rate, decay)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("fit.optimiser=sgd", "no setting 'fit.optimiser'; known: .*fit.optimizer"),
        ("epochs", "is no setting: write KEY=VALUE"),
        ("epochs=many", "fit.epochs: .*received 'many'"),
    ],
)
def test_a_wrong_setting_is_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config({"architecture": "dnn"}, [setting])


def test_a_setting_takes_toml() -> None:
    config = make_config({"architecture": "dnn"}, ["model.units=[7, 5]", "activation=tanh", "fit.augment.flip=true"])
    assert config.model.model_dump()["units"] == (7, 5)
    assert config.model.model_dump()["activation"] == "tanh"
    assert config.fit.augment.flip


def _picture_task() -> Any:
    from training.datasets import data_set

    return data_set("fashion-mnist").task
