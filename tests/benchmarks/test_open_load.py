"""The open-loop generator: its schedule, what latency counts from, and what ends a run early."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from benchmarks.clock import Timer
from benchmarks.open_load import generate, schedule
from benchmarks.plan import OpenPlan
from tests.benchmarks.test_load import EXPECTED, http, plan

Answer = Callable[[int, int], Awaitable[bytes]]
"""Of the number of the request so far and its index in BODIES; nothing closes the connection."""


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                index = json.loads(await reader.readexactly(length))["rows"][0]
                count += 1
                data = await answer(count - 1, index)
                if not data:
                    break
                writer.write(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def right(_: int, index: int) -> bytes:
    return http(json.dumps([EXPECTED[index]]).encode())


def open_plan(port: int = 1, rate: float = 200, **changes: Any) -> OpenPlan:
    usual = replace(plan(port), connections=4, seconds=0.4, warm_up_s=0.0)
    return replace(OpenPlan(usual, rate, seed=1, bound_ms=0), **changes)


def test_a_schedule_is_the_same_for_the_same_seed_and_has_its_rate() -> None:
    times = schedule(1000, 10, seed=3)
    assert np.array_equal(times, schedule(1000, 10, seed=3))
    assert not np.array_equal(times[:100], schedule(1000, 10, seed=4)[:100])
    assert abs(len(times) - 10_000) < 500
    assert times[-1] < 10
    # Exponential gaps: their spread is their mean.
    assert np.diff(times).std() == pytest.approx(0.001, rel=0.05)


async def test_every_request_of_the_schedule_is_sent_and_checked() -> None:
    async with serving(right) as port:
        summary = await generate(open_plan(port))
    assert summary.scheduled == summary.correct == len(schedule(200, 0.4, 1))
    assert (summary.wrong, summary.refused, summary.broken, summary.first_problem) == (0, 0, 0, "")
    assert 0 < summary.p50_ms <= summary.p99_ms <= summary.max_ms


async def test_a_stall_shows_in_all_requests_that_it_delays() -> None:
    started = asyncio.Event()

    async def once_slow(number: int, index: int) -> bytes:
        if number == 0:
            await asyncio.sleep(0.3)
            started.set()
        await started.wait()
        return await right(number, index)

    async with serving(once_slow) as port:
        summary = await generate(open_plan(port))
    assert summary.correct == summary.scheduled
    # A closed loop would have seen four late answers, one a connection.
    assert summary.pool_waits > 10
    assert summary.max_ms >= 299


async def test_a_run_is_given_up_once_its_p99_is_lost() -> None:
    async def slow(number: int, index: int) -> bytes:
        await asyncio.sleep(0.02)
        return await right(number, index)

    async with serving(slow) as port:
        summary = await generate(open_plan(port, rate=100, bound_ms=5.0))
    assert summary.given_up
    assert summary.correct < summary.scheduled


async def test_wrong_refused_and_lost_answers_are_counted() -> None:
    async def bad(number: int, index: int) -> bytes:
        match number:
            case 3:
                return http(b"[[9.0, 9.0]]")
            case 5:
                return http(b"busy", "503 Service Unavailable")
            case 7:
                return b""
        return await right(number, index)

    async with serving(bad) as port:
        summary = await generate(open_plan(port))
    assert (summary.wrong, summary.refused, summary.broken) == (1, 1, 1)
    assert summary.correct == summary.scheduled - 3
    assert "9.0 instead of" in summary.first_problem


async def test_each_request_is_recorded_with_when_it_was_due(tmp_path: Path) -> None:
    async with serving(right) as port:
        summary = await generate(open_plan(port, record=str(tmp_path / "answers.npz")))
    with np.load(tmp_path / "answers.npz") as answers:
        assert len(answers["due"]) == len(answers["lag"]) == len(answers["latency"]) == summary.scheduled
        assert 1000 * answers["latency"].max() == pytest.approx(summary.max_ms)
        assert (np.diff(answers["due"]) >= 0).all()
        assert (answers["lag"] <= answers["latency"]).all()


async def test_warm_up_is_not_counted() -> None:
    async with serving(right) as port:
        usual = open_plan(port)
        summary = await generate(replace(usual, plan=replace(usual.plan, warm_up_s=0.2, seconds=0.2)))
    assert summary.scheduled < len(schedule(200, 0.4, 1))
    assert summary.correct == summary.scheduled


@pytest.mark.parametrize("rate", [0, -1, 1e6, math.inf])
def test_a_rate_is_bounded(rate: float) -> None:
    with pytest.raises(ValueError, match="rate must be above 0"):
        open_plan(rate=rate)


async def test_a_timer_rings_when_it_is_due_and_a_past_time_is_due_at_once() -> None:
    timer = Timer()
    rang = asyncio.Event()
    asyncio.get_running_loop().add_reader(timer.fileno, rang.set)
    for due in (perf_counter() + 0.01, perf_counter() - 5):
        timer.set(due)
        await asyncio.wait_for(rang.wait(), 10)
        assert perf_counter() >= due
        timer.clear()
        rang.clear()
    timer.clear()  # nothing to clear is no error
    asyncio.get_running_loop().remove_reader(timer.fileno)
    timer.close()
