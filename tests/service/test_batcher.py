"""Greedy micro-batching: bounded, cancellable, in order, and one bad row fails alone."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import EngineError
from service.batcher import Batcher
from service.errors import DeadlineError, QueueFullError

Rows = NDArray[Any]
POISON = -1.0


def double(rows: Rows) -> Rows:
    """Twice each row; a poisoned row fails the whole batch, as a broken row does in a real engine."""
    if (rows == POISON).any():
        raise EngineError("poisoned")
    return rows * 2


class FakeEngine:
    """Runs ``function`` and remembers the batches and the threads that they ran in."""

    name, device = "fake", "cpu"

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


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_a_lone_request_is_answered_at_once(inline_rows: int) -> None:
    engine = FakeEngine()
    result = await batcher_of(engine, inline_rows=inline_rows).submit(rows(1, 2))
    assert result.outputs[:, 0].tolist() == [2, 4]
    assert result.queue_s >= 0
    assert result.infer_s > 0
    assert result.batch_rows == 2
    assert engine.batches == [[1, 2]]


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_requests_that_arrive_together_share_a_batch_and_each_gets_its_own_rows(inline_rows: int) -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, inline_rows=inline_rows)
    assert await answers(batcher, rows(1), rows(2, 3), rows(4)) == [[2], [4, 6], [8]]
    assert engine.batches == [[1, 2, 3, 4]]


async def test_what_arrives_during_a_batch_forms_the_next_one() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    others = [asyncio.create_task(batcher.submit(rows(value))) for value in (2, 3, 4)]
    await asyncio.sleep(0)
    assert batcher.queued_rows == 3
    gate.opened.set()
    await asyncio.gather(first, *others)
    assert engine.batches == [[1], [2, 3, 4]]
    assert batcher.queued_rows == 0


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_a_request_larger_than_a_batch_is_split_and_joined_in_order(inline_rows: int) -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, max_batch_rows=4, inline_rows=inline_rows)
    large = rows(*range(10))
    assert await answers(batcher, rows(50), large, rows(60)) == [[100], (large[:, 0] * 2).tolist(), [120]]
    assert [len(batch) for batch in engine.batches] == [4, 4, 4]
    assert [row for batch in engine.batches for row in batch] == [50, *range(10), 60]


@given(
    st.lists(st.integers(1, 11), min_size=1, max_size=12), st.integers(1, 9), st.sampled_from(INLINE), st.integers(1, 3)
)
@examples(max_examples=60, deadline=None)
def test_every_caller_gets_its_own_answers_in_order(
    sizes: list[int], max_batch_rows: int, inline_rows: int, in_flight: int
) -> None:
    async def run() -> None:
        engine = FakeEngine(in_flight=in_flight)
        batcher = batcher_of(engine, max_batch_rows=max_batch_rows, max_queue_rows=1000, inline_rows=inline_rows)
        starts = np.cumsum([0, *sizes])
        requests = [rows(*range(start, start + size)) for start, size in zip(starts, sizes, strict=False)]
        assert await answers(batcher, *requests) == [(request[:, 0] * 2).tolist() for request in requests]
        assert max(map(len, engine.batches)) <= max_batch_rows
        assert batcher.queued_rows == 0
        await batcher.close()

    asyncio.run(run())


async def test_two_batches_of_an_asynchronous_engine_are_in_flight_at_once() -> None:
    # Each batch waits for the other: one at a time would never end but in the barrier's error.
    barrier = threading.Barrier(2)

    def meet(batch: Rows) -> Rows:
        barrier.wait(10)
        return double(batch)

    batcher = batcher_of(FakeEngine(meet, in_flight=2), max_batch_rows=1)
    assert await answers(batcher, rows(1), rows(2)) == [[2], [4]]


async def test_more_batches_than_the_engine_wants_are_never_in_flight() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def count(batch: Rows) -> Rows:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1
        return double(batch)

    for in_flight in (1, 2):
        most = 0
        batcher = batcher_of(FakeEngine(count, in_flight), max_batch_rows=1)
        await answers(batcher, *(rows(value) for value in range(12)))
        assert most <= in_flight


async def test_a_split_request_is_joined_in_order_though_its_second_batch_ends_first() -> None:
    second_done = threading.Event()

    def overtaken(batch: Rows) -> Rows:
        if batch[0, 0] == 0:
            assert second_done.wait(10)
        return double(batch)

    engine = FakeEngine(overtaken, in_flight=2)
    batcher = batcher_of(engine, max_batch_rows=2, on_batch=lambda *_: second_done.set())
    assert await answers(batcher, rows(0, 1, 2, 3, 4)) == [[0, 2, 4, 6, 8]]


async def test_short_batches_run_on_the_loop_and_long_ones_in_a_thread() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, inline_rows=2)
    await batcher.submit(rows(1, 2))
    await batcher.submit(rows(1, 2, 3))
    assert engine.threads[0] is threading.current_thread()
    assert engine.threads[1].name.startswith("engine-cars")


async def test_an_asynchronous_engine_never_blocks_the_loop() -> None:
    engine = FakeEngine(in_flight=2)
    await batcher_of(engine, inline_rows=64).submit(rows(1))
    assert engine.threads[0] is not threading.current_thread()


async def test_the_loop_gets_a_turn_between_inline_batches() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, max_batch_rows=1, inline_rows=1)
    seen: list[int] = []

    async def watch() -> None:
        while len(engine.batches) < 3:
            seen.append(len(engine.batches))
            await asyncio.sleep(0)

    await asyncio.gather(watch(), answers(batcher, rows(1), rows(2), rows(3)))
    assert {1, 2} <= set(seen)


async def test_rows_that_do_not_fit_into_the_queue_are_refused_and_those_that_do_are_not() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate), max_queue_rows=4, seconds_per_row=0.5)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    waiting = asyncio.create_task(batcher.submit(rows(2, 3, 4)))
    await asyncio.sleep(0)
    batcher.refuse_if_full()
    with pytest.raises(QueueFullError) as caught:
        await batcher.submit(rows(5, 6))
    assert caught.value.retry_after == pytest.approx(1.5), "three rows wait, of half a second each"
    last = asyncio.create_task(batcher.submit(rows(7)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        batcher.refuse_if_full()
    gate.opened.set()
    assert [item.outputs[:, 0].tolist() for item in await asyncio.gather(first, waiting, last)] == [
        [2],
        [4, 6, 8],
        [14],
    ]
    batcher.refuse_if_full()


async def test_the_wait_that_is_promised_follows_what_was_measured() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(), seconds_per_row=1000.0)
    for _ in range(100):
        await batcher.submit(rows(1))
    batcher._engine.function = gate  # type: ignore[attr-defined]
    running = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    waiting = asyncio.create_task(batcher.submit(rows(1)))
    await asyncio.sleep(0)
    assert 0 < batcher.retry_after < 1
    gate.opened.set()
    await asyncio.gather(running, waiting)


async def test_rows_of_a_cancelled_request_are_not_computed_and_free_their_place() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_queue_rows=4)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    gone, stays = (asyncio.create_task(batcher.submit(rows(*values))) for values in ((2, 3), (4, 5)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    assert batcher.queued_rows == 2
    gate.opened.set()
    await asyncio.gather(first, stays)
    assert engine.batches == [[1], [4, 5]]
    assert gone.cancelled()


async def test_the_rest_of_a_split_request_is_not_computed_once_it_is_cancelled() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_batch_rows=2)
    gone = asyncio.create_task(batcher.submit(rows(1, 2, 3, 4, 5, 6)))
    await gate.reached()
    gone.cancel()
    await asyncio.sleep(0)
    assert batcher.queued_rows == 0
    gate.opened.set()
    assert (await batcher.submit(rows(7))).outputs.tolist() == [[14]]
    assert engine.batches == [[1, 2], [7]]


async def test_a_request_cancelled_while_it_is_computed_hurts_nobody() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate))
    gone, stays = (asyncio.create_task(batcher.submit(rows(value))) for value in (1, 2))
    await gate.reached()
    gone.cancel()
    gate.opened.set()
    assert (await stays).outputs.tolist() == [[4]]
    assert batcher.queued_rows == 0


async def test_rows_whose_deadline_passes_in_the_queue_are_answered_then_and_not_computed() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    stays = asyncio.create_task(batcher.submit(rows(4), time.perf_counter() + 60))
    with pytest.raises(DeadlineError):
        # The engine is held all the while: only the deadline can end this wait.
        await batcher.submit(rows(2, 3), time.perf_counter() + 0.01)
    assert batcher.queued_rows == 1
    gate.opened.set()
    await asyncio.gather(first, stays)
    assert engine.batches == [[1], [4]]


async def test_a_deadline_that_passes_while_the_rows_are_computed_is_answered_then_too() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate))
    with pytest.raises(DeadlineError):
        await batcher.submit(rows(1), time.perf_counter() + 0.01)
    gate.opened.set()
    assert (await batcher.submit(rows(2))).outputs.tolist() == [[4]]


async def test_the_rest_of_a_split_request_is_not_computed_after_its_deadline() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_batch_rows=2)
    with pytest.raises(DeadlineError):
        await batcher.submit(rows(1, 2, 3, 4, 5, 6), time.perf_counter() + 0.01)
    assert batcher.queued_rows == 0
    gate.opened.set()
    await batcher.submit(rows(7))
    assert engine.batches == [[1, 2], [7]]


async def test_a_deadline_that_has_passed_already_takes_no_place_in_the_queue() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine)
    with pytest.raises(DeadlineError):
        await batcher.submit(rows(1), time.perf_counter())
    assert batcher.queued_rows == 0
    assert engine.batches == []


async def test_a_deadline_that_passed_while_the_loop_was_busy_is_seen_before_the_batch() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, inline_rows=8)
    late = asyncio.create_task(batcher.submit(rows(1), time.perf_counter() + 0.001))
    await asyncio.sleep(0)
    time.sleep(0.003)  # noqa: ASYNC251 - holds the loop up
    with pytest.raises(DeadlineError):
        await late
    assert engine.batches == []


@pytest.mark.parametrize("inline_rows", INLINE)
@pytest.mark.parametrize("poisoned", range(5))
async def test_of_a_batch_only_the_owner_of_the_bad_row_fails(poisoned: int, inline_rows: int) -> None:
    requests = [rows(10 * i + 1, 10 * i + 2) for i in range(5)]
    requests[poisoned][1] = POISON
    batcher = batcher_of(FakeEngine(), max_batch_rows=64, inline_rows=inline_rows)
    found = await answers(batcher, *requests)
    assert isinstance(found[poisoned], EngineError)
    expected = [(request[:, 0] * 2).tolist() for i, request in enumerate(requests) if i != poisoned]
    assert [answer for i, answer in enumerate(found) if i != poisoned] == expected
    assert batcher.queued_rows == 0


@given(st.lists(st.booleans(), min_size=1, max_size=10))
@examples(max_examples=30, deadline=None)
def test_any_number_of_bad_requests_fail_alone(bad: list[bool]) -> None:
    async def run() -> None:
        batcher = batcher_of(FakeEngine(), max_batch_rows=64, inline_rows=64)
        found = await answers(batcher, *(rows(POISON if poisoned else i) for i, poisoned in enumerate(bad)))
        assert [isinstance(answer, EngineError) for answer in found] == bad

    asyncio.run(run())


async def test_a_split_request_with_a_bad_row_fails_once_and_its_rest_is_not_computed() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, max_batch_rows=2)
    found = await answers(batcher, rows(POISON, 1, 2, 3, 4, 5), rows(9))
    assert isinstance(found[0], EngineError)
    assert found[1] == [18]
    assert batcher.queued_rows == 0
    assert [4, 5] not in engine.batches


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
async def test_an_answer_that_is_not_finite_fails_its_owner_alone(number: float) -> None:
    def broken(batch: Rows) -> Rows:
        return np.where(batch == POISON, np.float32(number), batch * 2)

    found = await answers(batcher_of(FakeEngine(broken)), rows(1), rows(2, POISON), rows(3))
    assert found[0] == [2]
    assert isinstance(found[1], EngineError)
    assert "finite" in str(found[1])
    assert found[2] == [6]


async def test_an_engine_that_loses_rows_is_an_error_and_not_a_wrong_answer() -> None:
    batcher = batcher_of(FakeEngine(lambda batch: batch[:-1]))
    found = await answers(batcher, rows(1, 2), rows(3, 4))
    assert all(isinstance(answer, EngineError) for answer in found)


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_an_error_of_any_kind_becomes_an_engine_error_and_the_queue_goes_on(inline_rows: int) -> None:
    def broken(batch: Rows) -> Rows:
        if (batch == POISON).any():
            raise ZeroDivisionError("inside")
        return double(batch)

    batcher = batcher_of(FakeEngine(broken), inline_rows=inline_rows)
    with pytest.raises(EngineError, match="inside"):
        await batcher.submit(rows(POISON))
    assert await answers(batcher, rows(1)) == [[2]]


async def test_every_batch_is_reported_with_its_rows() -> None:
    reported: list[tuple[int, float]] = []
    batcher = batcher_of(
        FakeEngine(), max_batch_rows=4, on_batch=lambda count, seconds: reported.append((count, seconds))
    )
    await answers(batcher, rows(1, 2, 3), rows(4, 5, 6))
    assert [count for count, _ in reported] == [4, 2]
    assert all(seconds >= 0 for _, seconds in reported)


async def test_closing_waits_for_what_was_submitted() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate), max_batch_rows=1)
    running = [asyncio.create_task(batcher.submit(rows(value))) for value in (1, 2)]
    await gate.reached()
    closing = asyncio.create_task(batcher.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    gate.opened.set()
    await closing
    assert [task.result().outputs.tolist() for task in running] == [[[2]], [[4]]]


async def test_closing_an_idle_batcher_returns() -> None:
    await batcher_of(FakeEngine()).close()
