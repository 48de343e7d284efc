"""A place for a fleet's store, and the machines that use it."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.remote.folder import Folder
from models.remote.store import RemoteStore
from tests.conftest import MakeBundle
from tests.models.fleet import Machine


@pytest.fixture
def place(tmp_path: Path) -> Folder:
    """Where the truth lies."""
    return Folder(tmp_path / "elsewhere")


@pytest.fixture
def machine(tmp_path: Path, place: Folder) -> Machine:
    """Makes the store as the machine of a name sees it, with copies of its own."""
    return lambda name: RemoteStore(place, tmp_path / name)


@pytest.fixture
def pair(bundle_of: MakeBundle) -> tuple[Bundle, Bundle]:
    """Two versions of cars."""
    return bundle_of(), bundle_of(seed=1, created=datetime(2026, 2, 1, tzinfo=UTC))
