"""Changes of a store that lies elsewhere: each is made once, none is lost, the log has all."""

import errno
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from models.aliases import Target
from models.bundle import Bundle
from models.errors import ConflictError, OvertakenError, StoreError
from models.journal import ALIASES, Journal
from models.remote.folder import Folder
from models.remote.journal import CHANGES
from models.remote.store import RemoteStore
from models.versions import Versions
from tests.conftest import MakeBundle
from tests.models.fleet import Machine, published, rewritten


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


def test_a_version_that_is_exchanged_while_it_is_promoted_is_not_promoted(
    tmp_path: Path, machine: Machine, pair: tuple[Bundle, Bundle]
) -> None:
    class Exchanged(Folder):
        def create(self, key: str, data: bytes) -> str:
            if not exchanged:  # The lock's first write: the version is verified by now.
                exchanged.append(key)
                machine("other").delete("cars", version)
                machine("other").add(rewritten(pair[0]).path)
            return super().create(key, data)

    version = machine("other").add(pair[0].path).manifest.version
    exchanged: list[str] = []
    with pytest.raises(ConflictError, match="was exchanged by another change"):
        RemoteStore(Exchanged(tmp_path / "elsewhere"), tmp_path / "slow").set_alias("cars", version)
    assert machine("other").aliases().target("cars") is None


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
