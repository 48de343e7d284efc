"""What a bundle says of where it comes from."""

from datetime import UTC, datetime

import pytest

from tests.training.made_up import tiny
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


def test_a_configuration_of_ones_own_has_no_committed_name() -> None:
    assert command(run(tiny("lstm"), "lstm")) == "keras-serving train lstm --config CONFIG.toml"


def test_without_git_the_code_version_is_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(publish, "version", lambda _: "1.2.3")
    assert code_version() == "1.2.3"
