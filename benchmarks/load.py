"""A closed-loop HTTP load generator that checks every answer, light enough not to be what is measured.

Each connection has one request under way at a time. Requests are serialised beforehand; a connection is a bare asyncio
protocol on uvloop. Run as a process of its own (``python -m benchmarks.load``): a `Plan` as JSON comes in at standard
input, a `Summary` goes out at standard output.
"""

import asyncio
import base64
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any, cast

import uvloop

from benchmarks.checker import Checker
from benchmarks.plan import Plan, Summary


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``ordered`` (ascending) do not exceed; NaN of nothing."""
    if not ordered:
        return float("nan")
    rank = -int(-share * len(ordered) // 1)  # ceiling
    return ordered[max(rank, 1) - 1]


@dataclass
class Run:
    """Counts of a run under way."""

    plan: Plan
    checker: Checker
    requests: list[bytes]
    done: asyncio.Future[None]
    measuring: bool = False
    stopping: bool = False
    next_index: int = 0
    open_connections: int = 0
    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0
    broken: int = 0
    first_problem: str = ""

    def note(self, problem: str) -> None:
        """Keep the first problem."""
        self.first_problem = self.first_problem or problem[:500]

    def closed(self) -> None:
        """One connection less."""
        self.open_connections -= 1
        if self.open_connections == 0 and not self.done.done():
            self.done.set_result(None)


class Connection(asyncio.Protocol):
    """Sends the next request as soon as an answer is complete."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._buffer = b""
        self._needed = 0
        self._body_at = 0
        self._index = 0
        self._started = 0.0
        self._waiting = False
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._run.open_connections += 1
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that the server ended."""
        if self._waiting:
            self._run.broken += 1
            self._run.note(f"connection lost while waiting for an answer: {exc or 'closed by the server'}")
        self._run.closed()

    def data_received(self, data: bytes) -> None:
        """Collect an answer; uvloop hands over all of a small one at once."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if not self._needed and not self._measure(buffer):
            return
        if len(buffer) >= self._needed:
            self._answered(buffer, perf_counter() - self._started)

    def _measure(self, buffer: bytes) -> bool:
        """Find out how long the answer is; false while its head is incomplete."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._run.broken += 1
            self._run.note(f"an answer without Content-Length: {head[:200]!r}")
            self._close()
            return False
        line_end = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : line_end if line_end > 0 else None])
        self._body_at = end + 4
        self._needed = self._body_at + length
        return True

    def _answered(self, buffer: bytes, latency: float) -> None:
        run = self._run
        body = buffer[self._body_at : self._needed]
        if buffer[9:12] != b"200":
            run.refused += run.measuring
            run.note(f"status {buffer[9:12].decode('latin-1')}: {body[:200]!r}")
        elif problem := run.checker.wrong(self._index, body):
            # Also during warm-up: a wrong answer is never excused.
            run.wrong += 1
            run.note(f"wrong answer: {problem}")
        elif run.measuring:
            run.latencies.append(latency)
            if len(run.latencies) >= run.plan.max_requests:
                run.stopping = True
        self._buffer, self._needed = b"", 0
        self._waiting = False
        if run.stopping:
            self._close()
        else:
            self._send()

    def _send(self) -> None:
        run = self._run
        self._index = run.next_index
        run.next_index = (run.next_index + 1) % len(run.requests)
        self._waiting = True
        self._started = perf_counter()
        self._transport.write(run.requests[self._index])

    def _close(self) -> None:
        self._waiting = False
        self._transport.close()


def _request(plan: Plan, body: bytes) -> bytes:
    head = (
        f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def generate(plan: Plan) -> Summary:
    """Carry ``plan`` out.

    Raises:
        OSError: The server does not listen.
    """
    loop = asyncio.get_running_loop()
    requests = [_request(plan, base64.b64decode(body)) for body in plan.bodies]
    run = Run(plan, Checker(plan), requests, loop.create_future())
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(plan.connections):
            await loop.create_connection(lambda: Connection(run), plan.host, plan.port)
        # Returns early when every connection is lost.
        await asyncio.wait([run.done], timeout=plan.warm_up_s)
        run.measuring = True
        started, cpu = perf_counter(), process_time()
        await asyncio.wait([run.done], timeout=plan.seconds)
        run.measuring, run.stopping = False, True
        seconds, cpu = perf_counter() - started, process_time() - cpu
        _, pending = await asyncio.wait([run.done], timeout=10)
    finally:
        gc.enable()
        gc.unfreeze()
    if pending:
        run.broken += run.open_connections
        run.note("no answer for 10 s")
    ordered = sorted(run.latencies)
    milliseconds = {f"p{share}_ms": 1000 * percentile(ordered, share / 100) for share in (50, 90, 99)}
    return Summary(
        connections=plan.connections,
        correct=len(ordered),
        wrong=run.wrong,
        refused=run.refused,
        broken=run.broken,
        first_problem=run.first_problem,
        seconds=seconds,
        requests_per_s=len(ordered) / seconds,
        max_ms=1000 * ordered[-1] if ordered else float("nan"),
        generator_cpu=cpu / seconds,
        **milliseconds,
    )


def main() -> None:
    """Plan in, summary out."""
    plan: dict[str, Any] = json.load(sys.stdin)
    print(json.dumps(asdict(uvloop.run(generate(Plan(**plan))))))


if __name__ == "__main__":
    main()
