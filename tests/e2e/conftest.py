"""Servers that several end-to-end tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.settings import PRETRAINED
from tests.e2e.server import Server, running
from tests.figures import figure

__all__ = ["figure"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shipped models, as `make serve` serves them; tests only read from it."""
    with running(tmp_path_factory.mktemp("shipped") / "home", pretrained=PRETRAINED, grpc=True) as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of this test's own that does not exist yet."""
    return tmp_path / "home"


@pytest.fixture(scope="session")
def data_dir() -> Path | None:
    """Folder of real data that the environment names, if any."""
    return Path(os.environ["DATA_DIR"]) if "DATA_DIR" in os.environ else None
