"""The store under processes that are killed, that race, and on a disk that is full."""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from keras_serving.main import run
from models.audit import Change
from models.bundle import Bundle
from models.errors import BundleError, StoreError
from models.store import Store
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle

KILLS = 60

# Forks for each line that it reads: an interpreter of its own takes longer to start than a change takes.
_BUSY = """
import os
import sys
from pathlib import Path
from models.errors import ServingError
from models.store import CANDIDATE, Canary, Store, Traffic
import bentoml._internal.models.model  # before the clock starts
home, made, archive = map(Path, sys.argv[1:4])
a, b, c = sys.argv[4:7]
store = Store(home)
def tried(change, *arguments, **options):
    try:
        change(*arguments, **options)
    except ServingError as error:
        assert "sha256" not in str(error) and "is not valid" not in str(error), error
def busy():
    for change in CHANGES * 1000:
        tried(change)
CHANGES = (
    lambda: store.set_alias("cars", b),
    lambda: store.import_file(archive),
    lambda: store.set_alias("cars", c, CANDIDATE),
    lambda: store.set_traffic("cars", Traffic(canary=Canary(percent=5))),
    lambda: store.set_alias("cars", a),
    lambda: store.remove_alias("cars", CANDIDATE),
    lambda: store.delete("cars", c),
    lambda: store.add(made),
    lambda: store.rollback("cars"),
    lambda: store.delete("cars", c),
)
for line in sys.stdin:
    child = os.fork()
    if not child:
        busy()
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture
def versions(store: Store, bundle_of: MakeBundle) -> list[str]:
    store.add(bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1)).path)
    return store.versions("cars")


@pytest.fixture
def third(bundle_of: MakeBundle) -> Bundle:
    """A version that is not in the store."""
    return bundle_of(CARS, "cars", seed=2, created=CREATED + timedelta(days=2))


def check(store: Store) -> None:
    """The document is valid, and what it names and what is visible is whole."""
    document = store.aliases()
    for name in store.names():
        for version in store.versions(name):
            store.open(name, version).verify()
        for target in document.models[name].values():
            assert store.open(name, target.version).manifest.digest == target.digest


def test_a_process_killed_at_any_moment_leaves_a_valid_store(
    store: Store, versions: list[str], third: Bundle, tmp_path: Path
) -> None:
    Store(tmp_path / "other").add(third.path)
    archive = tmp_path / "cars.tar"
    Store(tmp_path / "other").export("cars", third.manifest.version, archive)
    command = [sys.executable, "-c", _BUSY, store.home, third.path, archive, *versions, third.manifest.version]
    moments = random.Random(7)
    leftovers = 0
    with subprocess.Popen([*map(str, command)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for _ in range(KILLS):
            parent.stdin.write("go\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            time.sleep(moments.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert int(parent.stdout.readline()) == -signal.SIGKILL, "a change failed: see above"
            leftovers += (store.home / ".staging").exists()
            check(store)
        parent.stdin.close()
    assert leftovers, "no process was killed in the midst of a change"
    changed = store.set_alias("cars", versions[0])
    assert not (store.home / ".staging").exists()
    assert {p.name for p in store.home.iterdir()} == {".lock", "aliases.json", "changes.jsonl", "models"}
    logged = [change.revision for change in store.changes(limit=10**6) if change.action not in ("add", "import")]
    assert sorted(set(logged)) == list(range(1, changed.revision + 1)), "a change is missing in the log"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A volume of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_a_change_and_loses_nothing(disk: Path, shipped: Path, third: Bundle) -> None:
    store = Store(disk / "home")
    assert store.seed(shipped).failed == {}
    version = store.versions("cars")[0]
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    before = (store.home / "aliases.json").read_bytes()
    for change in (lambda: store.add(third.path), lambda: store.set_alias("cars", version, "blue")):
        with pytest.raises(StoreError, match=r"No space left on device.*space and permissions"):
            change()
        assert (store.home / "aliases.json").read_bytes() == before
        check(store)
    (disk / "ballast").unlink()
    store.add(third.path)
    assert store.set_alias("cars", version, "blue").target("cars", "blue") is not None
    check(store)


def test_a_disk_that_may_only_be_read_can_be_looked_at(
    disk: Path, shipped: Path, third: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(disk / "home")
    store.seed(shipped)
    version = store.versions("cars")[0]
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    monkeypatch.setenv("SERVING_HOME", str(store.home))
    monkeypatch.setenv("SERVING_PRETRAINED", str(shipped))
    assert run(["models", "list", "--json"]) == 0
    said = capsys.readouterr()
    assert [row["version"] for row in json.loads(said.out) if row["name"] == "cars"] == [version]
    assert "the store is not seeded: the store cannot be written: Read-only file system" in said.err
    assert run(["models", "label", "cars", version, "blue"]) == 1
    assert "Check the volume's space and permissions." in capsys.readouterr().err


def test_files_that_may_not_grow_stop_a_change_and_lose_nothing(
    store: Store, versions: list[str], third: Bundle
) -> None:
    document = store.home / "aliases.json"
    before = document.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, limits[1]))
    try:
        for change in (lambda: store.add(third.path), lambda: store.set_alias("cars", versions[1])):
            with pytest.raises(StoreError, match="File too large"):
                change()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert document.read_bytes() == before
    check(store)
    store.set_alias("cars", versions[1])


def test_a_half_deleted_version_is_out_of_sight_and_swept_away(
    store: Store, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def killed(path: Path, *, ignore_errors: bool = False) -> None:
        if path.name == versions[1]:
            raise KeyboardInterrupt
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr("models.versions.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        store.delete("cars", versions[1])
    assert store.versions("cars") == versions[:1]
    with pytest.raises(BundleError):
        Bundle.open(store.home / "models" / "cars" / versions[1])
    monkeypatch.undo()
    store.set_alias("cars", versions[0])
    assert not (store.home / ".staging").exists()


def test_a_change_is_logged_once_however_many_versions_are_added_after_it(store: Store) -> None:
    before = store.changes()
    for _ in range(40):
        with store._journal.locked():
            store._journal.note(Change(action="add", model="cars", reason="x" * 2000))
    assert [change for change in store.changes() if change.action != "add" or not change.reason] == before
