"""A server with the batcher's policy, simulated: Poisson arrivals, one event loop, one engine, no timer.

What it knows of a real one: the engine's latency curve, the largest batch, which batches run on the loop, and two costs
of the loop, of a request and of a batch. It knows nothing of garbage collection, other threads, or a shared processor.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """A server as the simulation knows it. Seconds.

    Attributes:
        curve: Rows in a batch -> the engine's time; from 1 row, ascending.
        batch_rows: Largest batch.
        inline_rows: Batches of up to as many rows run on the loop, larger ones beside it.
        request_s: Of the loop for a request: half before it is queued, half when it is answered.
        batch_s: Of the loop for a batch, beside the engine.
        floor_s: Of a request elsewhere: sockets, wake-ups, the client.
    """

    curve: Mapping[int, float]
    batch_rows: int
    inline_rows: int
    request_s: float
    batch_s: float
    floor_s: float = 0.0

    def engine_s(self, rows: int) -> float:
        """Time of a batch, between the measured sizes on a straight line."""
        return float(np.interp(rows, list(self.curve), list(self.curve.values())))

    def serve_s(self, rows: int) -> float:
        """All of what a batch takes where nothing runs beside the loop."""
        return rows * self.request_s + self.batch_s + self.engine_s(rows)

    def peak(self) -> float:
        """Requests a second of which the loop or the engine has no more; what runs beside each other, overlaps."""
        return max(rows / self._busy_s(rows) for rows in range(1, self.batch_rows + 1))

    def _busy_s(self, rows: int) -> float:
        if rows <= self.inline_rows:
            return self.serve_s(rows)
        return max(rows * self.request_s + self.batch_s, self.engine_s(rows) + self.batch_s)


def arrivals(rate: float, seconds: float, seed: int) -> Times:
    """A Poisson process, the same for the same seed."""
    generator = np.random.default_rng(seed)
    count = int(rate * seconds + 6 * (rate * seconds) ** 0.5 + 10)
    times = np.cumsum(generator.exponential(1 / rate, count))
    return times[times < seconds]


def latencies(model: Model, due: Times) -> Times:
    """Of each request that is due at a time, ascending, of one worker."""
    found = np.empty(len(due))
    queue: deque[int] = deque()
    running: list[int] = []
    now, arrived, answered, ends = 0.0, 0, 0, np.inf
    half_s = model.request_s / 2

    def answer(batch: list[int], now: float) -> float:
        for number in batch:
            now += half_s
            found[number] = now - due[number]
        return now

    while answered < len(due):
        turn = now
        while arrived < len(due) and due[arrived] <= turn:
            queue.append(arrived)
            now += half_s
            arrived += 1
        if running and ends <= now:
            now = answer(running, now)
            answered += len(running)
            running, ends = [], np.inf
        if queue and not running:
            batch = [queue.popleft() for _ in range(min(len(queue), model.batch_rows))]
            engine_s = model.engine_s(len(batch))
            now += model.batch_s
            if len(batch) <= model.inline_rows:
                now = answer(batch, now + engine_s)
                answered += len(batch)
            else:
                running, ends = batch, now + engine_s
        if now == turn:
            # Nothing to do until something comes.
            now = min(due[arrived] if arrived < len(due) else np.inf, ends)
    return found + model.floor_s


def split(model: Model, due: Times, workers: int, seed: int) -> Times:
    """Each request goes to any of the workers, each of which has a queue of its own."""
    chosen = np.random.default_rng(seed).integers(0, workers, len(due))
    return np.concatenate([latencies(model, due[chosen == worker]) for worker in range(workers)])


def shared(model: Model, due: Times, workers: int) -> Times:
    """One queue: whoever is free takes its share of what waits. Everything on the loop, as with small models."""
    found = np.empty(len(due))
    free = [0.0] * workers
    first = 0
    while first < len(due):
        now = max(heapq.heappop(free), due[first])
        waiting = int(np.searchsorted(due, now, side="right")) - first
        idle = 1 + sum(other <= now for other in free)
        rows = min(-(-waiting // idle), model.batch_rows)
        ends = now + model.serve_s(rows)
        found[first : first + rows] = ends - due[first : first + rows]
        heapq.heappush(free, ends)
        first += rows
    return found + model.floor_s


def p99_ms(found: Times) -> float:
    """The 99th percentile, in milliseconds."""
    return 1000 * float(np.percentile(found, 99, method="inverted_cdf"))


def p50_ms(found: Times) -> float:
    """The median, in milliseconds."""
    return 1000 * float(np.percentile(found, 50, method="inverted_cdf"))


def highest_rate(serve: Callable[[Times], Times], peak: float, bound_ms: float, seconds: float, seed: int) -> float:
    """The highest rate at which p99 of what ``serve`` says stays below the bound, to one percent of the peak."""
    low, high, step = 0, 120, peak / 100
    while high - low > 1:
        middle = (low + high + 1) // 2
        if p99_ms(serve(arrivals(middle * step, seconds, seed))) < bound_ms:
            low = middle
        else:
            high = middle
    return low * step
