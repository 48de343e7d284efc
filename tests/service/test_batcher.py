"""Greedy micro-batching: rows of requests that wait together, in order, short batches on the loop."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tests.service.engines import INLINE, FakeEngine, Gate, Rows, answers, batcher_of, double, rows


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
async def test_a_request_larger_than_a_batch_is_split_and_joined_and_lets_the_next_one_in_between(
    inline_rows: int,
) -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, max_batch_rows=4, inline_rows=inline_rows)
    large = rows(*range(10))
    assert await answers(batcher, rows(50), large, rows(60)) == [[100], (large[:, 0] * 2).tolist(), [120]]
    assert engine.batches == [[50, 0, 1, 2], [60, 3, 4, 5], [6, 7, 8, 9]]


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


async def test_a_long_request_holds_up_a_short_one_by_one_batch_and_not_by_its_length() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_batch_rows=2, max_queue_rows=100)
    long = [asyncio.create_task(batcher.submit(rows(*range(start, start + 20)))) for start in (100, 200)]
    await gate.reached()
    short = asyncio.create_task(batcher.submit(rows(1)))
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(*long, short)
    assert engine.batches[:4] == [[100, 101], [200, 201], [102, 103], [1, 202]]


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
