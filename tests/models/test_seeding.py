"""The bundles that ship, as a store begins with them."""

import shutil
from pathlib import Path

from models.bundle import MANIFEST, ONNX, Bundle
from models.store import Store
from tests.bundles import CARS, graph_of
from tests.models.test_store import empty, in_processes, newer, production, with_another_card

__all__ = ["empty", "newer"]


_SEEDER = """
import sys
from pathlib import Path
from models.store import Store
seeded = Store(Path(sys.argv[1])).seed(Path(sys.argv[2]))
assert not seeded.failed, seeded.failed
print(*seeded.added)
"""


def test_seeding_from_several_processes_at_once_copies_each_bundle_once(empty: Store, shipped: Path) -> None:
    outputs = in_processes(3, _SEEDER, empty.home, shipped)
    added = [tag for output in outputs for tag in output.split()]
    assert sorted(tag.partition(":")[0] for tag in added) == ["cars", "clothes", "heat"]
    assert empty.aliases().revision == 3
    for name in empty.names():
        empty.open(name, empty.versions(name)[0]).verify()


def test_seeding_an_empty_store_serves_every_shipped_bundle(empty: Store, shipped: Path) -> None:
    seeded = empty.seed(shipped)
    assert len(seeded.added) == 3
    assert (seeded.waiting, seeded.failed) == ((), {})
    for name in ("cars", "clothes", "heat"):
        assert production(empty, name) == empty.versions(name)[0]


def test_seeding_again_changes_nothing(store: Store, shipped: Path) -> None:
    before = store.aliases()
    seeded = store.seed(shipped)
    assert (seeded.added, seeded.waiting, seeded.failed) == ((), (), {})
    assert store.aliases() == before


def test_seeding_does_not_move_a_production_alias_that_exists(store: Store, newer: Bundle) -> None:
    before = store.aliases()
    seeded = store.seed(newer.path.parent)
    assert seeded.added == seeded.waiting == (f"cars:{newer.manifest.version}",)
    assert store.aliases() == before


def test_seeding_repairs_a_version_whose_copy_was_killed_after_its_manifest(store: Store, shipped: Path) -> None:
    version = production(store)
    assert version is not None
    (store.home / "models" / "cars" / version / ONNX).unlink()
    assert store.seed(shipped).added == (f"cars:{version}",)
    store.open("cars", version).verify()


def test_one_corrupt_bundle_leaves_the_others_seeded(empty: Store, shipped: Path, tmp_path: Path) -> None:
    pretrained = tmp_path / "pretrained"
    shutil.copytree(shipped, pretrained)
    (pretrained / "cars-0" / ONNX).write_bytes(b"x")
    (pretrained / "clothes-0" / MANIFEST).write_bytes(b"{")
    (pretrained / "empty").mkdir()
    (pretrained / "README.md").write_text("no bundle")
    seeded = empty.seed(pretrained)
    assert [tag.partition(":")[0] for tag in seeded.added] == ["heat"]
    assert seeded.failed.keys() == {"cars-0", "clothes-0", "empty"}
    assert "sha256" in seeded.failed["cars-0"]
    assert empty.aliases().models.keys() == {"heat"}


def test_a_shipped_bundle_that_conflicts_with_the_store_is_left_out(
    store: Store, shipped: Path, tmp_path: Path
) -> None:
    made = Bundle.open(shipped / "cars-0")
    folder = Path(shutil.copytree(made.path, tmp_path / "pretrained" / "cars-0"))
    other = with_another_card(Bundle.open(folder), graph=graph_of(CARS, 9))
    shutil.rmtree(folder)
    before = store.aliases()
    seeded = store.seed(other.path.parent)
    assert "another bundle" in seeded.failed["other"]
    assert store.aliases() == before


def test_a_shipped_bundle_whose_card_was_written_anew_leaves_the_store_as_it_is(
    store: Store, shipped: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shipped / "cars-0", tmp_path / "pretrained" / "cars-0"))
    with_another_card(Bundle.open(folder))
    shutil.rmtree(folder)
    before = store.aliases()
    seeded = store.seed(tmp_path / "pretrained")
    assert (seeded.added, seeded.waiting, seeded.failed) == ((), (), {})
    assert store.aliases() == before


def test_seeding_from_nowhere_is_no_error(empty: Store, tmp_path: Path) -> None:
    assert empty.seed(tmp_path / "absent").added == ()
