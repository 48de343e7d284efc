"""A store that lies elsewhere: nothing half-published is seen, no change is lost, every copy is verified."""

import errno
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.aliases import Aliases, Target, Traffic
from models.archive import Source, write_archive
from models.bundle import KERAS, MANIFEST, Bundle
from models.errors import BundleError, ConflictError, OvertakenError, StoreError, UnknownModelError
from models.journal import ALIASES, Journal
from models.remote.address import Address
from models.remote.folder import Folder
from models.remote.journal import CHANGES
from models.remote.objects import Stored
from models.remote.store import RemoteStore, store_at
from models.versions import Versions
from tests.conftest import MakeBundle

Machine = Callable[[str], RemoteStore]


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


def published(store: RemoteStore, bundle: Bundle) -> str:
    store.add(bundle.path, who="ann")
    store.set_alias("cars", bundle.manifest.version, who="ann", reason="better")
    return bundle.manifest.version


class Away(Folder):
    """A place that cannot be reached while ``away`` is set."""

    away = False

    def _check(self) -> None:
        if self.away:
            raise StoreError(f"The store {self.name} cannot be reached (ConnectionError). Check the network.")

    def read(self, key: str, *, unless: str = "") -> Stored | None:
        self._check()
        return super().read(key, unless=unless)

    def keys(self, prefix: str) -> list[str]:
        self._check()
        return super().keys(prefix)


def test_what_one_machine_publishes_another_one_follows_and_takes(
    machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    publisher, replica = machine("publisher"), machine("replica")
    version = published(publisher, pair[0])
    assert replica.followed() == Aliases()
    assert not replica.refresh()
    target = replica.followed().target("cars")
    assert target == Target(version=version, digest=pair[0].manifest.digest)
    bundle = replica.take("cars", target)
    assert bundle.path.is_relative_to(replica.home)
    assert {p.name for p in bundle.path.iterdir()} >= {MANIFEST, *pair[0].manifest.files}


def test_every_command_of_a_store_works_there(machine: Machine, pair: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    store, other = machine("one"), machine("two")
    first, second = published(store, pair[0]), published(store, pair[1])
    assert other.names() == ["cars"]
    assert other.versions("cars") == [first, second]
    assert other.rollback("cars", who="bob").target("cars") == Target(version=first, digest=pair[0].manifest.digest)
    store.set_alias("cars", second, "candidate")
    store.set_traffic("cars", Traffic(shadow=True))
    assert other.aliases().traffic == {"cars": Traffic(shadow=True)}
    other.remove_alias("cars", "candidate")
    other.export("cars", second, tmp_path / "cars.tar")
    store.delete("cars", second, who="ann")
    assert other.versions("cars") == [first]
    with pytest.raises(UnknownModelError, match="Unknown version"):
        other.set_alias("cars", second, "candidate")
    assert store.import_file(tmp_path / "cars.tar").manifest.version == second
    actions = [change.action for change in other.changes("cars")]
    assert actions == [*["add", "promote"] * 2, "rollback", "label", "traffic", "remove", "delete", "import"]
    assert [change.who for change in other.changes("cars", 1)] == [""]
    assert other.changes("boats") == []
    assert store.prune("cars", 1) == []


def test_a_version_says_what_it_is_without_being_fetched(machine: Machine, pair: tuple[Bundle, Bundle]) -> None:
    version = published(machine("publisher"), pair[0])
    looking = machine("looking")
    assert looking.manifest("cars", version) == pair[0].manifest
    assert not (looking.home / "models").exists()


@pytest.mark.parametrize("name", ["../cars", "Cars", "cars/..", ""])
def test_no_name_leads_out_of_the_place(machine: Machine, pair: tuple[Bundle, Bundle], name: str) -> None:
    store = machine("one")
    version = published(store, pair[0])
    for look in (store.open, store.manifest):
        with pytest.raises(UnknownModelError):
            look(name, version)
    with pytest.raises(UnknownModelError):
        store.open("cars", f"../cars/{version}")


def test_a_publisher_that_dies_before_the_archive_is_there_leaves_nothing_to_be_seen(
    tmp_path: Path, pair: tuple[Bundle, Bundle]
) -> None:
    class Dying(Folder):
        def upload(self, key: str, file: Path) -> None:
            raise KeyboardInterrupt

    place = Dying(tmp_path / "elsewhere")
    with pytest.raises(KeyboardInterrupt):
        RemoteStore(place, tmp_path / "publisher").add(pair[0].path)
    replica = RemoteStore(Folder(tmp_path / "elsewhere"), tmp_path / "replica")
    assert replica.names() == []
    assert replica.aliases() == Aliases()


def test_of_two_changes_at_once_neither_is_lost(
    machine: Machine, pair: tuple[Bundle, Bundle], bundle_of: MakeBundle
) -> None:
    version = published(machine("one"), pair[0])
    machines = [machine(f"publisher-{number}") for number in range(4)]
    meet = threading.Barrier(4)

    def change(number: int) -> None:
        meet.wait()
        machines[number].set_alias("cars", version, f"label-{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(change, range(4)))
    document = machine("one").aliases()
    assert set(document.models["cars"]) == {"production", *(f"label-{number}" for number in range(4))}
    assert document.revision == 5
    revisions = [change.revision for change in machine("one").changes("cars") if change.revision]
    assert revisions == [1, 2, 3, 4, 5]


def test_of_two_promotions_of_one_model_at_once_the_later_one_is_refused(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    one = machine("one")
    published(one, pair[0])
    second = one.add(pair[1].path).manifest.version

    class Overtaken(Folder):
        def replace(self, key: str, data: bytes, tag: str) -> str:
            if key == ALIASES and one.aliases().target("cars", "production") == before:
                one.set_alias("cars", second, who="quicker")
            return super().replace(key, data, tag)

    before = one.aliases().target("cars")
    slow = RemoteStore(Overtaken(tmp_path / "elsewhere"), tmp_path / "slow")
    with pytest.raises(ConflictError, match="moved by another change"):
        slow.set_alias("cars", second)
    assert one.changes("cars")[-1].who == "quicker"


def test_a_write_whose_answer_got_lost_is_no_failure(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    class Mute(Folder):
        def create(self, key: str, data: bytes) -> str:
            tag = super().create(key, data)
            if key == ALIASES:
                raise OvertakenError("the request was sent again, and met itself")
            return tag

    store = RemoteStore(Mute(tmp_path / "elsewhere"), tmp_path / "publisher")
    published(store, pair[0])
    assert store.aliases().revision == 1


def test_a_change_whose_answer_got_lost_before_another_one_came_is_made_once(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle], bundle_of: MakeBundle
) -> None:
    class Mute(Folder):
        def replace(self, key: str, data: bytes, tag: str) -> str:
            tag = super().replace(key, data, tag)
            if key == ALIASES and not others:
                others.append(machine("other").set_alias("cars", versions[0], "label").revision)
                raise OvertakenError("the request was sent again, and met itself")
            return tag

    third = bundle_of(seed=2, created=datetime(2026, 3, 1, tzinfo=UTC))
    versions = [published(machine("publisher"), bundle) for bundle in (*pair, third)]
    others: list[int] = []
    store = RemoteStore(Mute(tmp_path / "elsewhere"), tmp_path / "mute")
    store.rollback("cars")
    assert others == [5]
    target = store.aliases().target("cars")
    assert target is not None
    assert target.version == versions[1]
    made = [change.action for change in store.changes("cars") if change.revision > 3]
    assert made == ["rollback", "label"]


def test_what_is_pruned_is_all_in_the_log_though_a_line_was_kept_from_it(
    tmp_path: Path, pair: tuple[Bundle, Bundle], bundle_of: MakeBundle
) -> None:
    class Flaky(Folder):
        def create(self, key: str, data: bytes) -> str:
            if key not in kept and b'"action":"delete"' in data:
                kept.append(key)
                raise StoreError("cut off")
            return super().create(key, data)

    kept: list[str] = []
    store = RemoteStore(Flaky(tmp_path / "elsewhere"), tmp_path / "one")
    for bundle in (*pair, bundle_of(seed=2, created=datetime(2026, 3, 1, tzinfo=UTC))):
        store.add(bundle.path)
    assert len(store.prune("cars", 1)) == 2
    assert [change.revision for change in store.changes("cars") if change.action == "delete"] == [1, 2]


def test_a_change_that_was_made_is_no_failure_though_the_disk_here_is_full(
    machine: Machine, pair: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = machine("one")
    first, second = published(store, pair[0]), published(store, pair[1])
    monkeypatch.setattr(Journal, "put", no_room)
    monkeypatch.setattr(Versions, "take_away", no_room)
    changed = store.rollback("cars")
    assert (changed.revision, changed.target("cars")) == (3, Target(version=first, digest=pair[0].manifest.digest))
    assert store.aliases() == changed
    store.delete("cars", second)
    assert store.versions("cars") == [first]
    monkeypatch.undo()
    store.refresh()
    assert store.followed() == store.aliases()


def test_a_place_that_ignores_conditions_is_refused_before_anything_is_written(
    tmp_path: Path, pair: tuple[Bundle, Bundle]
) -> None:
    class Careless(Folder):
        def create(self, key: str, data: bytes) -> str:
            self.delete(key)
            return super().create(key, data)

    place = Careless(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="ignores conditional writes"):
        RemoteStore(place, tmp_path / "publisher").add(pair[0].path)
    assert place.keys("models/") == []


def test_another_bundle_under_the_same_version_is_refused(
    machine: Machine, pair: tuple[Bundle, Bundle], place: Folder
) -> None:
    published(machine("one"), pair[0])
    other = _rewritten(pair[0])
    with pytest.raises(ConflictError, match="another bundle"):
        machine("two").add(other.path)
    assert machine("three").manifest("cars", pair[0].manifest.version).parameters == 10


def _rewritten(bundle: Bundle) -> Bundle:
    """The same version with other parameters, sealed anew."""
    manifest = bundle.manifest.model_copy(update={"parameters": 11}).sealed()
    (bundle.path / MANIFEST).write_bytes(manifest.to_json())
    return Bundle.open(bundle.path)


def test_a_copy_that_went_bad_here_costs_the_fleet_nothing(
    tmp_path: Path, pair: tuple[Bundle, Bundle], place: Folder
) -> None:
    class ReadOnly(Folder):
        def upload(self, key: str, file: Path) -> None:
            raise StoreError("cut off")

    publisher = RemoteStore(place, tmp_path / "publisher")
    version = published(publisher, pair[0])
    (publisher.open("cars", version).path / KERAS).write_bytes(b"rot")
    bundle = RemoteStore(ReadOnly(tmp_path / "elsewhere"), tmp_path / "publisher").add(pair[0].path)
    assert bundle.read(KERAS) == pair[0].read(KERAS)
    assert place.keys("models/") == [f"models/cars/{version}.tar"]


def test_an_object_that_went_bad_is_published_anew_by_who_has_the_bundle(
    machine: Machine, pair: tuple[Bundle, Bundle], tmp_path: Path
) -> None:
    version = published(machine("publisher"), pair[0])
    (tmp_path / "elsewhere" / "models" / "cars" / f"{version}.tar").write_bytes(b"rot")
    machine("other").add(pair[0].path)
    target = machine("replica").aliases().target("cars")
    assert target is not None
    assert machine("replica").take("cars", target).read(KERAS) == pair[0].read(KERAS)


def test_a_version_that_was_corrected_elsewhere_is_taken_and_promoted_by_who_has_the_old_copy(
    machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    publisher, old = machine("publisher"), machine("old")
    version = publisher.add(pair[0].path).manifest.version
    assert old.open("cars", version).manifest == pair[0].manifest
    publisher.delete("cars", version)
    corrected = publisher.add(_rewritten(pair[0]).path).manifest
    target = old.set_alias("cars", version).target("cars")
    assert target == Target(version=version, digest=corrected.digest)
    assert machine("replica").take("cars", target).manifest == corrected


def test_a_replica_that_has_the_old_copy_takes_the_corrected_version(
    machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    publisher, old = machine("publisher"), machine("old")
    version = publisher.add(pair[0].path).manifest.version
    old.open("cars", version)
    publisher.delete("cars", version)
    corrected = published(publisher, _rewritten(pair[0]))
    target = publisher.aliases().target("cars")
    assert target is not None
    assert old.take("cars", target).manifest.parameters == 11
    assert corrected == version


def test_a_version_that_is_exchanged_while_it_is_promoted_is_not_promoted(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    class Exchanged(Folder):
        def create(self, key: str, data: bytes) -> str:
            if not exchanged:  # The lock's first write: the version is verified by now.
                exchanged.append(key)
                machine("other").delete("cars", version)
                machine("other").add(_rewritten(pair[0]).path)
            return super().create(key, data)

    version = machine("other").add(pair[0].path).manifest.version
    exchanged: list[str] = []
    with pytest.raises(ConflictError, match="was exchanged by another change"):
        RemoteStore(Exchanged(tmp_path / "elsewhere"), tmp_path / "slow").set_alias("cars", version)
    assert machine("other").aliases().target("cars") is None


@pytest.mark.parametrize("damage", ["flipped", "cut", "another", "empty"])
def test_a_damaged_archive_is_refused_and_leaves_nothing_here(
    machine: Machine, pair: tuple[Bundle, Bundle], tmp_path: Path, damage: str
) -> None:
    publisher = machine("publisher")
    version = published(publisher, pair[0])
    target = publisher.aliases().target("cars")
    assert target is not None
    archive = tmp_path / "elsewhere" / "models" / "cars" / f"{version}.tar"
    data = archive.read_bytes()
    if damage == "flipped":
        where = data.index((pair[0].path / KERAS).read_bytes())
        data = data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]
    elif damage == "another":
        write_archive(_rewritten(pair[0]), archive)
        data = archive.read_bytes()
    archive.write_bytes({"cut": data[: len(data) // 2], "empty": b""}.get(damage, data))
    replica = machine("replica")
    with pytest.raises(BundleError):
        replica.take("cars", target)
    assert list((replica.home / "models").rglob(MANIFEST)) == []
    assert [p for p in (replica.home / ".fetching").iterdir() if p.is_dir()] == []


def test_a_copy_that_went_bad_is_fetched_anew(machine: Machine, pair: tuple[Bundle, Bundle]) -> None:
    published(machine("publisher"), pair[0])
    replica = machine("replica")
    replica.refresh()
    target = replica.followed().target("cars")
    assert target is not None
    bad = replica.take("cars", target).path / KERAS
    bad.write_bytes(b"rot")
    assert replica.take("cars", target).read(KERAS) == pair[0].read(KERAS)


def test_several_workers_fetch_a_version_once(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    class Counting(Folder):
        fetched = 0

        def stream(self, key: str):  # type: ignore[no-untyped-def]
            self.fetched += 1
            return super().stream(key)

    place = Counting(tmp_path / "elsewhere")
    published(RemoteStore(place, tmp_path / "publisher"), pair[0])
    place.fetched = 0
    workers = [RemoteStore(place, tmp_path / "replica") for _ in range(4)]
    workers[0].refresh()
    target = workers[0].followed().target("cars")
    assert target is not None
    with ThreadPoolExecutor(4) as pool:
        taken = list(pool.map(lambda worker: worker.take("cars", target), workers))
    assert place.fetched == 1
    assert {bundle.manifest.version for bundle in taken} == {target.version}


def test_cut_off_the_copy_is_followed_and_taken(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    place = Away(tmp_path / "elsewhere")
    published(RemoteStore(place, tmp_path / "publisher"), pair[0])
    replica = RemoteStore(place, tmp_path / "replica")
    replica.begin(tmp_path)
    target = replica.followed().target("cars")
    assert target is not None
    replica.take("cars", target)
    place.away = True
    again = RemoteStore(place, tmp_path / "replica")
    again.begin(tmp_path)
    assert again.followed().target("cars") == target
    assert again.take("cars", target).manifest == pair[0].manifest
    with pytest.raises(StoreError, match="cannot be reached"):
        again.refresh()
    with pytest.raises(StoreError, match="cannot be reached"):
        again.set_alias("cars", target.version, "other")


def test_who_follows_does_not_wait_for_a_change_that_another_process_here_is_about(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    class Slow(Folder):
        def upload(self, key: str, file: Path) -> None:
            uploading.set()
            assert followed.wait(20)
            super().upload(key, file)

    uploading, followed = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(RemoteStore(Slow(tmp_path / "elsewhere"), tmp_path / "one").add, pair[1].path)
        assert uploading.wait(20)
        version = published(machine("other"), pair[0])
        try:
            pool.submit(machine("one").refresh).result(20)
            target = machine("one").followed().target("cars")
        finally:
            followed.set()
        assert adding.result(20).manifest == pair[1].manifest
    assert target is not None
    assert target.version == version


def test_a_folder_that_hangs_keeps_nobody_from_beginning_with_the_copy(
    tmp_path: Path, pair: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Folder):
        def read(self, key: str, *, unless: str = "") -> Stored | None:
            assert answers.wait(20)
            return super().read(key, unless=unless)

    answers = threading.Event()
    answers.set()
    monkeypatch.setattr("models.remote.store._PATIENCE_S", 0.01)
    replica = RemoteStore(Hanging(tmp_path / "elsewhere"), tmp_path / "replica")
    version = published(replica, pair[0])
    answers.clear()
    begun = RemoteStore(Hanging(tmp_path / "elsewhere"), tmp_path / "replica")
    begun.begin(tmp_path)
    hanging = [thread for thread in threading.enumerate() if thread.name == "refresh"]
    target = begun.followed().target("cars")
    answers.set()
    for thread in hanging:
        thread.join(20)
    assert len(hanging) == 1
    assert target is not None
    assert target.version == version


def test_a_look_costs_nothing_where_nothing_changed(tmp_path: Path, pair: tuple[Bundle, Bundle]) -> None:
    answers: list[Stored | None] = []

    class Watched(Folder):
        def read(self, key: str, *, unless: str = "") -> Stored | None:
            answers.append(super().read(key, unless=unless))
            return answers[-1]

    published(RemoteStore(Folder(tmp_path / "elsewhere"), tmp_path / "publisher"), pair[0])
    replica = RemoteStore(Watched(tmp_path / "elsewhere"), tmp_path / "replica")
    replica.refresh()
    stamp = replica.stamp()
    replica.refresh()
    assert [answer is None for answer in answers] == [False, True]
    assert replica.stamp() == stamp
    (replica.home / ALIASES).write_text("rot")
    replica.refresh()
    assert replica.followed().revision == 1


def test_a_document_that_went_back_is_followed_and_told(machine: Machine, pair: tuple[Bundle, Bundle]) -> None:
    publisher, replica = machine("publisher"), machine("replica")
    first = published(publisher, pair[0])
    document = publisher.home.parent / "elsewhere" / ALIASES
    backup = document.read_bytes()
    published(publisher, pair[1])
    assert not replica.refresh()
    document.write_bytes(backup)
    assert "went from revision 2 to 1" in replica.refresh()
    target = replica.followed().target("cars")
    assert target is not None
    assert target.version == first


def test_a_damaged_document_stops_changes_and_the_copy_stays(machine: Machine, pair: tuple[Bundle, Bundle]) -> None:
    publisher, replica = machine("publisher"), machine("replica")
    version = published(publisher, pair[0])
    replica.refresh()
    document = publisher.home.parent / "elsewhere" / ALIASES
    document.write_text("{")
    for use in (replica.refresh, lambda: publisher.set_alias("cars", version, "other")):
        with pytest.raises(BundleError, match="not valid"):
            use()
    document.unlink()
    for use in (replica.refresh, lambda: publisher.set_alias("cars", version, "other")):
        with pytest.raises(BundleError, match="is gone"):
            use()
    assert replica.followed().target("cars") is not None


@pytest.mark.parametrize("copy", ["whole", "damaged"])
def test_a_place_that_is_empty_all_at_once_is_lost_and_no_new_beginning(
    machine: Machine, pair: tuple[Bundle, Bundle], place: Folder, shipped: Path, tmp_path: Path, copy: str
) -> None:
    replica = machine("replica")
    published(machine("publisher"), pair[0])
    replica.refresh()
    if copy == "damaged":
        (replica.home / ALIASES).write_text("rot")
    before = (replica.home / ALIASES).read_bytes()
    shutil.rmtree(tmp_path / "elsewhere")
    for use in (replica.refresh, replica.aliases, lambda: replica.seed(shipped)):
        with pytest.raises(BundleError, match=r"is gone .* the copy on this machine says that there was one"):
            use()
    assert (replica.home / ALIASES).read_bytes() == before
    assert place.keys("") == []
    (replica.home / ALIASES).unlink()
    assert len(replica.seed(shipped).added) == 3, "as the error says"


def test_a_change_whose_line_a_crash_kept_from_the_log_is_logged_by_the_next_one(
    tmp_path: Path, pair: tuple[Bundle, Bundle]
) -> None:
    class Dying(Folder):
        def create(self, key: str, data: bytes) -> str:
            if key.startswith(CHANGES) and ".00000001." in key:
                raise StoreError("cut off")
            return super().create(key, data)

    elsewhere = tmp_path / "elsewhere"
    version = published(RemoteStore(Dying(elsewhere), tmp_path / "dying"), pair[0])
    other = RemoteStore(Folder(elsewhere), tmp_path / "other")
    assert [change.action for change in other.changes("cars")] == ["add", "promote"]
    other.set_alias("cars", version, "label")
    assert [change.revision for change in other.changes("cars")] == [0, 1, 2]


def test_copies_that_nobody_needs_are_deleted_and_what_a_rollback_needs_stays(
    machine: Machine, pair: tuple[Bundle, Bundle], bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, replica = machine("publisher"), machine("replica")
    third = bundle_of(seed=2, created=datetime(2026, 3, 1, tzinfo=UTC))
    taken = []
    for bundle in (*pair, third):
        published(publisher, bundle)
        replica.refresh()
        target = replica.followed().target("cars")
        assert target is not None
        taken.append(replica.take("cars", target).path)
    assert all(path.exists() for path in taken)
    monkeypatch.setattr("models.remote.versions._LATELY_S", 0.0)
    replica.refresh()
    assert [path.exists() for path in taken] == [False, True, True]


def test_a_copy_that_cannot_be_removed_keeps_neither_the_store_from_being_followed_nor_others_from_going(
    machine: Machine, pair: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stuck(Versions):
        def take_away(self, name: str, version: str) -> None:
            if version == stuck.manifest.version:
                raise OSError(errno.EACCES, "Permission denied")
            super().take_away(name, version)

    publisher, replica = machine("publisher"), machine("replica")
    stuck, other = (replica.open("cars", publisher.add(bundle.path).manifest.version) for bundle in pair)
    monkeypatch.setattr("models.remote.versions._LATELY_S", 0.0)
    monkeypatch.setattr("models.remote.versions.Versions", Stuck)
    assert not replica.refresh()
    assert (stuck.path.exists(), other.path.exists()) == (True, False)


def test_what_a_killed_fetch_left_goes_and_what_is_under_way_stays(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    class Slow(Folder):
        @contextmanager
        def stream(self, key: str) -> Iterator[tuple[Source, int]]:
            with super().stream(key) as (source, size):
                yield Watched(source), size

    class Watched:
        def __init__(self, source: Source) -> None:
            self.source = source

        def read(self, size: int, /) -> bytes:
            machine("replica").refresh()
            seen.update(path.name for path in fetches.glob("*/"))
            return self.source.read(size)

    seen: set[str] = set()
    fetches = tmp_path / "replica" / ".fetching"
    killed = fetches / "cars-20200101-000000-00000000" / "fetched"
    killed.mkdir(parents=True)
    (killed / KERAS).write_bytes(b"half")
    version = published(machine("publisher"), pair[0])
    bundle = RemoteStore(Slow(tmp_path / "elsewhere"), tmp_path / "replica").open("cars", version)
    bundle.verify()
    assert seen == {f"cars-{version}"}


def test_shipped_models_are_added_when_somebody_says_so(
    machine: Machine, shipped: Path, pair: tuple[Bundle, Bundle]
) -> None:
    store = machine("one")
    store.begin(shipped)
    assert store.names() == []
    assert len(store.seed(shipped).added) == 3
    assert set(machine("two").aliases().models) == {"cars", "clothes", "heat"}
    assert store.seed(shipped).added == ()


def test_seeding_that_another_change_came_before_is_decided_anew(
    tmp_path: Path, machine: Machine, shipped: Path, pair: tuple[Bundle, Bundle]
) -> None:
    class Overtaken(Folder):
        def replace(self, key: str, data: bytes, tag: str) -> str:
            if key == ALIASES and not others:
                others.append(machine("other").set_alias("cars", version, "label").revision)
            return super().replace(key, data, tag)

    version = published(machine("publisher"), pair[1])
    machine("publisher").remove_alias("cars", "production")
    others: list[int] = []
    seeded = RemoteStore(Overtaken(tmp_path / "elsewhere"), tmp_path / "job").seed(shipped)
    assert others == [3]
    assert seeded.failed == {}
    assert {label.partition(":")[0] for label in seeded.added} == {"cars", "clothes", "heat"}
    assert [label.partition(":")[0] for label in seeded.waiting] == ["cars"]
    assert set(machine("replica").aliases().models) == {"cars", "clothes", "heat"}


@pytest.mark.parametrize(
    ("url", "rule"),
    [
        ("s3://", "must be s3://BUCKET/PREFIX"),
        ("gs://bucket/models", "must be s3://BUCKET/PREFIX"),
        ("file://host/models", "must be s3://BUCKET/PREFIX"),
        ("file:///", "must be s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/models", "no credentials"),
        ("s3://bucket/models?region=eu", "neither"),
    ],
)
def test_what_is_no_address_is_refused_by_a_rule_that_repeats_no_secret(url: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule) as refused:
        Address.parse(url)
    assert "secret" not in str(refused.value)


def test_each_address_has_copies_of_its_own(tmp_path: Path) -> None:
    homes = {
        store_at(tmp_path, address, 1.0).home
        for address in (None, f"file://{tmp_path}/a", f"file://{tmp_path}/b", "s3://bucket/a", "s3://bucket/b")
    }
    assert len(homes) == 5
    assert store_at(tmp_path, "s3://bucket/a/", 1.0).home == store_at(tmp_path, "s3://bucket/a", 1.0).home
