"""What a bundle says of where it comes from."""

import shlex
from datetime import UTC, datetime

import pytest

from training import publish
from training.config import TrainConfig, config_path, load_config
from training.datasets import data_set
from training.publish import Run, code_version, command


def run(config: TrainConfig, name: str) -> Run:
    return Run(name, config, data_set(config.dataset), "DATA_DIR", datetime(2026, 1, 1, tzinfo=UTC))


def test_the_command_names_the_committed_configuration() -> None:
    assert command(run(load_config(config_path("cnn")), "cnn")) == "keras-serving train cnn"
    assert command(run(load_config(config_path("cnn")), "shoes")) == "keras-serving train cnn --name shoes"
    assert command(run(load_config(config_path("textbook-dnn")), "dnn")) == (
        "keras-serving train dnn --config training/configs/textbook-dnn.toml"
    )


@pytest.mark.parametrize(
    "settings",
    [
        ["fit.optimizer=nesterov"],
        ["fit.optimizer=sgd", "fit.learning_rate=0.003", "model.units=[100, 50]", "model.activation=tanh"],
        ["fit.schedule=step", "fit.augment.shift=2", "seed=4", "fit.batch_size=64", "limit=500"],
    ],
)
def test_the_command_of_changed_settings_gives_the_same_configuration(settings: list[str]) -> None:
    config = load_config(config_path("dnn"), settings)
    words = shlex.split(command(run(config, "mine")))
    assert words[:5] == ["keras-serving", "train", "dnn", "--name", "mine"]
    assert set(words[5::2]) == {"--set"}
    assert load_config(config_path("dnn"), words[6::2]) == config
    assert set(settings) <= {word.replace('"', "") for word in words[6::2]}


def test_without_git_the_code_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(publish, "version", lambda _: "1.2.3")
    assert code_version() == "1.2.3"
