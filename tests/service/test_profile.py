"""From a latency curve to the batches that a model is run in."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from service.profile import Profile, decide, measure, profile
from service.settings import Settings
from tests.service.engines import FakeEngine, rows

SIZES = [1, 2, 4, 8, 16, 32, 64]
# One row of 0.1 ms after the other: nothing is gained by large batches but what a batch costs beside the engine.
FLAT = {size: 0.1 * size for size in SIZES}
# 5 ms whatever the rows: the more the better.
CONSTANT = dict.fromkeys(SIZES, 5.0)
SLOW = {1: 20.0, 2: 35.0, 4: 70.0, 8: 140.0}


def decided(
    curve: dict[int, float], batch_rows: int | None = None, max_batch_ms: float = 50.0, inline_ms: float = 2.0
) -> Profile:
    return decide(curve, batch_rows=batch_rows, max_batch_ms=max_batch_ms, inline_ms=inline_ms)


def limit(curve: dict[int, float], **options: Any) -> int:
    return decided(curve, **options).batch_rows


def test_the_limit_is_the_smallest_batch_that_is_nearly_as_good_as_the_best() -> None:
    assert limit({size: 0.05 * size for size in SIZES}) == 32
    assert limit(CONSTANT) == 64


def test_no_batch_is_longer_than_the_bound_but_one_row_always_may_be() -> None:
    assert limit(SLOW) == 2
    assert limit(SLOW, max_batch_ms=10.0) == 1
    assert limit(CONSTANT, max_batch_ms=1.0) == 1


def test_a_batch_on_the_loop_is_preferred_to_one_that_is_hardly_better_but_for_the_thread_it_takes() -> None:
    # 32 rows take 1.06 ms, 64 take 2.02.
    curve = {size: 0.1 + 0.03 * size for size in SIZES}
    assert [limit(curve, inline_ms=ms) for ms in (0.0, 1.1, 2.1)] == [64, 32, 64]


def test_a_setting_takes_the_place_of_what_follows_from_the_curve() -> None:
    assert limit(CONSTANT, batch_rows=3) == 3


def test_one_disturbed_measurement_changes_nothing() -> None:
    assert limit(FLAT | {8: 11.0}) == limit(FLAT)
    assert limit(CONSTANT | {1: 50.0}) == 64
    assert decided(FLAT | {8: 11.0}).inline_rows(1.0) == 8


@given(st.dictionaries(st.sampled_from(SIZES), st.floats(1e-3, 1e3)), st.floats(1e-3, 1e3), st.floats(0.01, 1e3))
@examples(deadline=None)
def test_every_curve_has_a_limit_that_was_measured_and_a_pace(
    curve: dict[int, float], first: float, bound: float
) -> None:
    found = decided({1: first, **curve}, max_batch_ms=bound)
    assert found.batch_rows in {1, *curve}
    assert found.row_s > 0
    assert found.batch_s >= 0
    assert found.inline_rows(0.0) == 0


def test_rows_and_batches_cost_what_the_curve_says() -> None:
    found = decided({1: 1.5, 2: 2.0, 4: 3.0}, batch_rows=4)
    assert (found.row_s, found.batch_s) == (pytest.approx(0.0005), pytest.approx(0.001))
    assert decided(FLAT).batch_s == pytest.approx(0)
    assert decided({1: 3.0}).row_s == pytest.approx(0.003)


def test_the_largest_batch_on_the_loop_is_the_largest_that_is_short_enough() -> None:
    found = decided(FLAT)
    assert [found.inline_rows(ms) for ms in (0.05, 0.1, 2.0, 1000.0)] == [0, 1, 16, 64]


def test_every_size_up_to_the_largest_batch_is_measured_several_times() -> None:
    engine = FakeEngine()
    found = profile(engine, rows(1, 2, 3), Settings(max_batch_rows=24, profile_ms=60_000))
    assert list(found.latency_ms) == [1, 2, 4, 8, 16, 24]
    assert [len(batch) for batch in engine.batches] == [1, *[1, 2, 4, 8, 16, 24] * 5]
    assert engine.batches[-1] == [1.0, 2.0, 3.0] * 8, "rows that the model takes"


def test_what_does_not_fit_into_the_time_is_not_measured_but_one_row_is() -> None:
    engine = FakeEngine()
    assert list(measure(engine, rows(1), SIZES, budget_s=1e-9)) == [1]
    assert len(engine.batches) == 2


def test_the_rows_keep_their_shape() -> None:
    shapes = []
    engine = FakeEngine(lambda batch: np.zeros((shapes.append(batch.shape) or len(batch), 1), np.float32))
    measure(engine, np.zeros((2, 3, 4)), [1, 4], budget_s=60)
    assert set(shapes) == {(1, 3, 4), (4, 3, 4)}
