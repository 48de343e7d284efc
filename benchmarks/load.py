"""A closed-loop HTTP load generator that checks every answer, light enough not to be what is measured.

Each connection has one request under way at a time. Requests are serialised beforehand. Run as a process of its own
(``python -m benchmarks.load``): a `Plan` as JSON comes in at standard input, a `Summary` goes out at standard output.
"""

import asyncio
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter, process_time
from typing import Any

import uvloop

from benchmarks.checker import Checker
from benchmarks.plan import Plan, Summary
from benchmarks.wire import Wire, serialised


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of ``ordered`` (ascending) do not exceed; NaN of nothing."""
    if not ordered:
        return float("nan")
    rank = -int(-share * len(ordered) // 1)  # ceiling
    return ordered[max(rank, 1) - 1]


@dataclass
class Run:
    """A run under way, and its counts."""

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

    def opened(self, wire: Wire) -> None:
        """Send the first request."""
        self.open_connections += 1
        self._send(wire)

    def answered(self, wire: Wire, status: bytes, body: bytes) -> None:
        """Judge an answer, and send the next request."""
        latency = perf_counter() - wire.since
        if status != b"200":
            self.refused += self.measuring
            self.note(f"status {status.decode('latin-1')}: {body[:200]!r}")
        elif problem := self.checker.wrong(wire.index, body):
            # Also during warm-up: a wrong answer is never excused.
            self.wrong += 1
            self.note(f"wrong answer: {problem}")
        elif self.measuring:
            self.latencies.append(latency)
            if len(self.latencies) >= self.plan.max_requests:
                self.stopping = True
        if self.stopping:
            wire.close()
        else:
            self._send(wire)

    def lost(self, _: Wire, problem: str) -> None:
        """Count a connection that the server ended."""
        if problem:
            self.broken += 1
            self.note(problem)
        self.open_connections -= 1
        if self.open_connections == 0 and not self.done.done():
            self.done.set_result(None)

    def _send(self, wire: Wire) -> None:
        wire.index = self.next_index
        self.next_index = (self.next_index + 1) % len(self.requests)
        wire.since = perf_counter()
        wire.send(self.requests[wire.index])


async def generate(plan: Plan) -> Summary:
    """Carry ``plan`` out.

    Raises:
        OSError: The server does not listen.
    """
    loop = asyncio.get_running_loop()
    run = Run(plan, Checker(plan), serialised(plan), loop.create_future())
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(plan.connections):
            await loop.create_connection(lambda: Wire(run), plan.host, plan.port)
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
