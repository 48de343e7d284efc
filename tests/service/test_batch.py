"""Of a batch that fails only the request to blame does."""

import asyncio
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from models.errors import EngineError
from tests.service.engines import INLINE, POISON, FakeEngine, Gate, Rows, answers, batcher_of, double, rows


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


async def test_the_search_for_one_bad_row_of_64_takes_few_runs_and_none_of_them_on_the_loop() -> None:
    engine = FakeEngine()
    batcher = batcher_of(engine, max_batch_rows=64, inline_rows=64)
    found = await answers(batcher, *(rows(POISON if i == 37 else i) for i in range(64)))
    assert [i for i, answer in enumerate(found) if isinstance(answer, EngineError)] == [37]
    assert [answer for i, answer in enumerate(found) if i != 37] == [[2 * i] for i in range(64) if i != 37]
    assert len(engine.batches) == 1 + 2 * 6
    assert sum(map(len, engine.batches)) == 64 + 2 * (32 + 16 + 8 + 4 + 2 + 1)
    assert engine.threads[0] is threading.current_thread()
    assert threading.current_thread() not in engine.threads[1:]


async def test_a_batch_that_fails_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    await answers(batcher_of(FakeEngine(), max_batch_rows=64), *(rows(POISON) for _ in range(10)))
    assert [record.message for record in caplog.records] == ["cars failed on 10 rows of 10 requests"]


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


async def test_what_looks_on_sees_no_rows_that_somebody_only_tries_and_all_are_answered() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_batch_rows=64)
    seen: list[tuple[list[float], list[float]]] = []
    batcher.listeners = (lambda rows, outputs, _: seen.append((rows[:, 0].tolist(), outputs[:, 0].tolist())),)
    first = asyncio.create_task(batcher.submit(rows(9)))
    await gate.reached()
    waiting = [asyncio.create_task(batcher.submit(rows(*sent), trial=len(sent) == 2)) for sent in ((1,), (2, 3), (4,))]
    await asyncio.sleep(0)
    gate.opened.set()
    found = [(await one).outputs[:, 0].tolist() for one in (first, *waiting)]
    assert found == [[18], [2], [4, 6], [8]]
    assert seen == [([9], [18]), ([1, 4], [2, 8])]
    await batcher.submit(rows(5), trial=True)
    assert len(seen) == 2


async def test_what_looks_on_sees_only_rows_that_are_answered() -> None:
    def some_bad(rows: Rows) -> Rows:
        return np.where(rows > 5, np.nan, rows * 2)

    batcher = batcher_of(FakeEngine(some_bad))
    seen: list[tuple[list[float], list[float]]] = []
    batcher.listeners = (lambda rows, outputs, _: seen.append((rows[:, 0].tolist(), outputs[:, 0].tolist())),)
    await answers(batcher, rows(1), rows(6), rows(2))
    await answers(batcher, rows(7))
    assert seen == [([1, 2], [2, 4])]


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


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_where_memory_runs_out_beside_the_engine_everybody_gets_an_answer(inline_rows: int) -> None:
    def runs_out(*_: object) -> None:
        raise MemoryError

    batcher = batcher_of(FakeEngine(), inline_rows=inline_rows)
    batcher.listeners = (runs_out,)
    async with asyncio.timeout(10):
        found = await answers(batcher, rows(1), rows(2))
        assert [type(answer) for answer in found] == [EngineError] * 2
        batcher.listeners = ()
        assert await answers(batcher, rows(3)) == [[6]]
        await batcher.close()


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_outputs_that_do_not_go_together_are_an_error_of_their_owner_only(inline_rows: int) -> None:
    # As wide as the first row of the batch is large.
    engine = FakeEngine(lambda rows: np.ones((len(rows), int(rows[0, 0])), np.float32))
    batcher = batcher_of(engine, max_batch_rows=1, inline_rows=inline_rows)
    async with asyncio.timeout(10):
        found = await answers(batcher, rows(2, 3), rows(1))
        assert isinstance(found[0], ValueError)
        assert found[1] == [1]
        await batcher.close()
