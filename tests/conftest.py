"""Fixtures that several test modules share."""

import fcntl
import gc
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.store import Store
from models.task import Task
from service.settings import Settings
from tests.bundles import CARS, IMAGE, SERIES, make_bundle

MakeBundle = Callable[..., Bundle]
MadeOnce = Callable[[str, Callable[[Path], None]], Path]

_TESTS = Path(__file__).parent
# Rooms whose tests mostly wait for a server, and those that compute; in both, what takes longest comes first, so that
# no worker is left with a long file when the others are done.
_WAITING = ("redeploy", "e2e", "reliability", "web", "deploy", "loadtests")
_COMPUTING = ("training", "keras_serving", "drift")


def pytest_configure() -> None:
    """Look for garbage less often: each full look at what TensorFlow keeps for good takes a fifth of a second."""
    gc.set_threshold(20_000, 20, 20)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let files that wait and files that compute take turns, so that two workers rarely do the same."""

    def rank(file: Path) -> int:
        room = file.relative_to(_TESTS).parts[0]
        return next((rooms.index(room) for rooms in (_WAITING, _COMPUTING) if room in rooms), len(_WAITING))

    turns: Counter[bool] = Counter()
    order: dict[Path, int] = {}
    for file in sorted(dict.fromkeys(item.path for item in items), key=rank):
        waits = file.relative_to(_TESTS).parts[0] in _WAITING
        order[file] = 2 * turns[waits] + waits
        turns[waits] += 1
    items.sort(key=lambda item: order[item.path])


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


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> MadeOnce:
    """Makes a folder once for all workers of a test run, ``made_once(name, fill)``; read only, by agreement."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "made-once"

    def make(name: str, fill: Callable[[Path], None]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        folder.mkdir(parents=True, exist_ok=True)
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="module")
def uncompiled() -> Iterator[None]:
    """Networks run operation by operation: compiling one takes far longer than the few steps of a test."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


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
