"""Several busy models share an event loop."""

import asyncio

from service.batcher import Batcher
from service.turns import Turns
from tests.service.engines import FakeEngine, Gate, Rows, answers, batcher_of, double, rows


async def test_models_take_turns_on_the_loop_and_the_loop_gets_one_between_any_two() -> None:
    turns = Turns()
    order: list[str] = []

    def model(name: str) -> Batcher:
        def compute(batch: Rows) -> Rows:
            order.append(name)
            return double(batch)

        return batcher_of(FakeEngine(compute), max_batch_rows=1, inline_rows=1, turns=turns)

    flooded, other, third = model("a"), model("b"), model("c")

    async def watch() -> None:
        while len(order) < 12:
            order.append("-")
            await asyncio.sleep(0)

    flood = [asyncio.create_task(flooded.submit(rows(value))) for value in range(20)]
    await asyncio.gather(watch(), *(answers(batcher, rows(1), rows(2), rows(3)) for batcher in (other, third)))
    assert "".join(order).strip("-").startswith("a-b-c-a-b-c")
    await asyncio.gather(*flood)


async def test_models_with_threads_of_their_own_do_not_wait_for_each_others_turn() -> None:
    turns = Turns()
    gate = Gate()
    slow, quick = batcher_of(FakeEngine(gate), turns=turns), batcher_of(FakeEngine(), inline_rows=8, turns=turns)
    held = asyncio.create_task(slow.submit(rows(1)))
    assert await answers(quick, rows(2), rows(3)) == [[4], [6]]
    assert not held.done()
    gate.opened.set()
    await held


async def test_closing_an_idle_batcher_returns() -> None:
    await batcher_of(FakeEngine()).close()
