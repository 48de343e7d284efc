"""A store as the first version of this program wrote it (first_light/): no log of changes, no later fields."""

import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest

from models.store import Store
from tests.bundles import CARS, IMAGE, make_bundle, run_offline
from tests.e2e.server import running

WROTE = Path(__file__).parent / "first_light"
REGRESSOR, OLDER, WEAR = "20260102-030405-27c1f450", "20260102-030405-27c1f450", "20260102-040405-36a48d26"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return Path(shutil.copytree(WROTE, tmp_path / "home"))


def test_its_versions_are_served_as_before_and_what_ships_now_beside_them(home: Path, tmp_path: Path) -> None:
    newer = make_bundle(tmp_path / "pre", "regressor", CARS, seed=9)
    other = make_bundle(tmp_path / "pre", "cars", CARS, seed=3)
    manifests = {path: path.read_bytes() for path in home.rglob("manifest.json")}
    with running(home, pretrained=tmp_path / "pre") as server:
        served = httpx.get(f"{server.url}/readyz").json()["models"]
        assert served == {"regressor": REGRESSOR, "wear": WEAR, "cars": other.manifest.version}
        bundle = Store(home).open("regressor", REGRESSOR)
        rows, outputs = bundle.golden()
        np.testing.assert_array_equal(run_offline(bundle, rows), outputs)
        records = [CARS.record(row) for row in rows]
        answer = httpx.post(f"{server.url}/predict/regressor", json={"instances": records}).json()
        np.testing.assert_allclose([one["value"] for one in answer["predictions"]], outputs[:, 0], rtol=1e-5, atol=1e-4)
    store = Store(home)
    assert newer.manifest.version in store.versions("regressor"), "waits for `models promote`"
    assert all(path.read_bytes() == text for path, text in manifests.items())


def test_it_can_be_changed_and_the_change_taken_back(home: Path) -> None:
    store = Store(home)
    assert store.versions("wear") == [OLDER, WEAR]
    store.set_alias("wear", OLDER, who="test")
    store.rollback("wear", who="test")
    target = store.aliases().target("wear")
    assert target is not None
    assert target.version == WEAR
    assert store.open("wear", WEAR).manifest.task == IMAGE
    assert len(store.changes("wear")) == 2
