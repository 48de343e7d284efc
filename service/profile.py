"""How long batches of a model take on this machine, and what follows from that."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines import Engine
from service.settings import Settings

# What a batch costs beside what the engine takes in a row of them: the batcher, a turn of the loop, and caches that are
# cold after it. With limits of 4 and of 32 rows the small CNN took 281 and 219 us of CPU a request, the shipped one 734
# and 601: 0.25 to 0.6 ms a batch, of two CPUs (`benchmarks.pairs --settings SERVING_BATCH_ROWS=4`).
_BATCH_OVERHEAD_MS = 0.3
# And what one in a thread costs besides: turns with Python's lock, and with the CPUs. Measured in the same way, with
# SERVING_INLINE_MS set.
_THREAD_OVERHEAD_MS = 0.4
# Of the best rows a second; what a larger batch brings beyond that is not worth its time.
_GOOD_ENOUGH = 0.95
_PASSES = 5


@dataclass(frozen=True)
class Profile:
    """The latency curve of one loaded version, and the batches that it is run in.

    Attributes:
        latency_ms: Rows in a batch -> least engine time. Ascending, from 1 row.
        batch_rows: Largest batch.
        row_s: Seconds a row.
        batch_s: Seconds a batch, besides.
    """

    latency_ms: Mapping[int, float]
    batch_rows: int
    row_s: float
    batch_s: float

    def inline_rows(self, limit_ms: float) -> int:
        """Rows in the largest batch that takes at most ``limit_ms``."""
        return max((rows for rows, ms in without_outliers(self.latency_ms).items() if ms <= limit_ms), default=0)


def decide(
    latency_ms: Mapping[int, float], *, batch_rows: int | None, max_batch_ms: float, inline_ms: float
) -> Profile:
    """What a latency curve says.

    The batch limit is the smallest batch whose rows a second are within 5 % of the best, of those that take no longer
    than ``max_batch_ms``; a single row always may.

    Args:
        latency_ms: As measured, from 1 row on.
        batch_rows: The limit, where it is not to follow from the curve.
        max_batch_ms: Longest batch. Milliseconds.
        inline_ms: Batches that take no longer run on the event loop. Milliseconds.
    """
    likely = without_outliers(latency_ms)
    allowed = {rows: ms for rows, ms in likely.items() if ms <= max_batch_ms or rows == 1}
    if batch_rows is None:
        rates = {
            rows: rows / (ms + _BATCH_OVERHEAD_MS + (_THREAD_OVERHEAD_MS if ms > inline_ms else 0.0))
            for rows, ms in allowed.items()
        }
        enough = _GOOD_ENOUGH * max(rates.values())
        batch_rows = min(rows for rows, rate in rates.items() if rate >= enough)
    # A straight line through one row and a full batch, or the largest that was measured.
    most = max((rows for rows in likely if rows <= batch_rows), default=1)
    one_s, most_s = likely[1] / 1000, likely[most] / 1000
    row_s = (most_s - one_s) / (most - 1) if most > 1 else one_s
    if row_s <= 0:
        return Profile(latency_ms, batch_rows, most_s / most, 0.0)
    return Profile(latency_ms, batch_rows, row_s, max(0.0, one_s - row_s))


def without_outliers(latency_ms: Mapping[int, float]) -> dict[int, float]:
    """A curve without its worst outliers: a batch takes no longer than a larger one, nor than several smaller ones.

    What else runs at the same time only ever adds to what is measured, and at the start of a server much does.
    """
    sizes = sorted(latency_ms)
    likely = dict(latency_ms)
    for larger, size in zip(sizes[:0:-1], sizes[-2::-1], strict=True):
        likely[size] = min(likely[size], likely[larger])
    for smaller, size in pairwise(sizes):
        likely[size] = min(likely[size], likely[smaller] * size / smaller)
    return likely


def profile(engine: Engine, samples: NDArray[Any], settings: Settings) -> Profile:
    """Warm the engine up, and decide from how long it takes.

    Args:
        engine: Of the version.
        samples: Rows that it takes.
        settings: The largest batch, how long to measure, and what is decided already.
    """
    most = settings.batch_rows or settings.max_batch_rows
    sizes = [1 << n for n in range(most.bit_length()) if 1 << n < most] + [most]
    latency_ms = measure(engine, samples, sizes, settings.profile_ms / 1000)
    return decide(
        latency_ms,
        batch_rows=settings.batch_rows,
        max_batch_ms=settings.max_batch_ms,
        # What may have several batches under way has a thread for each.
        inline_ms=settings.inline_ms if engine.in_flight == 1 else 0.0,
    )


def measure(engine: Engine, samples: NDArray[Any], sizes: list[int], budget_s: float) -> dict[int, float]:
    """Least milliseconds of a batch of each size, over up to five passes in ``budget_s`` seconds.

    A slow engine is measured at the smaller sizes only, at one row at least.
    """
    batches = {size: np.resize(samples, (size, *samples.shape[1:])) for size in sizes}
    # Not the first run's time: that is when the engine allocates its memory.
    engine.run(batches[sizes[0]])
    latency: dict[int, float] = {}
    began = perf_counter()
    for _ in range(_PASSES):
        for size in sizes:
            started = perf_counter()
            # The next size takes twice as long, so it may not begin in what is left of the time.
            if latency and started - began + latency.get(size, 0.0) / 1000 > budget_s:
                return latency
            engine.run(batches[size])
            milliseconds = (perf_counter() - started) * 1000
            # The least: what else runs at the same time only ever adds.
            latency[size] = min(latency.get(size, milliseconds), milliseconds)
    return latency
