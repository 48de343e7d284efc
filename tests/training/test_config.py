"""One frozen value decides a run; a wrong one is refused in one line."""

from pathlib import Path

import pytest

from tests.training.made_up import tiny
from training.config import ConfigError, config_path, load_config

COMMITTED = sorted(config_path("cnn").parent.glob("*.toml"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_every_committed_configuration_loads(path: Path) -> None:
    config = load_config(path)
    assert config.dataset
    assert len(config.sha256) == 64


def test_the_textbook_networks_are_committed() -> None:
    assert {"textbook-dnn", "textbook-cnn", "dnn", "cnn", "regressor", "lstm"} == {path.stem for path in COMMITTED}


def test_any_change_changes_the_hash() -> None:
    assert tiny("dnn").sha256 == tiny("dnn").sha256
    assert tiny("dnn").sha256 != tiny("dnn", seed=4).sha256
    assert tiny("dnn").sha256 != tiny("dnn", model={"units": [17]}).sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('architecture = "transformer"', "unknown architecture 'transformer'; known: cnn, dnn, lstm, regressor"),
        ('architecture = "dnn"\nepochs = 3', "epochs: there is no such setting; known: .*fit.epochs"),
        ('architecture = "dnn"\n[fit]\nepochs = 0', "fit.epochs: .* greater than or equal to 1; received 0"),
        ('architecture = "dnn"\n[model]\nunits = "many"', "units: "),
        ("architecture =", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_a_missing_configuration_lists_the_committed_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="committed ones: cnn, dnn, lstm, regressor, textbook-cnn, textbook-dnn"):
        load_config(tmp_path / "none.toml")
