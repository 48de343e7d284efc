"""Fixtures that several test modules share."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.store import Store
from models.task import Task
from service.settings import Settings
from tests.bundles import CARS, IMAGE, SERIES, make_bundle

MakeBundle = Callable[..., Bundle]

_TESTS = Path(__file__).parent
# Rooms whose files take longest: they come first, so that no worker is left with one when the others are done.
_LONG = ("redeploy", "reliability", "training", "e2e", "keras_serving", "web", "deploy", "drift")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests by room, within a room as they were."""
    rooms = {name: rank for rank, name in enumerate(_LONG)}
    items.sort(key=lambda item: rooms.get(item.path.relative_to(_TESTS).parts[0], len(rooms)))


@pytest.fixture(autouse=True, scope="session")
def _no_root_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each call of httpx reads all of them, 20 ms of CPU time, and the servers of the tests speak plain HTTP."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("SSL_CERT_FILE", raising=False)
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@pytest.fixture
def bundle_of(tmp_path: Path) -> MakeBundle:
    """Makes a bundle in this test's own folder: ``bundle_of(task, name="cars", seed=0)``."""

    def make(task: Task = CARS, name: str = "cars", **options: object) -> Bundle:
        return make_bundle(tmp_path / "made", name, task, **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one bundle a task, as models/pretrained is; read only, by agreement."""
    folder = tmp_path_factory.mktemp("shipped")
    for name, task in (("clothes", IMAGE), ("cars", CARS), ("heat", SERIES)):
        make_bundle(folder, name, task)
    return folder


@pytest.fixture(scope="session")
def _seeded_home(tmp_path_factory: pytest.TempPathFactory, shipped: Path) -> Path:
    home = tmp_path_factory.mktemp("home")
    seeded = Store(home).seed(shipped)
    assert not seeded.failed
    return home


@pytest.fixture
def home(tmp_path: Path, _seeded_home: Path) -> Path:
    """A home of this test's own whose store holds the shipped bundles, each in production."""
    return Path(shutil.copytree(_seeded_home, tmp_path / "home"))


@pytest.fixture
def store(home: Path) -> Store:
    return Store(home)


@pytest.fixture
def settings(home: Path, shipped: Path) -> Settings:
    """Settings of a service that looks at its aliases often."""
    return Settings.load(home=home, pretrained=shipped, poll_s=0.01, retry_s=0.05, drain_s=0)


@pytest.fixture
def thawed_garbage() -> Iterator[None]:
    """Undo what the service does to the garbage collector once it is ready."""
    thresholds = gc.get_threshold()
    # The service collects at its start; with TensorFlow in the process of the tests that alone takes 0.2 s.
    gc.freeze()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data's folder, as DATA_DIR says."""
    folder = os.environ.get("DATA_DIR")
    if not folder:
        pytest.skip("DATA_DIR is not set")
    return Path(folder)
