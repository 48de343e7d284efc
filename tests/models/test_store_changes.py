"""Rollback, traffic, deletion, archives and the log, as one store does them."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from models.aliases import CANDIDATE, PRODUCTION, Canary, Traffic
from models.bundle import ONNX, Bundle
from models.errors import BundleError, ConflictError, StoreError, UnknownModelError
from models.journal import ALIASES, AUDIT_LOG
from models.store import Store
from tests.bundles import CARS, CREATED
from tests.conftest import MakeBundle

CANARY = Traffic(canary=Canary(percent=10))


@pytest.fixture
def versions(store: Store, bundle_of: MakeBundle) -> list[str]:
    """Four versions of ``cars`` in the store, oldest first; the first is in production."""
    for seed in (1, 2, 3):
        store.add(bundle_of(CARS, "cars", seed=seed, created=CREATED + timedelta(days=seed)).path)
    return store.versions("cars")


def production(store: Store) -> str | None:
    target = store.aliases().target("cars")
    return target.version if target else None


def test_a_rollback_goes_back_step_by_step_until_nothing_is_left(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1])
    store.set_alias("cars", versions[3])
    assert store.rollback("cars").target("cars").version == versions[1]  # type: ignore[union-attr]
    store.rollback("cars")
    assert production(store) == versions[0]
    before = store.aliases()
    with pytest.raises(ConflictError, match="no earlier production version"):
        store.rollback("cars")
    assert store.aliases() == before


def test_a_rollback_passes_over_what_is_not_whole(store: Store, versions: list[str]) -> None:
    for version in versions[1:]:
        store.set_alias("cars", version)
    (store.open("cars", versions[2]).path / ONNX).write_bytes(b"altered")
    store.rollback("cars")
    assert production(store) == versions[1]
    assert store.aliases().previous.keys() == {"cars"}


def test_a_rollback_of_something_else_than_expected_is_a_conflict(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1])
    with pytest.raises(ConflictError, match=f"points to {versions[1]}, not to {versions[0]}"):
        store.rollback("cars", expect=versions[0])
    with pytest.raises(UnknownModelError, match="Known models"):
        store.rollback("trains")
    assert production(store) == versions[1]


def test_a_change_during_the_verification_of_another_is_a_conflict(
    store: Store, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Bundle.verify

    def overtaken(self: Bundle) -> None:
        monkeypatch.setattr(Bundle, "verify", verify)
        store.set_alias("cars", versions[2])
        verify(self)

    monkeypatch.setattr(Bundle, "verify", overtaken)
    with pytest.raises(ConflictError, match="moved by another change"):
        store.set_alias("cars", versions[1])
    assert production(store) == versions[2]


def test_a_version_that_is_deleted_while_it_is_promoted_stays_out_of_production(
    store: Store, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    verify = Bundle.verify

    def overtaken(self: Bundle) -> None:
        verify(self)
        store.delete("cars", versions[1])

    monkeypatch.setattr(Bundle, "verify", overtaken)
    with pytest.raises(UnknownModelError, match="Known versions"):
        store.set_alias("cars", versions[1])
    assert production(store) == versions[0]


def test_a_canary_is_of_the_candidate_that_was_looked_at(store: Store, versions: list[str]) -> None:
    with pytest.raises(ConflictError, match="models label cars VERSION candidate"):
        store.set_traffic("cars", CANARY)
    store.set_alias("cars", versions[1], CANDIDATE)
    with pytest.raises(ConflictError, match=f"not to {versions[2]}"):
        store.set_traffic("cars", CANARY, expect=versions[2])
    assert store.set_traffic("cars", CANARY, expect=versions[1]).traffic == {"cars": CANARY}
    assert store.set_traffic("cars", Traffic()).traffic == {}


def test_of_two_changes_of_traffic_at_once_neither_undoes_the_other(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1], CANDIDATE)
    store.set_traffic("cars", CANARY, instead_of=Traffic())
    with pytest.raises(ConflictError, match=r"candidate of cars gets canary 10 % .*, not no traffic"):
        store.set_traffic("cars", Traffic(shadow=True), instead_of=Traffic())
    assert store.aliases().traffic == {"cars": CANARY}


def test_ending_a_canary_twice_is_one_change(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1], CANDIDATE)
    store.set_traffic("cars", CANARY)
    ended = store.set_traffic("cars", Traffic(), who="service", reason="12 errors of 500")
    assert store.set_traffic("cars", Traffic(), who="service") == ended
    assert store.changes()[-1].reason == "12 errors of 500"


def test_an_alias_that_is_not_there_cannot_be_removed(store: Store, versions: list[str]) -> None:
    with pytest.raises(UnknownModelError, match="Its aliases: production"):
        store.remove_alias("cars", "blue")
    store.set_alias("cars", versions[1], "blue")
    assert store.remove_alias("cars", "blue").models["cars"].keys() == {PRODUCTION}


def test_production_that_was_removed_stays_removed_and_can_be_taken_back(store: Store, shipped: Path) -> None:
    version = production(store)
    store.remove_alias("cars", PRODUCTION)
    assert store.seed(shipped).added == ()
    assert production(store) is None
    assert store.rollback("cars").target("cars").version == version  # type: ignore[union-attr]


def test_what_is_needed_is_not_deleted_and_the_error_says_by_what(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1])
    store.set_alias("cars", versions[2], CANDIDATE)
    for version, holder in zip(versions, ("rollback", "alias production", "alias candidate"), strict=False):
        with pytest.raises(ConflictError, match=holder):
            store.delete("cars", version)
    assert store.versions("cars") == versions
    store.delete("cars", versions[3])
    assert store.versions("cars") == versions[:3]
    for name, version in (("cars", versions[3]), ("trains", versions[0]), ("cars", "../boats")):
        with pytest.raises(UnknownModelError, match="Known"):
            store.delete(name, version)


def test_a_damaged_version_can_be_deleted(store: Store, versions: list[str]) -> None:
    (store.open("cars", versions[1]).path / "manifest.json").unlink()
    store.delete("cars", versions[1])
    assert versions[1] not in store.versions("cars")


def test_a_deleted_version_that_ships_does_not_come_back(store: Store, versions: list[str], shipped: Path) -> None:
    store.set_alias("cars", versions[1])
    store.set_alias("cars", versions[2])
    store.delete("cars", versions[0])
    assert store.seed(shipped).added == ()
    assert versions[0] not in store.versions("cars")
    store.add(shipped / "cars-0")
    assert versions[0] in store.versions("cars")


def test_deleting_the_last_version_takes_the_name_away(
    store: Store, versions: list[str], bundle_of: MakeBundle
) -> None:
    boat = store.add(bundle_of(CARS, "boats").path).manifest.version
    store.delete("boats", boat)
    assert "boats" not in store.names()
    assert not (store.home / "models" / "boats").exists()


def test_files_that_are_open_outlive_their_version(store: Store, versions: list[str]) -> None:
    path = store.open("cars", versions[1]).path / ONNX
    whole = path.read_bytes()
    with path.open("rb") as file:
        store.delete("cars", versions[1])
        assert file.read() == whole
    assert not path.parent.exists()


def test_bentoml_still_finds_its_newest_after_a_deletion(store: Store, versions: list[str]) -> None:
    from bentoml._internal.models import ModelStore

    store.delete("cars", versions[3])
    assert str(ModelStore(store.home / "models").get("cars").tag) == f"cars:{versions[2]}"


@pytest.mark.parametrize(("keep", "gone"), [(4, 0), (10, 0), (2, 1), (1, 1)])
def test_pruning_keeps_the_newest_and_what_is_needed(store: Store, versions: list[str], keep: int, gone: int) -> None:
    store.set_alias("cars", versions[2])  # so that a rollback needs the oldest
    assert store.prune("cars", keep) == versions[1 : 1 + gone]
    assert store.versions("cars") == [version for version in versions if version not in versions[1 : 1 + gone]]


def test_a_version_moves_to_another_store_in_a_file(store: Store, versions: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cars.tar"
    store.export("cars", versions[2], file)
    other = Store(tmp_path / "other")
    first = other.import_file(file, who="ann@host")
    assert first.manifest == store.open("cars", versions[2]).manifest
    assert other.import_file(file) == first
    assert [(change.action, change.who, change.after) for change in other.changes()] == [
        ("import", "ann@host", versions[2])
    ]
    assert other.aliases().models == {}
    assert not (other.home / ".staging").exists()


def test_a_refused_archive_leaves_nothing_behind(store: Store, versions: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cars.tar"
    store.export("cars", versions[2], file)
    store.delete("cars", versions[2])
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    before = set(store.home.rglob("*"))
    with pytest.raises(BundleError, match=r"cars\.tar is no archive"):
        store.import_file(file)
    assert set(store.home.rglob("*")) == before


def test_every_change_is_in_the_log_with_who_from_and_to(store: Store, versions: list[str]) -> None:
    store.set_alias("cars", versions[1], who="ann@host", reason="better")
    store.set_alias("cars", versions[2], CANDIDATE, who="bob@host")
    store.set_traffic("cars", CANARY, who="admin@10.0.0.1")
    store.rollback("cars", who="ann@host")
    store.remove_alias("cars", CANDIDATE, who="bob@host")
    store.delete("cars", versions[3], who="ann@host")
    log = store.changes("cars", limit=6)
    assert [(change.action, change.alias, change.before, change.after, change.who) for change in log] == [
        ("promote", PRODUCTION, versions[0], versions[1], "ann@host"),
        ("label", CANDIDATE, "", versions[2], "bob@host"),
        ("traffic", CANDIDATE, "", str(CANARY), "admin@10.0.0.1"),
        ("rollback", PRODUCTION, versions[1], versions[0], "ann@host"),
        ("remove", CANDIDATE, versions[2], "", "bob@host"),
        ("delete", "", versions[3], "", "ann@host"),
    ]
    revisions = [change.revision for change in log]
    assert revisions == list(range(revisions[0], revisions[0] + 6))
    assert revisions[-1] == store.aliases().revision
    assert {change.model for change in store.changes(limit=1000)} == {"cars", "clothes", "heat"}


def test_a_change_that_its_process_could_not_log_is_logged_by_the_next(store: Store, versions: list[str]) -> None:
    log = store.home / AUDIT_LOG
    before = log.read_bytes()
    store.set_alias("cars", versions[1], who="ann@host")
    log.write_bytes(before + b'{"when": "20')  # as a crash right after the switch leaves it
    assert store.changes()[-1].who == "ann@host"
    store.set_alias("cars", versions[2], who="bob@host")
    store.set_alias("cars", versions[3], who="cyd@host")
    assert [change.who for change in store.changes(limit=3)] == ["ann@host", "bob@host", "cyd@host"]
    lines = [json.loads(line) for line in log.read_text().splitlines() if line != '{"when": "20']
    assert [line["to"] for line in lines][-3:] == versions[1:]


def test_a_refused_change_is_not_in_the_log(store: Store, versions: list[str]) -> None:
    before = store.changes(limit=1000)
    with pytest.raises(ConflictError):
        store.delete("cars", versions[0])
    with pytest.raises(ConflictError):
        store.set_alias("cars", versions[1], expect=versions[2])
    assert store.changes(limit=1000) == before


def test_a_corrupt_document_stops_every_change_and_stays_as_it_is(
    store: Store, versions: list[str], tmp_path: Path, bundle_of: MakeBundle
) -> None:
    store.export("cars", versions[1], tmp_path / "cars.tar")
    (store.home / ALIASES).write_bytes(b'{"document_version": 1, "models"')
    before = {p: p.read_bytes() for p in store.home.rglob("*") if p.is_file()}
    for change in (
        lambda: store.add(bundle_of(CARS, "boats").path),
        lambda: store.set_alias("cars", versions[1]),
        lambda: store.rollback("cars"),
        lambda: store.remove_alias("cars", PRODUCTION),
        lambda: store.set_traffic("cars", Traffic()),
        lambda: store.delete("cars", versions[1]),
        lambda: store.prune("cars", 1),
        lambda: store.import_file(tmp_path / "cars.tar"),
        lambda: store.seed(tmp_path),
        store.changes,
    ):
        with pytest.raises(BundleError, match=r"is not valid at .*Restore it from a backup"):
            change()
    assert {p: p.read_bytes() for p in store.home.rglob("*") if p.is_file()} == before


def test_a_home_that_cannot_be_made_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="space and permissions"):
        Store(tmp_path / "file" / "home").seed(tmp_path)
