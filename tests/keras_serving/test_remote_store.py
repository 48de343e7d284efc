"""A store that lies elsewhere, as the command line is told of it."""

import shutil
from pathlib import Path

import pytest

from keras_serving.main import run
from models.bundle import Bundle
from models.remote.folder import Folder
from models.remote.store import RemoteStore
from tests.conftest import MakeBundle


@pytest.fixture
def here(tmp_path: Path, shipped: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of this machine."""
    monkeypatch.setenv("SERVING_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SERVING_PRETRAINED", str(shipped))
    return tmp_path / "home"


@pytest.fixture
def bundle(bundle_of: MakeBundle) -> Bundle:
    return bundle_of()


@pytest.mark.parametrize("by", ["option", "environment"])
def test_the_store_is_said_by_an_option_or_by_the_environment(
    here: Path,
    tmp_path: Path,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    RemoteStore(Folder(elsewhere), tmp_path / "publisher").add(bundle.path)
    words = ["models", "list"]
    if by == "option":
        words = ["--store", f"file://{elsewhere}", *words]
    else:
        monkeypatch.setenv("SERVING_STORE", f"file://{elsewhere}")
    assert run(words) == 0
    listed = capsys.readouterr().out
    assert bundle.manifest.version in listed
    assert "clothes" not in listed, "nothing is seeded there by itself"
    assert not (here / "models").exists()


def test_what_ships_is_added_to_it_when_somebody_says_so(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--store", f"file://{tmp_path}/elsewhere", "models", "seed"]
    assert run(words) == 0
    assert capsys.readouterr().out.count("is in the store\n") == 3
    shutil.rmtree(here)
    assert run(words) == 0
    assert capsys.readouterr().out == "nothing to add\n"


def test_what_is_no_address_is_refused_in_one_line_that_shows_none_of_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--store", "s3://key:hidden@bucket/models", "models", "list"]) == 2
    said = capsys.readouterr().err
    assert "SERVING_STORE" in said
    assert "AWS_ACCESS_KEY_ID" in said
    assert "hidden" not in said
    assert not here.exists()
