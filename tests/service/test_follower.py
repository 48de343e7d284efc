"""One worker of a server asks the store for news, and every one knows how it went."""

import threading
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.errors import StoreError
from models.remote.folder import Folder
from models.remote.objects import Stored
from models.remote.store import RemoteStore
from service.follower import Follower, jittered, pause_s
from service.settings import Settings
from tests.conftest import MakeBundle
from tests.service.conftest import until


class Place(Folder):
    """Counts who asks, and can be away."""

    away = False
    asked = 0
    answers: threading.Event | None = None

    def read(self, key: str, *, unless: str = "") -> Stored | None:
        self.asked += 1
        if self.answers is not None:
            assert self.answers.wait(20)
        if self.away:
            raise StoreError("The store cannot be reached.")
        return super().read(key, unless=unless)


class Worker:
    """One of a server's."""

    def __init__(self, root: Path) -> None:
        self.place = Place(root / "elsewhere")
        self.store = RemoteStore(self.place, root / "copy")
        self.told: list[str] = []
        settings = Settings.load(home=root, store_poll_s=0.01)
        self.follower = Follower(self.store, settings, self.told.append)


@pytest.fixture
def made(bundle_of: MakeBundle) -> Bundle:
    return bundle_of()


async def test_one_worker_asks_for_all_and_another_one_takes_over(tmp_path: Path, made: Bundle) -> None:
    first, second = Worker(tmp_path), Worker(tmp_path)
    first.follower.start()
    await until(lambda: first.told)
    second.follower.start()
    await until(lambda: len(second.told) > 2)
    assert (first.place.asked > 0, second.place.asked) == (True, 0)
    first.place.away = True
    await until(lambda: "cannot be reached" in second.told[-1])
    assert second.place.asked == 0
    await first.follower.close()
    await until(lambda: second.told[-1] == "")
    assert second.place.asked > 0
    publisher = RemoteStore(Folder(tmp_path / "elsewhere"), tmp_path / "publisher")
    publisher.add(made.path)
    publisher.set_alias("cars", made.manifest.version)
    await until(lambda: second.store.followed().target("cars"))
    await second.follower.close()


async def test_a_volume_that_cannot_be_written_is_told_and_following_goes_on(tmp_path: Path) -> None:
    (tmp_path / "copy").write_text("a file where the folder is to be")
    worker = Worker(tmp_path)
    worker.follower.start()
    await until(lambda: worker.told)
    assert "cannot be used" in worker.told[-1]
    (tmp_path / "copy").unlink()
    await until(lambda: worker.told[-1] == "")
    await worker.follower.close()


async def test_a_place_that_does_not_answer_is_told_and_followed_again_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.patience.PATIENCE_S", 0.01)
    worker = Worker(tmp_path)
    answers = worker.place.answers = threading.Event()
    worker.follower.start()
    await until(lambda: worker.told)
    assert worker.told[0].startswith("the store, or the volume of its copy, has not answered for 5 s.")
    answers.set()
    await until(lambda: worker.told[-1] == "")
    await worker.follower.close()


def test_pauses_grow_while_the_store_is_away_up_to_a_minute_but_are_never_shorter_than_asked_for() -> None:
    assert [pause_s(5, failures) for failures in (0, 1, 2, 3, 4, 5, 6, 1000)] == [5, 5, 10, 20, 40, 60, 60, 60]
    assert pause_s(300, 9) == 300


def test_a_fleet_that_started_together_does_not_ask_together() -> None:
    pauses = [jittered(5) for _ in range(200)]
    assert 4 <= min(pauses) < 4.7
    assert 5.3 < max(pauses) <= 6
