"""An open-loop HTTP load generator: requests arrive at random times, however fast they are answered.

Latency counts from the scheduled time of a request, so that a stall shows in every request that it delays. Run as a
process of its own (``python -m benchmarks.open_load``): an `OpenPlan` as JSON comes in at standard input, an
`OpenSummary` goes out at standard output.
"""

import asyncio
import gc
import json
import sys
from array import array
from collections import deque
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray

from benchmarks.checker import Checker
from benchmarks.clock import Timer
from benchmarks.load import percentile
from benchmarks.plan import OpenPlan, OpenSummary, Plan
from benchmarks.wire import Wire, serialised

_LAST_ANSWERS_S = 3.0
_CONNECTING_AT_ONCE = 16
_START_S = 0.2


def schedule(rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Seconds after the start at which a request is due: a Poisson process, the same for the same seed."""
    generator = np.random.default_rng(seed)
    gaps = generator.exponential(1 / rate, int(rate * seconds + 6 * (rate * seconds) ** 0.5 + 10))
    times = np.cumsum(gaps)
    return times[times < seconds]


class OpenRun:
    """A run under way. All times are seconds of `time.perf_counter`."""

    def __init__(self, plan: OpenPlan) -> None:
        times = schedule(plan.rate, plan.plan.warm_up_s + plan.plan.seconds, plan.seed)
        self.first = int(np.searchsorted(times, plan.plan.warm_up_s))  # before it is warm-up
        # Arrays: a run of ten minutes has millions of requests.
        self.due = array("d", times)
        self.lag = array("d", bytes(8 * len(times)))
        self.latency = array("d", [float("nan")]) * len(times)
        self.wrong = self.refused = self.broken = self.pool_waits = 0
        self.first_problem = ""
        self.given_up = False
        self.finished = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._checker = Checker(plan.plan)
        self._requests = serialised(plan.plan)
        self._bound = plan.bound_ms / 1000
        self._late_allowed = int(0.01 * (len(self.due) - self.first)) if plan.bound_ms else len(self.due)
        self._late = 0
        self.sent = 0
        self._answers = 0
        self._free: deque[Wire] = deque()
        self._backlog: deque[int] = deque()
        self._timer = Timer()

    def begin(self, start: float) -> None:
        """Let the first requests be due from ``start`` on."""
        self.due = array("d", np.array(self.due) + start)
        asyncio.get_running_loop().add_reader(self._timer.fileno, self._ring)
        self._timer.set(self.due[0])

    def end(self) -> None:
        """Stop the clock."""
        asyncio.get_running_loop().remove_reader(self._timer.fileno)
        self._timer.close()
        for wire in self._free:
            wire.close()

    def _ring(self) -> None:
        """Send everything that is due."""
        self._timer.clear()
        due, number, now = self.due, self.sent, perf_counter()
        while number < len(due) and due[number] <= now:
            self.lag[number] = now - due[number]
            if self._free:
                self._send(self._free.popleft(), number)
            else:
                self.pool_waits += 1
                self._backlog.append(number)
            number += 1
            now = perf_counter()
        self.sent = number
        if number < len(due):
            self._timer.set(due[number])

    def _send(self, wire: Wire, number: int) -> None:
        wire.index = number
        wire.send(self._requests[number % len(self._requests)])

    def opened(self, wire: Wire) -> None:
        """One more that may be used."""
        self._free.append(wire)

    def answered(self, wire: Wire, status: bytes, body: bytes) -> None:
        """Judge an answer."""
        number = wire.index
        latency = perf_counter() - self.due[number]
        if self._backlog:
            self._send(wire, self._backlog.popleft())
        else:
            self._free.append(wire)
        if status != b"200":
            self.refused += 1
            self._note(f"status {status.decode('latin-1')}: {body[:200]!r}")
        elif problem := self._checker.wrong(number % len(self._requests), body):
            self.wrong += 1
            self._note(f"wrong answer: {problem}")
        else:
            self.latency[number] = latency
            self._late += number >= self.first and latency > self._bound
        self._answers += 1
        if self._late > self._late_allowed:
            self.given_up = True
        if self.given_up or self._answers == len(self.due):
            self._finish()

    def lost(self, wire: Wire, problem: str) -> None:
        """Count a connection that the server ended; the others go on."""
        if problem:
            self.broken += 1
            self._note(problem)
            self._answers += 1
            if self._answers == len(self.due):
                self._finish()
        elif wire in self._free:
            self._free.remove(wire)

    def _note(self, problem: str) -> None:
        self.first_problem = self.first_problem or problem[:500]

    def _finish(self) -> None:
        if not self.finished.done():
            self.finished.set_result(None)


async def _connect(plan: Plan, run: OpenRun) -> None:
    loop = asyncio.get_running_loop()
    for start in range(0, plan.connections, _CONNECTING_AT_ONCE):
        count = min(_CONNECTING_AT_ONCE, plan.connections - start)
        await asyncio.gather(*(loop.create_connection(lambda: Wire(run), plan.host, plan.port) for _ in range(count)))


async def generate(plan: OpenPlan) -> OpenSummary:
    """Carry ``plan`` out.

    Raises:
        OSError: The server does not listen.
    """
    run = OpenRun(plan)
    await _connect(plan.plan, run)
    gc.collect()
    gc.freeze()
    gc.disable()
    cpu, started = process_time(), perf_counter()
    try:
        run.begin(perf_counter() + _START_S)
        await asyncio.wait([run.finished], timeout=plan.plan.warm_up_s + plan.plan.seconds + _LAST_ANSWERS_S)
    finally:
        gc.enable()
        gc.unfreeze()
        run.end()
    cpu, seconds = process_time() - cpu, perf_counter() - started
    if plan.record:
        _keep(run, Path(plan.record))
    return _summary(plan, run, cpu / seconds)


def _summary(plan: OpenPlan, run: OpenRun, generator_cpu: float) -> OpenSummary:
    ordered = sorted(latency for latency in run.latency[run.first :] if latency == latency)  # noqa: PLR0124 - NaN is none
    lags = sorted(run.lag[run.first : run.sent])
    unanswered = sum(latency != latency for latency in run.latency)  # noqa: PLR0124
    missing = unanswered - run.wrong - run.refused - run.broken
    if missing > 0 and not run.given_up:
        run.broken += missing
        run.first_problem = run.first_problem or f"{missing} requests without an answer at the end"
    return OpenSummary(
        rate=plan.rate,
        seed=plan.seed,
        scheduled=len(run.due) - run.first,
        correct=len(ordered),
        wrong=run.wrong,
        refused=run.refused,
        broken=run.broken,
        first_problem=run.first_problem,
        given_up=run.given_up,
        p50_ms=1000 * percentile(ordered, 0.5),
        p99_ms=1000 * percentile(ordered, 0.99),
        max_ms=1000 * ordered[-1] if ordered else float("nan"),
        lag_p99_ms=1000 * percentile(lags, 0.99),
        lag_max_ms=1000 * lags[-1] if lags else float("nan"),
        pool_waits=run.pool_waits,
        generator_cpu=generator_cpu,
    )


def _keep(run: OpenRun, path: Path) -> None:
    due, lag, latency = (np.array(values) for values in (run.due, run.lag, run.latency))
    np.savez_compressed(path, due=due[run.first :], lag=lag[run.first :], latency=latency[run.first :])


def main() -> None:
    """Plan in, summary out."""
    document: dict[str, Any] = json.load(sys.stdin)
    plan = OpenPlan(**{**document, "plan": Plan(**document["plan"])})
    print(json.dumps(asdict(uvloop.run(generate(plan)))))


if __name__ == "__main__":
    main()
