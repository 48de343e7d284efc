"""A version that is replaced answers what it has begun, and is released."""

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

from models.bundle import Bundle
from models.store import Store
from service.served import Served
from service.settings import Settings
from tests.bundles import run_offline
from tests.service.conftest import Started, until
from tests.service.test_loader import ROWS, answer, newer, version_of

__all__ = ["newer"]
pytestmark = pytest.mark.usefixtures("thawed_garbage")


class SlowEngine:
    """Holds a real engine's answers back until it is let go."""

    def __init__(self, engine: Any) -> None:
        self.engine, self.go, self.entered, self.closed = engine, threading.Event(), threading.Event(), False
        self.name, self.device, self.in_flight = engine.name, engine.device, engine.in_flight
        self.padded, self.split_rows = "", 0

    def run(self, rows: np.ndarray) -> np.ndarray:
        assert not self.closed, "run after close"
        self.entered.set()
        assert self.go.wait(10)
        return self.engine.run(rows)  # type: ignore[no-any-return]

    def close(self) -> None:
        self.closed = True
        self.engine.close()


def slow_down(served: Served) -> SlowEngine:
    slow = SlowEngine(served.engine)
    served.engine = served.batcher._engine = slow
    served.batcher.inline_rows = 0
    return slow


async def test_a_request_in_flight_finishes_on_the_old_version_which_is_then_released(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    old = loader.find("cars")
    expected = run_offline(store.open("cars", old.manifest.version), ROWS)
    slow = slow_down(old)
    pending = asyncio.create_task(old.batcher.submit(ROWS))
    await asyncio.to_thread(slow.entered.wait, 10)
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)
    np.testing.assert_array_equal(await answer(loader), run_offline(newer, ROWS))
    assert not slow.closed
    assert not pending.done()
    slow.go.set()
    np.testing.assert_array_equal((await pending).outputs, expected)
    await until(lambda: slow.closed)


async def test_a_version_that_a_request_still_holds_is_not_released(
    started: Started, settings: Settings, store: Store, newer: Bundle
) -> None:
    loader = await started(settings)
    old = loader.find("cars")
    slow = slow_down(old)
    slow.go.set()
    old.users += 1  # A request that has looked it up and is still reading its body.
    store.set_alias("cars", newer.manifest.version)
    await until(lambda: version_of(loader) == newer.manifest.version)
    await asyncio.sleep(0.05)
    assert not slow.closed
    np.testing.assert_array_equal(
        (await old.batcher.submit(ROWS)).outputs, run_offline(store.open("cars", old.manifest.version), ROWS)
    )
    old.users -= 1
    await until(lambda: slow.closed)


async def test_closing_answers_what_is_in_flight_and_releases_every_version(
    started: Started, settings: Settings
) -> None:
    loader = await started(settings)
    slow = {name: slow_down(served) for name, served in loader.served.items()}
    pending = asyncio.create_task(loader.find("cars").batcher.submit(ROWS))
    await asyncio.to_thread(slow["cars"].entered.wait, 10)
    closing = asyncio.create_task(loader.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    for engine in slow.values():
        engine.go.set()
    await closing
    assert (await pending).outputs.shape == (len(ROWS), 3)
    assert all(engine.closed for engine in slow.values())
    assert loader.served == {}


async def test_closing_before_anything_is_loaded_is_no_error(started: Started, settings: Settings) -> None:
    loader = await started(settings, wait=False)
    await loader.close()
