"""Several busy models share an event loop."""

import asyncio

import pytest

from service.batcher import Batcher
from service.scheduler import Scheduler
from tests.service.engines import FakeEngine, Gate, Rows, answers, batcher_of, double, rows


async def test_models_take_turns_on_the_loop_and_batches_do_not_add_up_in_one_turn_of_it() -> None:
    scheduler = Scheduler()
    order: list[str] = []
    seen: list[int] = []
    passed = 0

    def model(name: str) -> Batcher:
        def compute(batch: Rows) -> Rows:
            order.append(name)
            seen.append(passed)
            return double(batch)

        return batcher_of(FakeEngine(compute), max_batch_rows=1, inline_rows=1, scheduler=scheduler)

    async def count() -> None:
        nonlocal passed
        while True:
            passed += 1
            await asyncio.sleep(0)

    flooded, other, third = model("a"), model("b"), model("c")
    counting = asyncio.create_task(count())
    flood = [asyncio.create_task(flooded.submit(rows(value))) for value in range(20)]
    await asyncio.gather(*(answers(batcher, rows(1), rows(2), rows(3)) for batcher in (other, third)))
    await asyncio.gather(*flood)
    counting.cancel()
    first = order.index("b")
    assert "".join(order[first : first + 8]) == "bcabcabc"
    assert all(later > earlier for earlier, later in zip(seen, seen[2:], strict=False)), "of three, one turn later"


async def test_a_model_with_a_thread_of_its_own_does_not_hold_up_the_turns() -> None:
    scheduler = Scheduler()
    gate = Gate()
    slow, quick = (
        batcher_of(FakeEngine(gate), scheduler=scheduler),
        batcher_of(FakeEngine(), inline_rows=8, scheduler=scheduler),
    )
    held = asyncio.create_task(slow.submit(rows(1)))
    assert await answers(quick, rows(2), rows(3)) == [[4], [6]]
    assert not held.done()
    gate.opened.set()
    await held


async def test_batches_are_short_while_another_model_is_busy_and_whole_when_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Three batches may take long on a busy machine.
    monkeypatch.setattr("service.scheduler._TOGETHER_S", 60.0)
    scheduler = Scheduler()
    engine = FakeEngine()
    flooded = batcher_of(engine, max_batch_rows=32, inline_rows=32, scheduler=scheduler)
    other = batcher_of(FakeEngine(), inline_rows=8, scheduler=scheduler)
    await answers(flooded, *(rows(value) for value in range(20)))
    assert [len(batch) for batch in engine.batches] == [20], "nobody else is there"
    engine.batches.clear()
    await asyncio.gather(answers(other, rows(1)), answers(flooded, *(rows(value) for value in range(20))))
    assert [len(batch) for batch in engine.batches] == [8, 8, 4]
    monkeypatch.setattr("service.scheduler._TOGETHER_S", 0.01)
    await asyncio.gather(answers(other, rows(1)), answers(flooded, rows(1)))
    engine.batches.clear()
    await asyncio.sleep(0.02)
    await answers(flooded, *(rows(value) for value in range(20)))
    assert [len(batch) for batch in engine.batches] == [20], "the other model has not been asked for a while"


async def test_a_batch_in_a_thread_is_whole_whoever_else_is_busy() -> None:
    scheduler = Scheduler()
    engine = FakeEngine()
    slow = batcher_of(engine, max_batch_rows=32, scheduler=scheduler)
    other = batcher_of(FakeEngine(), inline_rows=8, scheduler=scheduler)
    await asyncio.gather(answers(other, rows(1)), answers(slow, *(rows(value) for value in range(20))))
    assert [len(batch) for batch in engine.batches] == [20]
    await slow.close()


async def test_a_request_of_many_rows_is_no_more_cut_while_another_model_is_busy() -> None:
    scheduler = Scheduler()
    engine = FakeEngine()
    large = batcher_of(engine, max_batch_rows=32, inline_rows=32, scheduler=scheduler)
    other = batcher_of(FakeEngine(), inline_rows=8, scheduler=scheduler)
    await answers(large, rows(1))
    await answers(other, rows(1))
    engine.batches.clear()
    await answers(large, rows(*range(40)))
    assert [len(batch) for batch in engine.batches] == [32, 8]
