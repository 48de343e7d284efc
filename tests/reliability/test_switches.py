"""Versions that come, go and are bad, offered to one real server whose every deserialised graph is written down."""

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Any

import httpx
import pytest

from models.bundle import MANIFEST, ONNX, Bundle
from models.errors import BundleError
from models.store import Store
from tests.bundles import CARS, CREATED, make_bundle, rows_of
from tests.e2e.server import running
from tests.figures import Figure
from tests.redeploy import offered
from tests.redeploy.loop import ADMIN_TOKEN, Loop
from tests.redeploy.record import offline

PATIENCE_S = 60.0


@dataclass
class Site:
    """One server with one worker.

    Attributes:
        old: Answers as ``cars``.
        late: Answers as the model ``late``, in some 10 ms a row.
        quick: Answers the same in no time; not in the store.
    """

    loop: Loop
    old: Bundle
    late: Bundle
    quick: Bundle
    witness: Path

    @property
    def store(self) -> Store:
        return self.loop.store

    def version(self, folder: Path, day: int, seed: int = 2) -> Bundle:
        """A whole version of ``cars`` that the store does not hold."""
        return make_bundle(folder / f"{day}", "cars", CARS, seed=seed, created=CREATED + timedelta(days=day))

    def ask(self, rows: int = 12, model: str = "cars") -> tuple[str, list[Any]]:
        """Version and predictions."""
        instances = [CARS.record(row) for row in rows_of(CARS, rows)]
        answer = httpx.post(f"{self.loop.server.url}/predict/{model}", json={"instances": instances}, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()["version"], answer.json()["predictions"]

    def order(self, version: str, model: str = "cars") -> httpx.Response:
        """Promote over HTTP."""
        return httpx.post(
            f"{self.loop.server.url}/admin/models/{model}/promote",
            json={"version": version},
            headers={"authorization": f"Bearer {ADMIN_TOKEN}"},
            timeout=60,
        )

    def back(self) -> None:
        """Let ``old`` answer again."""
        self.store.set_alias("cars", self.old.manifest.version)
        wait(lambda: self.ask(1)[0] == self.old.manifest.version)

    def reloads(self, result: str) -> float:
        return self.loop.server.metric("serving_model_reloads_total", model="cars", result=result)

    def seen(self, what: str, bundle: Bundle | None = None) -> int:
        """How many graphs were ``opened`` or ``closed``: of all versions, or of one."""
        digest = "" if bundle is None else hashlib.sha256(bundle.read(ONNX)).hexdigest()
        return sum(line.startswith(f"{what} {digest}") for line in self.witness.read_text().splitlines())


def wait(reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("switches")
    old = make_bundle(folder / "pre", "cars", CARS, seed=1)
    quick = make_bundle(folder, "late", CARS)
    late = offered.resealed(quick, folder / "pre" / "late", CREATED + timedelta(days=1), offered.slow(quick))
    witness = folder / "witness"
    witness.touch()
    settings = {"PYTHONPATH": f"{Path(__file__).parent / 'witness'}", "WITNESS": f"{witness}"}
    settings |= {"SERVING_POLL_S": "0.05", "SERVING_BATCH_ROWS": "1", "SERVING_MAX_QUEUE_S": "600"}
    with running(folder / "home", pretrained=folder / "pre", SERVING_ADMIN_TOKEN=ADMIN_TOKEN, **settings) as server:
        yield Site(Loop(server, "cars"), old, late, quick, witness)


@pytest.mark.reliability(2, "A corrupt new version is refused; the old one answers bit for bit as before")
def test_a_corrupt_version_is_refused_counted_and_the_old_one_answers_as_before(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    before, failures = site.ask(), site.reloads("failure")
    bad = site.version(tmp_path, 2)
    version = bad.manifest.version
    offered.corrupt(offered.place(bad, site.loop.server.home))
    refused = site.order(version)
    assert refused.status_code == 422
    assert "sha256" in refused.json()["detail"]
    # Past the store, which refuses it too: as if the file went wrong after it was promoted.
    site.loop.force(version, bad.manifest.digest)
    wait(lambda: site.reloads("failure") > failures)
    assert site.ask() == before
    problem = httpx.get(f"{site.loop.server.url}/models/cars").json()["problem"]
    assert (problem["version"], "sha256" in problem["reason"]) == (version, True)
    assert site.seen("opened", bad) == 0
    figure(
        f"{len(before[1])} answers the same to the last bit; failures counted: {site.reloads('failure') - failures:g}"
    )
    site.back()


@pytest.mark.reliability(3, "What has a wrong sha256 is never deserialised")
def test_a_version_of_which_any_file_has_one_bit_wrong_is_never_deserialised(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    made = site.version(tmp_path, 3, seed=3)
    folder = offered.place(made, site.loop.server.home)
    opened = site.seen("opened")
    files = sorted(made.manifest.files)
    for name in files:
        good = (folder / name).read_bytes()
        (folder / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        assert site.order(made.manifest.version).status_code == 422, name
        (folder / name).write_bytes(good)
    assert site.seen("opened") == opened
    assert site.order(made.manifest.version).json()["serving"] is True
    assert site.seen("opened", made) > 0, "the witness sees nothing"
    figure(f"one bit wrong in each of {len(files)} files: 0 graphs deserialised; with none wrong it is served")
    site.back()


@pytest.mark.reliability(4, "Of several reloads at once one loads, the others get 409")
def test_of_several_promotions_at_once_one_loads_and_the_others_get_409(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    offers = [site.store.add(site.version(tmp_path, day, seed=day).path) for day in (4, 5, 6, 7)]
    loads = site.reloads("success")
    lock = site.loop.server.home / ".lock"
    with ThreadPoolExecutor(len(offers)) as pool, lock.open("w") as held:
        # While the store is locked none can be done before the others have begun.
        flock(held, LOCK_EX)
        orders = [pool.submit(site.order, bundle.manifest.version) for bundle in offers]
        wait(lambda: waiting_for(lock) == len(offers))
        held.close()
        answers = [order.result() for order in orders]
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, 409, 409, 409]
    (winner,) = [bundle for bundle, answer in zip(offers, answers, strict=True) if answer.status_code == 200]
    assert site.ask(1)[0] == winner.manifest.version
    wait(lambda: site.reloads("success") - loads == 1)
    # The others were tried out, and closed again.
    wait(lambda: sum(site.seen("opened", bundle) > site.seen("closed", bundle) for bundle in offers) == 1)
    figure(f"{len(offers)} promotions at once: {', '.join(map(str, statuses))}; loads: 1")
    site.back()


def waiting_for(lock: Path) -> int:
    """How many threads or processes wait for a lock of this file."""
    inode = f":{lock.stat().st_ino} "
    return sum("->" in line and inode in line for line in Path("/proc/locks").read_text().splitlines())


@pytest.mark.reliability(5, "A slow request across a switch finishes on the old version, which is then released")
def test_a_slow_request_across_a_switch_finishes_on_the_old_version_which_is_then_released(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    new = make_bundle(tmp_path, "late", CARS, seed=5, created=CREATED + timedelta(days=2))
    site.store.add(new.path)
    rows = 24
    with ThreadPoolExecutor(1) as pool:
        while True:
            began = time.monotonic()
            slow = pool.submit(site.ask, rows, "late")
            # Or until it is over: a busy machine may ask for the metrics too late.
            wait(lambda slow=slow: slow.done() or site.loop.server.metric("serving_queue_depth", model="late"))
            assert site.order(new.manifest.version, "late").status_code == 200
            assert site.ask(1, "late")[0] == new.manifest.version
            switched = time.monotonic() - began
            # Before the look at whether it is over, which it may be a moment later.
            in_use = site.seen("opened", site.late) > site.seen("closed", site.late)
            if not slow.done():
                break
            # A busy machine took longer for the switch than for the request: a longer request.
            assert rows < 800
            rows *= 4
            assert site.order(site.late.manifest.version, "late").status_code == 200
        assert in_use
        version, predictions = slow.result()
    took = time.monotonic() - began
    assert version == site.late.manifest.version
    expected = offline(site.quick, rows_of(CARS, rows))
    assert all(found in either for found, either in zip(predictions, expected, strict=True))
    wait(lambda: site.seen("opened", site.late) == site.seen("closed", site.late))
    figure(f"{rows} rows in {took:.2f} s, the switch after {switched:.2f} s: all of the old version, then let go")


@pytest.mark.reliability(7, "A half-copied version is never seen")
def test_a_version_that_is_copied_file_by_file_is_refused_until_it_is_whole(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    before = site.ask()
    made = site.version(tmp_path, 8, seed=8)
    version = made.manifest.version
    folder = site.loop.server.home / "models" / "cars" / version
    folder.mkdir()
    refused = []
    for name in (MANIFEST, *sorted(made.manifest.files)):
        data = (made.path / name).read_bytes()
        (folder / name).parent.mkdir(exist_ok=True)
        for part in (data[: len(data) // 2], data):
            refused.append(site.order(version).status_code)
            (folder / name).write_bytes(part)
    assert set(refused) == {422}
    assert site.ask() == before
    assert site.order(version).json()["serving"] is True
    figure(f"refused after each of {len(refused)} steps of the copy, served when it was whole")
    site.back()


@pytest.mark.reliability(7, "A version is in the store whole or not at all")
def test_whoever_looks_while_versions_are_added_sees_none_that_is_not_whole(
    site: Site, tmp_path: Path, figure: Figure
) -> None:
    made = [site.version(tmp_path, 20 + day, seed=day) for day in range(4)]
    known, over, looks, found = set(site.store.versions("cars")), threading.Event(), [0], []

    def look() -> None:
        while not over.is_set():
            looks[0] += 1
            for version in set(site.store.versions("cars")) - known:
                try:
                    site.store.open("cars", version).verify()
                except BundleError as error:
                    found.append(str(error))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for bundle in made:
            site.store.add(bundle.path)
            shown = httpx.get(f"{site.loop.server.url}/models/cars").json()
            assert shown["version"] == site.old.manifest.version, "nothing is served because it exists"
    finally:
        over.set()
        watcher.join()
    assert found == []
    assert looks[0] > len(made)
    figure(f"{looks[0]} looks while {len(made)} versions were added: each there whole or not at all")
