"""A store that cannot be used for a while: nobody is answered wrongly, and it is used when it can be."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from models.errors import StoreError
from models.store import ALIASES, Seeded, Store
from service.errors import NotReadyError
from service.loader import Loader
from service.metrics import Metrics
from service.patience import read_patiently
from service.settings import Settings
from tests.service.conftest import until

pytestmark = pytest.mark.usefixtures("thawed_garbage")


class FullStore(Store):
    """A store whose disk is full until there is ``room``."""

    room = False

    def begin(self, pretrained: Path) -> Seeded:
        if not self.room:
            raise StoreError("the store cannot be written: No space left on device.")
        return super().begin(pretrained)


@pytest.fixture
async def loader(tmp_path: Path, settings: Settings) -> AsyncIterator[Loader]:
    """Of a home that holds nothing yet, on a full disk."""
    empty = settings.model_copy(update={"home": tmp_path / "empty"})
    loader = Loader(empty, FullStore(empty.home), Metrics())
    yield loader
    await loader.close()


def shown(loader: Loader) -> str:
    return loader.metrics.render()[0].decode()


async def test_a_store_without_room_is_seeded_when_there_is_some(
    loader: Loader, caplog: pytest.LogCaptureFixture
) -> None:
    loader.start()
    await until(loader.problems)
    await asyncio.sleep(0.2)  # Several more tries, of which the log says nothing.
    assert loader.problems() == {"store": "the store cannot be written: No space left on device."}
    with pytest.raises(NotReadyError, match="the store cannot be used"):
        loader.find("cars")
    assert caplog.text.count("the store is not seeded") == 1
    assert isinstance(loader.store, FullStore)
    loader.store.room = True
    await until(lambda: len(loader.served) == 3)
    assert loader.problems() == {}
    assert loader.metrics.reloads.labels("cars", "success")._value.get() == 1  # type: ignore[attr-defined]


async def test_a_worker_that_begins_when_its_servers_folder_is_gone_begins_no_store(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "gone"))
    assert isinstance(loader.store, FullStore)
    loader.store.room = True
    loader.start()
    await until(loader.problems)
    assert "Mount the volume again" in loader.problems()["store"]
    assert not loader.store.home.exists()
    (tmp_path / "gone").mkdir()
    await until(lambda: len(loader.served) == 3)


async def test_whether_the_store_is_followed_is_a_metric(store: Store, settings: Settings) -> None:
    loader = Loader(settings, store, Metrics())
    loader.start()
    try:
        await until(lambda: loader.ready)
        assert "serving_store_reachable 1.0" in shown(loader)
        document = (store.home / ALIASES).read_bytes()
        (store.home / ALIASES).write_bytes(b"{")
        await until(lambda: "serving_store_reachable 0.0" in shown(loader))
        (store.home / "next").write_bytes(document)
        (store.home / "next").replace(store.home / ALIASES)
        await until(lambda: "serving_store_reachable 1.0" in shown(loader))
    finally:
        await loader.close()


async def test_what_does_not_answer_is_told_of_once_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr("service.patience.PATIENCE_S", 0.01)
    released, told = threading.Event(), list[bool]()

    def on_silence() -> None:
        told.append(True)
        released.set()

    with ThreadPoolExecutor(1) as thread:
        assert await read_patiently(thread, lambda: released.wait(60), on_silence)
        # A thread may get no CPU for longer than that.
        monkeypatch.setattr("service.patience.PATIENCE_S", 60.0)
        assert await read_patiently(thread, lambda: "at once", told.clear) == "at once"
    assert told == [True]
