"""The load generator against a real server on the loopback: what it counts, and what it refuses to count."""

import asyncio
import base64
import json
import math
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.checker import Checker
from benchmarks.load import generate, percentile
from benchmarks.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = [[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]]
BODIES = [base64.b64encode(json.dumps({"rows": [i]}).encode()).decode() for i in range(3)]

# Number of the request so far, its index in BODIES -> chunks to send; an empty list closes the connection.
Respond = Callable[[int, int], list[bytes]]


def http(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nServer: x\r\nCONTENT-LENGTH: {len(body)}\r\nX: y\r\n\r\n".encode() + body


def right(_: int, index: int) -> list[bytes]:
    return [http(json.dumps([EXPECTED[index]]).encode())]


@asynccontextmanager
async def serving(respond: Respond) -> AsyncIterator[tuple[int, list[int]]]:
    """Port of a server, and the indices that it was asked for."""
    asked: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"POST /predict HTTP/1.1\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
                index = json.loads(await reader.readexactly(length))["rows"][0]
                asked.append(index)
                chunks = respond(len(asked) - 1, index)
                if not chunks:
                    break
                for chunk in chunks:
                    writer.write(chunk)
                    await writer.drain()
                    if len(chunks) > 1:
                        await asyncio.sleep(0.001)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], asked


def plan(port: int = 1, **changes: Any) -> Plan:
    usual = Plan(port, "/predict", BODIES, EXPECTED, "rows", 2, seconds=30, warm_up_s=0, max_requests=60)
    return replace(usual, **changes)


def test_percentile_is_the_smallest_value_that_the_share_does_not_exceed() -> None:
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.9, 0.99, 1.0)] == [1, 50, 90, 99, 100]
    assert percentile([7.0], 0.99) == 7
    assert math.isnan(percentile([], 0.5))


async def test_right_answers_are_counted_until_the_limit_and_every_body_is_sent() -> None:
    async with serving(right) as (port, asked):
        summary = await generate(plan(port))
    assert 60 <= summary.correct <= 61
    assert (summary.wrong, summary.refused, summary.broken, summary.first_problem) == (0, 0, 0, "")
    assert set(asked) == {0, 1, 2}
    assert summary.requests_per_s == pytest.approx(summary.correct / summary.seconds)
    assert 0 < summary.p50_ms <= summary.p90_ms <= summary.p99_ms <= summary.max_ms


async def test_what_is_answered_while_warming_up_is_not_counted() -> None:
    async with serving(right) as (port, asked):
        summary = await generate(plan(port, warm_up_s=0.1, max_requests=10))
    assert summary.correct < len(asked)


async def test_a_wrong_number_among_right_ones_is_found() -> None:
    def respond(number: int, index: int) -> list[bytes]:
        return [http(b"[[0.25, 0.7498]]")] if number == 30 and index == 0 else right(number, index)

    async with serving(respond) as (port, _):
        summary = await generate(plan(port, connections=1))
    assert summary.wrong == 1
    assert "0.7498 instead of 0.75" in summary.first_problem


async def test_an_answer_that_belongs_to_another_request_is_wrong() -> None:
    async with serving(lambda number, index: right(number, (index + 1) % 3)) as (port, _):
        summary = await generate(plan(port, seconds=0.2))
    assert summary.correct == 0
    assert summary.wrong > 0


async def test_a_refusal_is_counted_and_the_connection_goes_on() -> None:
    def respond(number: int, index: int) -> list[bytes]:
        return [http(b"busy", "503 Service Unavailable")] if number % 10 == 0 else right(number, index)

    async with serving(respond) as (port, asked):
        summary = await generate(plan(port, connections=1))
    assert summary.refused == sum(number % 10 == 0 for number in range(len(asked)))
    assert summary.correct == 60
    assert "status 503" in summary.first_problem


async def test_an_answer_in_pieces_is_put_together() -> None:
    def respond(number: int, index: int) -> list[bytes]:
        whole = right(number, index)[0]
        return [whole[:10], whole[10:50], whole[50:-1], whole[-1:]]

    async with serving(respond) as (port, _):
        summary = await generate(plan(port, max_requests=6))
    assert summary.correct >= 6
    assert summary.broken == 0


async def test_a_connection_that_the_server_closes_is_broken_and_ends_the_run() -> None:
    async with serving(lambda number, index: [] if number == 5 else right(number, index)) as (port, _):
        summary = await generate(plan(port, connections=1))
    assert (summary.correct, summary.broken) == (5, 1)
    assert "connection lost" in summary.first_problem


async def test_an_answer_without_a_length_is_broken() -> None:
    async with serving(lambda *_: [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]) as (port, _):
        summary = await generate(plan(port, connections=1))
    assert (summary.correct, summary.broken) == (0, 1)


async def test_nobody_listening_is_an_error() -> None:
    async with serving(right) as (port, _):
        pass
    with pytest.raises(OSError, match="onnect"):
        await generate(plan(port))


@pytest.mark.parametrize(
    "body",
    [
        b"not JSON",
        b'{"error": "x"}',
        b"[[0.25]]",
        b"[[0.25, 0.75, 0.0]]",
        b"[[0.25, NaN]]",
        b'[[0.25, "0.75"]]',
        b"[0.25, 0.75]",
        b"[[0.75, 0.25]]",
    ],
)
def test_anything_but_the_expected_numbers_is_wrong(body: bytes) -> None:
    checker = Checker(plan())
    assert checker.wrong(0, b"[[0.25, 0.75]]") == ""
    assert checker.wrong(0, body) != ""
    assert checker.wrong(0, body) != "", "a wrong answer must not be remembered as a right one"


def prediction(label: str, **probabilities: float) -> bytes:
    answer = {"label": label, "class_id": 1, "confidence": 0.75, "probabilities": probabilities}
    return json.dumps({"model": "m", "request_id": label, "predictions": [answer]}).replace(": [", ":[").encode()


def test_our_answers_are_compared_by_probabilities_and_label() -> None:
    checker = Checker(plan(reader="serving"))
    assert checker.wrong(0, prediction("b", a=0.25, b=0.75)) == ""
    assert "not the likeliest" in checker.wrong(0, prediction("a", a=0.25, b=0.75))
    assert checker.wrong(0, prediction("b", a=0.24, b=0.76)) != ""
    assert checker.wrong(0, b'{"predictions":[]}') != ""


def test_the_last_digit_may_differ() -> None:
    assert Checker(plan()).wrong(0, b"[[0.25000001, 0.7499999]]") == ""


@pytest.mark.parametrize(
    "changes",
    [
        {"host": "192.0.2.1"},
        {"seconds": 0},
        {"seconds": 1e6},
        {"connections": 0},
        {"bodies": []},
        {"expected": [[1.0]]},
    ],
)
def test_a_plan_is_bounded_and_stays_on_this_machine(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"loopback|must be"):
        plan(**changes)


async def test_the_generator_runs_as_a_process_of_its_own() -> None:
    async with serving(right) as (port, _):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "benchmarks.load"],
            input=json.dumps(asdict(plan(port))),
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=60,
            check=True,
        )
    summary = json.loads(done.stdout)
    assert summary["correct"] >= 60
    assert summary["wrong"] == summary["broken"] == 0
