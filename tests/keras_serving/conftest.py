"""A command line to run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from keras_serving.main import run

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
