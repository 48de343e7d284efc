"""Engines that do what a test wants, and a batcher on one."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import EngineError
from service.batcher import Batcher

Rows = NDArray[Any]
POISON = -1.0


def double(rows: Rows) -> Rows:
    """Twice each row; a poisoned row fails the whole batch, as a broken row does in a real engine."""
    if (rows == POISON).any():
        raise EngineError("poisoned")
    return rows * 2


class FakeEngine:
    """Runs ``function`` and remembers the batches and the threads that they ran in."""

    name, device, padded, split_rows = "fake", "cpu", "", 0

    def __init__(self, function: Callable[[Rows], Rows] = double, in_flight: int = 1) -> None:
        self.function = function
        self.in_flight = in_flight
        self.batches: list[list[float]] = []
        self.threads: list[threading.Thread] = []

    def run(self, rows: Rows) -> NDArray[np.float32]:
        self.batches.append(rows[:, 0].tolist())
        self.threads.append(threading.current_thread())
        return self.function(rows)

    def close(self) -> None:
        pass


class Gate:
    """An engine function that waits until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    def __call__(self, rows: Rows) -> Rows:
        self.entered.set()
        assert self.opened.wait(10)
        return double(rows)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.entered.wait, 10)


def batcher_of(engine: FakeEngine, **options: Any) -> Batcher:
    settings = {"max_batch_rows": 8, "max_queue_rows": 64, "inline_rows": 0} | options
    return Batcher("cars", engine, **settings)


def rows(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, np.newaxis]


async def answers(batcher: Batcher, *requests: NDArray[Any]) -> list[Any]:
    """Outputs of requests that arrive in the same turn of the loop; an error in the place of an answer."""
    found = await asyncio.gather(*(batcher.submit(request) for request in requests), return_exceptions=True)
    return [item if isinstance(item, BaseException) else item.outputs[:, 0].tolist() for item in found]


INLINE = [0, 64]
"""Rows that run on the loop: none, or any batch."""
