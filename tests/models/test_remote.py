"""A store that lies elsewhere: what is published there is followed here, and a lost place changes nothing."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from models.aliases import Aliases, Target, Traffic
from models.bundle import MANIFEST, Bundle
from models.errors import BundleError, StoreError, UnknownModelError
from models.journal import ALIASES
from models.remote.address import Address
from models.remote.folder import Folder
from models.remote.objects import Stored
from models.remote.store import RemoteStore, store_at
from tests.models.fleet import Machine, published


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
            assert followed.wait(60)
            super().upload(key, file)

    uploading, followed = threading.Event(), threading.Event()
    with ThreadPoolExecutor(2) as pool:
        adding = pool.submit(RemoteStore(Slow(tmp_path / "elsewhere"), tmp_path / "one").add, pair[1].path)
        assert uploading.wait(60)
        version = published(machine("other"), pair[0])
        try:
            pool.submit(machine("one").refresh).result(60)
            target = machine("one").followed().target("cars")
        finally:
            followed.set()
        assert adding.result(60).manifest == pair[1].manifest
    assert target is not None
    assert target.version == version


def test_a_folder_that_hangs_keeps_nobody_from_beginning_with_the_copy(
    tmp_path: Path, pair: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging(Folder):
        def read(self, key: str, *, unless: str = "") -> Stored | None:
            assert answers.wait(60)
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
        thread.join(60)
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
