"""Runs production's batches on the candidate too, beside the path of the requests, and compares the answers.

One thread a worker, with a share of one core at most. What it cannot take it sheds: a batch
whose turn comes while production has rows waiting, or that finds too many batches before it, is counted and dropped.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.store import CANDIDATE, PRODUCTION
from models.task import Classes, Task
from service.batch import BatchListener
from service.metrics import SHADOW_RESULTS, Metrics
from service.served import Served

logger = logging.getLogger(__name__)

_MAX_WAITING = 8
# Of the width of production's interval. Values closer than that are the same to whoever reads the interval too.
TOLERANCE = 0.1


@dataclass(eq=False)
class Pair:
    """A production version with the candidate beside it, and what comparing them has shown in this worker.

    Attributes:
        rows: What became of rows -> how many: agreed, differed, failed, shed. Counted in the shadow's thread.
        refused: Rows shed before they got there; counted where production's batches run.
        batches: Batches compared.
        seconds: Engine time of those, of production and of the candidate.
        distance: Mean absolute difference of the outputs that are compared, summed over rows.
        distance_max: The largest one.
        ended: Whether the candidate must not be run any more.
        listener: What production's batcher calls.
    """

    production: Served
    candidate: Served
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SHADOW_RESULTS, 0))
    refused: int = 0
    batches: int = 0
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])
    distance: float = 0.0
    distance_max: float = 0.0
    ended: bool = False
    listener: BatchListener | None = None

    def drop_candidate(self) -> None:
        """Let the candidate be released; on the loop, where its users are counted."""
        self.candidate.users -= 1

    def compare(self, rows: NDArray[Any], outputs: NDArray[np.float32], seconds: float) -> None:
        """Run the candidate on a batch that production answered with ``outputs`` in ``seconds``."""
        started = perf_counter()
        try:
            agreed, distances = difference(self.production.manifest.task, outputs, self.candidate.engine.run(rows))
        except Exception as error:
            # Another schema, or a graph that fails: to be seen in the numbers, and in the log once.
            if not self.rows["failed"]:
                manifest = self.candidate.manifest
                logger.warning("shadow of %s: %s failed: %s", manifest.name, manifest.version, error)
            self.rows["failed"] += len(rows)
            return
        self.batches += 1
        self.seconds[0] += seconds
        self.seconds[1] += perf_counter() - started
        self.rows["agreed"] += agreed
        self.rows["differed"] += len(rows) - agreed
        self.distance += float(distances.mean(axis=tuple(range(1, distances.ndim))).sum())
        self.distance_max = max(self.distance_max, float(distances.max()))


def difference(
    task: Task, production: NDArray[np.float32], candidate: NDArray[np.float32]
) -> tuple[int, NDArray[np.float32]]:
    """How far two versions' outputs are apart.

    Returns:
        Rows that agree: the same class, or values that differ by at most `TOLERANCE` of the width of production's
        interval, on average over the steps of a forecast. And absolute differences: of probabilities, or of values
        in the output's unit; shape ``(n, ...)``.

    Raises:
        ValueError: The shapes differ, or a number of the candidate is not finite.
    """
    if candidate.shape != production.shape:
        raise ValueError(f"outputs have shape {candidate.shape}, production's {production.shape}")
    if not np.isfinite(candidate).all():
        raise ValueError("an output is not a finite number")
    if isinstance(task, Classes):
        agreed = candidate.argmax(axis=-1) == production.argmax(axis=-1)
        return int(agreed.sum()), np.abs(candidate - production)
    apart = np.abs(candidate[..., 0] - production[..., 0]).reshape(len(production), -1)
    width = np.abs(production[..., 2] - production[..., 1]).reshape(len(production), -1)
    agreed = apart.mean(axis=1) <= TOLERANCE * width.mean(axis=1)
    return int(agreed.sum()), apart


class Shadows:
    """Every shadow of one worker.

    Args:
        metrics: Where the measurements go.
        max_share: Largest share of one core, above 0 to 1.
    """

    def __init__(self, metrics: Metrics, max_share: float) -> None:
        self._metrics = metrics
        self._rest = 1 / max_share - 1
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self.pairs: dict[str, Pair] = {}

    def begin(self, name: str, production: Served, candidate: Served) -> None:
        """Give the candidate what production answers; nothing changes when it gets that already."""
        pair = self.pairs.get(name)
        if pair is not None and (pair.production, pair.candidate) == (production, candidate):
            return
        self.end(name)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()
        pair = self.pairs[name] = Pair(production, candidate)
        # Held until the thread has seen the end: its engine must not be closed under a batch.
        candidate.users += 1
        pair.listener = partial(self._offer, pair)
        production.batcher.listeners += (pair.listener,)

    def end(self, name: str) -> None:
        """Give the candidate nothing more."""
        pair = self.pairs.pop(name, None)
        if pair is not None:
            batcher = pair.production.batcher
            batcher.listeners = tuple(listener for listener in batcher.listeners if listener is not pair.listener)
            # No cycle: the collector does not look at what was frozen.
            pair.listener = None
            # What waits is not run any more, nor a batch that was under way and comes after this.
            pair.ended = True
            self._waiting.put(partial(self._let_go, pair, asyncio.get_running_loop()))
            # The next candidate must not be taken for this one.
            self._publish(name, Pair(pair.production, pair.candidate))

    def measure(self) -> None:
        """Bring the gauges up to date."""
        for name, pair in self.pairs.items():
            self._publish(name, pair)

    def _publish(self, name: str, pair: Pair) -> None:
        metrics = self._metrics
        counts = pair.rows | {"shed": pair.rows["shed"] + pair.refused}
        for result, count in counts.items():
            metrics.shadow_rows.labels(name, result).set(count)
        metrics.shadow_batches.labels(name).set(pair.batches)
        for alias, seconds in zip((PRODUCTION, CANDIDATE), pair.seconds, strict=True):
            metrics.shadow_seconds.labels(name, alias).set(seconds)
        metrics.shadow_distance.labels(name).set(pair.distance)
        metrics.shadow_distance_max.labels(name).set(pair.distance_max)

    async def close(self) -> None:
        """End every shadow, and the thread."""
        for name in list(self.pairs):
            self.end(name)
        self._stop.set()
        self._waiting.put(None)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)

    def _offer(self, pair: Pair, rows: NDArray[Any], outputs: NDArray[np.float32], seconds: float) -> None:
        """Called after each batch of production, on the loop or in an engine's thread: takes a microsecond."""
        if self._waiting.qsize() >= _MAX_WAITING:
            pair.refused += len(rows)
        else:
            self._waiting.put(partial(self._compare, pair, rows, outputs, seconds))

    def _compare(self, pair: Pair, rows: NDArray[Any], outputs: NDArray[np.float32], seconds: float) -> None:
        if pair.ended:
            return
        if pair.production.batcher.queued_rows:
            pair.rows["shed"] += len(rows)
            return
        started = perf_counter()
        pair.compare(rows, outputs, seconds)
        self._stop.wait(self._rest * (perf_counter() - started))

    def _work(self) -> None:
        # At the loop's priority: one that holds the interpreter's lock and gets no CPU would stop the loop with it, for
        # up to a second on a busy machine (benchmarks/priority.py).
        while (work := self._waiting.get()) is not None:
            work()
            del work  # It holds two versions, and the next may be long in coming.

    def _let_go(self, pair: Pair, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(pair.drop_candidate)
