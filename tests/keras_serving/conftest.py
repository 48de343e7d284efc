"""A command line to run, on shipped bundles or in the home of a user who trains on a table of their own."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from keras_serving.main import run
from models.store import Store
from tests.bundles import CARS, CREATED, make_bundle
from tests.conftest import MadeOnce
from tests.keras_serving.training_cli import TRAIN, bring_data

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(
    home: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Cli:
    """Runs a command line: exit status, standard output, standard error."""
    monkeypatch.setenv("SERVING_HOME", str(home))
    monkeypatch.setenv("SERVING_PRETRAINED", str(shipped))
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def versions(store: Store, tmp_path: Path) -> list[str]:
    """Three versions of ``cars``, oldest first; the first is in production."""
    for seed in (1, 2):
        store.add(make_bundle(tmp_path / "n", "cars", CARS, seed=seed, created=CREATED + timedelta(days=seed)).path)
    return store.versions("cars")


def _train(folder: Path) -> None:
    bring_data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SERVING_HOME", str(folder / "home"))
        patch.setenv("SERVING_PRETRAINED", str(folder / "none"))
        patch.chdir(folder)
        assert run([*TRAIN, "--promote"]) == 0


@pytest.fixture(scope="session")
def _trained(made_once: MadeOnce) -> Path:
    """A folder with data, and a home whose production version was really trained on them."""
    return made_once("user", _train)


@pytest.fixture
def user_home(_trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained home; the working directory is the folder with the data."""
    folder = Path(shutil.copytree(_trained, tmp_path / "user"))
    monkeypatch.setenv("SERVING_HOME", str(folder / "home"))
    monkeypatch.setenv("SERVING_PRETRAINED", str(folder / "none"))
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.chdir(folder)
    return folder / "home"


@pytest.fixture
def user_cli(user_home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line there: exit status, standard output, standard error."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = run(list(arguments))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call
