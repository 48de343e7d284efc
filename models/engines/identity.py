"""In which batches a graph gives the same row the same bits.

Vectorised code takes several values at once and what remains one by one, with another rounding: in ONNX Runtime that
happens to elementwise functions such as Log over rows whose number is no multiple of four, and to products of a matrix
with a single row. So the same row may differ in its last bit between batches. Which graphs that concerns is not to be
seen from outside, so it is tried; padding to a multiple then makes all batches alike.
"""

from collections.abc import Callable, Iterator
from time import thread_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

Run = Callable[[NDArray[Any]], NDArray[np.float32]]

MULTIPLES = (1, 2, 4, 8, 16)
"""What is tried; no vector of a CPU holds more numbers than the last."""
_ROWS = 64
# Numbers of batches, in multiples: whole ones, and such as leave a rest of each kind.
_TIMES = (1, 3, 5)
_BUDGET_S = 0.025
"""Seconds."""


def row_multiple(run: Run, samples: NDArray[Any]) -> int:
    """Least of `MULTIPLES` to which batches are to be padded so that a row has the same outputs, bit for bit, in any.

    It is found by trying, in about `_BUDGET_S` of CPU time, so that a busy machine changes nothing: slow graphs are
    tried with fewer rows. 1 where no multiple helps.

    Args:
        run: Outputs ``(n, *output_shape)`` for rows ``(n, *input_shape)``.
        samples: Rows that the graph takes.
    """
    started = thread_time()
    run(samples[:1])
    row_s = thread_time() - started
    if row_s < _BUDGET_S:
        # The first run allocates memory, and the fewer rows are compared, the fewer differences are seen.
        again = thread_time()
        run(samples[:1])
        row_s = min(row_s, thread_time() - again)
    # The reference takes a quarter of the time.
    affordable = _BUDGET_S / 4 / max(row_s, 1e-6)
    count = next((n for n in (64, 32, 16) if n <= affordable), 4)
    rows = _mixed(samples, count)
    expected = run(rows)
    for multiple in MULTIPLES:
        if multiple <= count and _alike(run, rows, expected, multiple, started + _BUDGET_S):
            return multiple
    return 1


def padded(rows: NDArray[Any], multiple: int) -> NDArray[Any]:
    """``rows`` with the last one repeated up to a multiple."""
    short = -len(rows) % multiple
    # A real row keeps every operation in its usual range, which zeros might not.
    return np.concatenate((rows, np.repeat(rows[-1:], short, axis=0))) if short else rows


def _alike(run: Run, rows: NDArray[Any], expected: NDArray[np.float32], multiple: int, until: float) -> bool:
    for start, stop in _parts(len(rows), multiple):
        if run(rows[start:stop]).tobytes() != expected[start:stop].tobytes():
            return False
        if thread_time() > until:
            break
    return True


def _parts(count: int, multiple: int) -> Iterator[tuple[int, int]]:
    for times in _TIMES:
        size = times * multiple
        yield from ((start, start + size) for start in range(0, count - size + 1, size))


def _mixed(samples: NDArray[Any], count: int) -> NDArray[Any]:
    """Rows as different as can be: each input value is that of some sample."""
    flat = samples.reshape(len(samples), -1)
    chosen = np.random.default_rng(0).integers(0, len(flat), (count, flat.shape[1]))
    mixed = np.take_along_axis(flat, chosen, axis=0)
    return np.ascontiguousarray(mixed.reshape(count, *samples.shape[1:]))
