"""Versions and aliases, used by several processes at once."""

import json
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from models.bundle import CARD, KERAS, MANIFEST, ONNX, Bundle
from models.errors import BundleError, ConflictError, StoreError, UnknownModelError
from models.journal import AUDIT_LOG
from models.store import ALIASES, PRODUCTION, Aliases, Store
from tests.bundles import CARS, CREATED, IMAGE
from tests.conftest import MakeBundle


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def newer(bundle_of: MakeBundle) -> Bundle:
    """Another version of the shipped model ``cars``."""
    return bundle_of(CARS, "cars", seed=1, created=CREATED + timedelta(days=1))


def production(store: Store, name: str = "cars") -> str | None:
    target = store.aliases().target(name)
    return target.version if target else None


def in_processes(count: int, code: str, *arguments: object) -> list[str]:
    """Output of ``code``, run in ``count`` processes at once."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    outputs = [process.communicate(timeout=120)[0] for process in running]
    assert [process.returncode for process in running] == [0] * count
    return outputs


def test_an_added_bundle_lies_in_bentomls_layout_and_is_whole(empty: Store, bundle_of: MakeBundle) -> None:
    made = bundle_of()
    added = empty.add(made.path)
    assert added.path == empty.home / "models" / "cars" / made.manifest.version
    assert added.manifest == made.manifest
    added.verify()


def test_adding_moves_no_alias(empty: Store, bundle_of: MakeBundle) -> None:
    empty.add(bundle_of().path)
    assert empty.aliases() == Aliases()


def test_adding_twice_is_no_error_and_changes_nothing(empty: Store, bundle_of: MakeBundle) -> None:
    made = bundle_of()
    first = empty.add(made.path)
    marks = {p: p.stat().st_mtime_ns for p in first.path.rglob("*")}
    assert empty.add(made.path) == first
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*")} == marks


def test_bentoml_lists_what_was_added(empty: Store, bundle_of: MakeBundle) -> None:
    from bentoml._internal.models import ModelStore

    made = bundle_of()
    empty.add(made.path)
    assert [str(model.tag) for model in ModelStore(empty.home / "models").list()] == [f"cars:{made.manifest.version}"]


@pytest.mark.parametrize("left", ["nothing", "no manifest", "no graph", "a cut graph"])
def test_what_a_killed_copy_left_behind_is_replaced(empty: Store, bundle_of: MakeBundle, left: str) -> None:
    made = bundle_of()
    folder = empty.home / "models" / "cars" / made.manifest.version
    shutil.copytree(made.path, folder)
    if left == "nothing":
        shutil.rmtree(folder)
        folder.mkdir()
    elif left == "a cut graph":
        (folder / ONNX).write_bytes((folder / ONNX).read_bytes()[:-1])
    else:
        (folder / (MANIFEST if left == "no manifest" else ONNX)).unlink()
    empty.add(made.path).verify()


def test_a_killed_copy_beside_another_one_is_replaced(empty: Store, bundle_of: MakeBundle) -> None:
    made = bundle_of()
    for version in (made.manifest.version, "20200101-000000-00000000"):
        (empty.home / "models" / "cars" / version).mkdir(parents=True)
    empty.add(made.path).verify()


@pytest.mark.parametrize("name", [ONNX, KERAS, CARD])
def test_an_altered_bundle_is_not_added(empty: Store, bundle_of: MakeBundle, name: str) -> None:
    made = bundle_of()
    (made.path / name).write_bytes(b"x" * (made.path / name).stat().st_size)
    with pytest.raises(BundleError, match="sha256"):
        empty.add(made.path)
    assert empty.names() == []


def test_another_bundle_under_the_same_version_is_a_conflict(empty: Store, bundle_of: MakeBundle) -> None:
    made = bundle_of()
    empty.add(made.path)
    other = with_another_card(made)
    assert other.manifest.version == made.manifest.version
    with pytest.raises(ConflictError, match="another bundle"):
        empty.add(other.path)
    assert empty.open("cars", made.manifest.version).manifest == made.manifest


def with_another_card(made: Bundle, graph: bytes | None = None) -> Bundle:
    """Another bundle under the same version, which comes of the second of creation and the Keras file."""
    folder = made.path.parent / "other"
    shutil.copytree(made.path, folder)
    (folder / CARD).write_text("# another card\n")
    if graph is not None:
        (folder / ONNX).write_bytes(graph)
    return made.resealed(folder)


def test_names_and_versions_are_listed_oldest_first(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    assert store.names() == ["cars", "clothes", "heat"]
    versions = store.versions("cars")
    assert versions == sorted(versions)
    assert versions[-1] == newer.manifest.version


def test_an_unknown_model_is_refused_with_the_known_ones(store: Store) -> None:
    with pytest.raises(UnknownModelError, match="Known models: cars, clothes, heat"):
        store.versions("trains")


def test_an_unknown_version_is_refused_with_the_known_ones(store: Store) -> None:
    with pytest.raises(UnknownModelError, match=f"Known versions: {production(store)}"):
        store.open("cars", "20200101-000000-00000000")


@pytest.mark.parametrize("name", ["..", "../home", "", ".", "/", "/etc", "a/b", "CARS", "cars\0", "x" * 5000])
def test_a_name_is_never_joined_into_a_path_unchecked(store: Store, name: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        store.versions(name)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("version", ["..", "../cars", "", ".", "latest", "/etc/passwd", "x" * 5000])
def test_a_version_is_never_joined_into_a_path_unchecked(store: Store, version: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        store.open("cars", version)
    assert len(str(caught.value)) < 300


def test_a_bundle_that_lies_under_another_name_is_refused(store: Store) -> None:
    version = production(store)
    assert version is not None
    (store.home / "models" / "boats").mkdir()
    shutil.copytree(store.home / "models" / "cars" / version, store.home / "models" / "boats" / version)
    with pytest.raises(BundleError, match=f"the manifest says cars:{version}"):
        store.open("boats", version)


def test_without_a_document_there_are_no_aliases(empty: Store) -> None:
    assert empty.aliases() == Aliases()
    assert empty.stamp() is None


def test_an_alias_points_to_a_version_and_its_digest(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    before = store.aliases()
    changed = store.set_alias("cars", newer.manifest.version)
    assert store.aliases() == changed
    assert changed.revision == before.revision + 1
    target = changed.target("cars")
    assert target is not None
    assert (target.version, target.digest) == (newer.manifest.version, newer.manifest.digest)
    assert changed.target("clothes") == before.target("clothes")


def test_other_aliases_stand_beside_production(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    before = production(store)
    changed = store.set_alias("cars", newer.manifest.version, "candidate")
    target = changed.target("cars", "candidate")
    assert target is not None
    assert target.version == newer.manifest.version
    assert production(store) == before


def test_the_stamp_changes_with_every_change(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    stamps = [store.stamp()]
    for version in (newer.manifest.version, store.versions("cars")[0]):
        store.set_alias("cars", version)
        stamps.append(store.stamp())
    assert None not in stamps
    assert len(set(stamps)) == 3


@pytest.mark.parametrize("name", [ONNX, KERAS, CARD])
def test_an_alias_does_not_move_to_an_altered_version(store: Store, newer: Bundle, name: str) -> None:
    added = store.add(newer.path)
    before = store.aliases()
    (added.path / name).write_bytes(b"x")
    with pytest.raises(BundleError, match="sha256"):
        store.set_alias("cars", newer.manifest.version)
    assert store.aliases() == before


def test_an_alias_does_not_move_to_an_unknown_version(store: Store) -> None:
    before = store.aliases()
    with pytest.raises(UnknownModelError):
        store.set_alias("cars", "20200101-000000-00000000")
    assert store.aliases() == before


@pytest.mark.parametrize("alias", ["", "../up", "Production", "a b", "x" * 64])
def test_an_alias_is_a_name(store: Store, alias: str) -> None:
    version = production(store)
    assert version is not None
    with pytest.raises(UnknownModelError, match="is no name"):
        store.set_alias("cars", version, alias)


def test_a_change_that_another_one_overtook_is_a_conflict(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    old = production(store)
    assert old is not None
    store.set_alias("cars", newer.manifest.version, expect=old)
    with pytest.raises(ConflictError, match=f"points to {newer.manifest.version}, not to {old}"):
        store.set_alias("cars", newer.manifest.version, expect=old)
    with pytest.raises(ConflictError, match="points to nothing"):
        store.set_alias("cars", old, "candidate", expect=old)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"\xff",
        b'{"document_version": 2}',
        b'{"revision": -1}',
        b"{}",
        b'{"revision": 7}',
        b'{"models": {}}',
        b'{"models": {"../up": {}}}',
        b'{"models": {"cars": {"production": {"version": "1"}}}}',
        b'{"models": {}, "more": 1}',
        b"[" * 100_000,
    ],
    ids=lambda data: repr(data[:40]),
)
def test_a_corrupt_document_is_an_error_and_is_left_as_it_is(store: Store, data: bytes) -> None:
    version = production(store)
    assert version is not None
    (store.home / ALIASES).write_bytes(data)
    with pytest.raises(BundleError, match="is not valid"):
        store.aliases()
    with pytest.raises(BundleError, match="is not valid"):
        store.set_alias("cars", version)
    assert (store.home / ALIASES).read_bytes() == data


def test_a_document_that_cannot_be_read_is_an_error(store: Store) -> None:
    (store.home / ALIASES).unlink()
    (store.home / ALIASES).mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        store.aliases()


def test_a_lost_document_is_an_error_and_seeding_does_not_begin_anew(store: Store, shipped: Path) -> None:
    (store.home / ALIASES).unlink()
    for use in (store.aliases, lambda: store.seed(shipped), lambda: store.rollback("cars")):
        with pytest.raises(BundleError, match=r"aliases.json is gone, .* move changes.jsonl away too"):
            use()
    assert not (store.home / ALIASES).exists()
    (store.home / AUDIT_LOG).unlink()
    store.seed(shipped)
    assert production(store) is not None


def test_a_failed_write_keeps_the_old_document_and_leaves_nothing_behind(
    store: Store, newer: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add(newer.path)
    before = (store.home / ALIASES).read_bytes()
    present = {p.name for p in store.home.iterdir()}

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space"):
        store.set_alias("cars", newer.manifest.version)
    assert (store.home / ALIASES).read_bytes() == before
    assert {p.name for p in store.home.iterdir()} == present


_WRITER = """
import sys
from pathlib import Path
from models.store import Store
store = Store(Path(sys.argv[1]))
for _ in range(int(sys.argv[3])):
    store.set_alias("cars", sys.argv[2])
    document = store.aliases()  # never a part of one
    assert document.target("clothes") is not None
"""


def test_writers_in_several_processes_lose_no_change_and_readers_see_whole_documents(store: Store) -> None:
    version = production(store)
    before = store.aliases().revision
    in_processes(3, _WRITER, store.home, version, 20)
    assert store.aliases().revision == before + 60
    assert not list(store.home.glob(f".{ALIASES}.*"))


_EXPECTANT = """
import sys
from pathlib import Path
from models.errors import ConflictError
from models.store import Store
try:
    Store(Path(sys.argv[1])).set_alias("cars", sys.argv[2], expect=sys.argv[3])
    print("moved")
except ConflictError:
    print("conflict")
"""


def test_of_two_changes_that_expect_the_same_state_one_wins(store: Store, newer: Bundle) -> None:
    store.add(newer.path)
    outputs = in_processes(3, _EXPECTANT, store.home, newer.manifest.version, production(store))
    assert sorted(outputs) == ["conflict\n", "conflict\n", "moved\n"]


def test_the_document_is_readable_by_others_and_by_people(store: Store) -> None:
    document = store.home / ALIASES
    assert document.stat().st_mode & 0o777 == 0o644
    assert json.loads(document.read_text())["models"]["cars"][PRODUCTION]["version"] == production(store)


def test_a_model_may_be_added_beside_one_of_another_name(empty: Store, bundle_of: MakeBundle) -> None:
    empty.add(bundle_of(CARS, "cars").path)
    empty.add(bundle_of(IMAGE, "clothes").path)
    assert empty.names() == ["cars", "clothes"]
