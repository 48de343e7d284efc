"""The curve of times over batch sizes."""

from itertools import count
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.gpu import curve


class Fake:
    """Takes no time; the clock below says that each look at it is half a second later."""

    name, device, in_flight = "fake", "gpu", 2

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.sizes.append(len(rows))
        return np.zeros((len(rows), 1), np.float32)

    def close(self) -> None:
        pass


def test_each_size_is_warmed_up_and_timed_for_about_a_second() -> None:
    engine, ticks = Fake(), count()
    points = curve(engine, np.zeros((3, 2), np.float32), sizes=(1, 8), clock=lambda: next(ticks) / 2)
    assert [(point.rows, point.runs) for point in points] == [(1, 2), (8, 2)]
    assert points[1].p50_ms == 500
    assert points[1].rows_per_s == pytest.approx(16)
    assert engine.sizes.count(8) == 5 + 2
