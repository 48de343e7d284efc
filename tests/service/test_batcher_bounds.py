"""What is refused, given up or too late is not computed."""

import asyncio
import time

import pytest

from service.batch_latency import BatchLatency
from service.errors import DeadlineError, QueueFullError
from tests.service.engines import FakeEngine, Gate, batcher_of, rows


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


async def test_the_wait_that_is_promised_counts_what_happens_between_the_batches_too() -> None:
    def busy(_: int, __: float) -> None:
        time.sleep(0.01)

    batcher = batcher_of(FakeEngine(), max_batch_rows=1, inline_rows=1, seconds_per_row=1e-4, on_batch=busy)
    waiting = [asyncio.create_task(batcher.submit(rows(n))) for n in range(50)]
    while not 0 < batcher.queued_rows <= 20:  # noqa: ASYNC110 - the batcher tells nobody
        await asyncio.sleep(0)
    assert batcher.retry_after > 0.05, "20 rows, of which the engine takes 2 ms, and the loop 200"
    await asyncio.gather(*waiting)


async def test_a_request_that_would_wait_for_too_long_is_refused_and_one_that_waits_for_nobody_is_not() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate), max_batch_rows=2, max_queue_s=2.0, seconds_per_row=1.0)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    # Far longer than the bound, but before it nobody waits.
    long = asyncio.create_task(batcher.submit(rows(*range(10))))
    await asyncio.sleep(0)
    assert batcher.expect(1) > 2.9, "a batch of the long request comes first"
    short = asyncio.create_task(batcher.submit(rows(2)))
    await asyncio.sleep(0)
    for refused in (batcher.refuse_if_full, lambda: batcher.submit(rows(3)).send(None)):
        with pytest.raises(QueueFullError) as caught:
            refused()
        assert caught.value.retry_after == pytest.approx(11.0), "eleven rows wait"
    gate.opened.set()
    await asyncio.gather(first, long, short)
    batcher.refuse_if_full()


def test_one_batch_that_the_machine_held_up_is_no_pace_and_many_are() -> None:
    latency = BatchLatency(row_s=0.001, batch_s=0.0, batch_rows=8)
    latency.took(1, 10.0)
    assert latency.expect(100) < 0.2, "ten thousand times as long, once"
    for _ in range(100):
        latency.took(8, 0.08)
    assert latency.expect(100) == pytest.approx(1.0, rel=0.01)


async def test_what_a_batch_costs_beside_its_rows_counts_once_a_batch() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate), max_batch_rows=4, seconds_per_row=0.0001, seconds_per_batch=1.0)
    first = asyncio.create_task(batcher.submit(rows(1)))
    await gate.reached()
    waiting = [asyncio.create_task(batcher.submit(rows(value))) for value in range(8)]
    await asyncio.sleep(0)
    assert batcher.retry_after == pytest.approx(2.0008), "two full batches"
    gate.opened.set()
    await asyncio.gather(first, *waiting)


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


async def test_the_time_until_the_next_request_is_no_batchs_time_though_rows_expired_meanwhile() -> None:
    gate = Gate()
    batcher = batcher_of(FakeEngine(gate), seconds_per_row=0.1)
    for _ in range(3):
        gate.entered.clear()
        gate.opened.clear()
        running = asyncio.create_task(batcher.submit(rows(1)))
        await gate.reached()
        with pytest.raises(DeadlineError):
            await batcher.submit(rows(2), time.perf_counter() + 0.001)
        gate.opened.set()
        await running
        await asyncio.sleep(0.3)
    gate.opened.set()
    await batcher.submit(rows(1))
    assert batcher.expect(1) <= 0.1
    await batcher.close()
