"""From how many rows on a batch is split over threads inside ONNX Runtime.

Waking threads costs some 20 to 60 us, and half as much CPU time again as the batch takes, more than a small one gains.
"""

import math
from collections.abc import Callable
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[Any]], NDArray[np.float32]]

_WORTH_S = 0.0002
"""Seconds of CPU time. Of a small convolutional network, 58 us a row, a batch of 4 rows is a third faster split over
two CPUs, for a third more CPU time; one of 2 is a quarter faster for half as much again, and a single row slower
(``python -m benchmarks.splitting``)."""
_LONG_S = 10 * _WORTH_S
_ROWS = 8
_TRIALS = 3


def split_from(run: Run, samples: NDArray[Any]) -> int:
    """Rows of the smallest batch that takes 0.2 ms of CPU time; 1 at least.

    CPU time, and not how long splitting takes: where a server starts, the other CPUs are busy with that.

    Args:
        run: Outputs ``(n, *output_shape)`` for rows ``(n, *input_shape)``, with one thread.
        samples: Rows that the graph takes.
    """
    # Not the first run's time: that is when memory is allocated.
    run(samples[:1])
    alone = _least(run, samples[:1])
    if alone >= _WORTH_S:
        return 1
    row_s = _least(run, np.resize(samples, (_ROWS, *samples.shape[1:]))) / _ROWS
    return math.ceil(_WORTH_S / max(min(row_s, alone), 1e-7))


def _least(run: Run, rows: NDArray[Any]) -> float:
    """Seconds of the quickest of three runs, or of one that is long enough."""
    least = math.inf
    for _ in range(_TRIALS):
        started = thread_time()
        run(rows)
        least = min(least, thread_time() - started)
        if least >= _LONG_S:
            break
    return least
