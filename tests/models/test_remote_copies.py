"""Versions in a store that lies elsewhere and their copies here: each is verified, and is what it is called."""

import errno
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.aliases import Target
from models.archive import Source, write_archive
from models.bundle import KERAS, MANIFEST, Bundle
from models.errors import BundleError, ConflictError, StoreError
from models.remote.folder import Folder
from models.remote.store import RemoteStore
from models.versions import Versions
from tests.conftest import MakeBundle
from tests.models.fleet import Machine, published, rewritten


def test_another_bundle_under_the_same_version_is_refused(
    machine: Machine, pair: tuple[Bundle, Bundle], place: Folder
) -> None:
    published(machine("one"), pair[0])
    other = rewritten(pair[0])
    with pytest.raises(ConflictError, match="another bundle"):
        machine("two").add(other.path)
    assert machine("three").manifest("cars", pair[0].manifest.version).parameters == 10


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
    corrected = publisher.add(rewritten(pair[0]).path).manifest
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
    corrected = published(publisher, rewritten(pair[0]))
    target = publisher.aliases().target("cars")
    assert target is not None
    assert old.take("cars", target).manifest.parameters == 11
    assert corrected == version


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
        write_archive(rewritten(pair[0]), archive)
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
