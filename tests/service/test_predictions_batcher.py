"""Who waits for rows without a task, in a batcher: told once, or not at all once it has left; no timer stays."""

import time
from dataclasses import dataclass, field

import pytest

from models.errors import EngineError
from service.batch import Result
from service.errors import DeadlineError, QueueFullError
from tests.service.conftest import until
from tests.service.engines import INLINE, POISON, FakeEngine, Gate, batcher_of, rows


@dataclass
class Told:
    """Who waits without a task."""

    outputs: list[float] = field(default_factory=list)
    error: Exception | None = None
    gone: bool = False
    calls: int = 0

    def done(self) -> bool:
        return self.gone

    def set_result(self, result: Result) -> None:
        self.calls, self.outputs = self.calls + 1, result.outputs[:, 0].tolist()
        self.gone = True

    def set_exception(self, error: Exception) -> None:
        self.calls, self.error = self.calls + 1, error
        self.gone = True


def in_a_minute() -> float:
    return time.perf_counter() + 60


@pytest.mark.parametrize("inline_rows", INLINE)
async def test_who_waits_without_a_task_is_told_once_and_no_timer_is_left(inline_rows: int) -> None:
    batcher = batcher_of(FakeEngine(), inline_rows=inline_rows, max_batch_rows=2)
    values = ((1,), (2, 3, 4), (POISON,))
    waiters = [Told() for _ in values]
    jobs = [batcher.enqueue(rows(*v), waiter, in_a_minute()) for v, waiter in zip(values, waiters, strict=True)]
    assert batcher.queued_rows == 5
    assert not any(waiter.calls for waiter in waiters), "not before their batch"
    await until(lambda: all(waiter.calls for waiter in waiters))
    await batcher.close()
    assert [waiter.outputs for waiter in waiters] == [[2], [4, 6, 8], []]
    assert [type(waiter.error) for waiter in waiters] == [type(None), type(None), EngineError]
    assert [waiter.calls for waiter in waiters] == [1, 1, 1]
    assert [job.timer.cancelled() for job in jobs if job.timer is not None] == [True] * 3
    assert batcher.queued_rows == batcher._ahead_rows == 0


async def test_what_is_refused_at_once_tells_its_waiter_nothing_and_leaves_no_timer() -> None:
    batcher = batcher_of(FakeEngine(), max_queue_rows=2)
    waiter = Told()
    with pytest.raises(QueueFullError):
        batcher.enqueue(rows(1, 2, 3), waiter, in_a_minute())
    with pytest.raises(DeadlineError):
        batcher.enqueue(rows(1), waiter, time.perf_counter())
    assert (waiter.calls, batcher.queued_rows, batcher._ahead_rows, len(batcher._jobs)) == (0, 0, 0, 0)


async def test_a_deadline_tells_who_waits_without_a_task_and_its_rows_make_room() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine)
    batcher.enqueue(rows(1), first := Told())
    await gate.reached()
    batcher.enqueue(rows(2, 3), late := Told(), time.perf_counter() + 0.005)
    await until(lambda: late.calls)
    assert isinstance(late.error, DeadlineError)
    assert batcher.queued_rows == batcher._ahead_rows == 0
    gate.opened.set()
    await until(lambda: first.calls)
    await batcher.close()
    assert (engine.batches, late.calls) == ([[1]], 1)


async def test_what_is_withdrawn_is_not_computed_makes_room_at_once_and_leaves_no_timer() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_queue_rows=3)
    batcher.enqueue(rows(1), first := Told())
    await gate.reached()
    job = batcher.enqueue(rows(2, 3), gone := Told(), in_a_minute())
    batcher.enqueue(rows(4), last := Told())
    with pytest.raises(QueueFullError):
        batcher.enqueue(rows(5), Told())
    gone.gone = True
    batcher.withdraw(job)
    batcher.withdraw(job)
    assert batcher.queued_rows == batcher._ahead_rows == 1
    assert job.timer is not None
    assert job.timer.cancelled()
    batcher.enqueue(rows(5), instead := Told())
    gate.opened.set()
    await until(lambda: instead.calls)
    assert (first.outputs, gone.calls, last.outputs, instead.outputs) == ([2], 0, [8], [10])
    assert engine.batches == [[1], [4, 5]]
    await batcher.close()


async def test_what_is_withdrawn_between_two_of_its_batches_has_no_more_and_nobody_is_told() -> None:
    gate = Gate()
    engine = FakeEngine(gate)
    batcher = batcher_of(engine, max_batch_rows=2)
    job = batcher.enqueue(rows(1, 2, 3, 4, 5), gone := Told())
    await gate.reached()
    assert batcher.queued_rows == 3
    gone.gone = True
    batcher.withdraw(job)
    assert batcher.queued_rows == batcher._ahead_rows == 0
    batcher.enqueue(rows(7), stays := Told())
    gate.opened.set()
    await until(lambda: stays.calls)
    await batcher.close()
    assert (engine.batches, gone.calls, stays.outputs) == ([[1, 2], [7]], 0, [14])
