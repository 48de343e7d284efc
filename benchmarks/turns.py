"""Servers in short turns, all of them up at once: what a slow phase of a shared machine cannot decide.

Such a machine has phases of a minute in which everything takes half as long again, and of servers that are measured one
after another it is the phase that decides. Here each load is given to every server in turn, for half a second, in
rounds whose order turns round, and what is compared is the median of the rounds' ratios: both of a pair have the same
phase. Then all are started anew: two starts of the same server differ by up to a tenth for as long as they run.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.bench import Pictures, load, plan_for
from benchmarks.checker import Checker
from benchmarks.plan import OPEN_CONNECTIONS, OpenPlan, OpenSummary, Plan
from benchmarks.servers import BenchmarkError, Contender, Server, running

WARM_UP_S, TURN_S = 0.2, 0.5


@dataclass(frozen=True)
class Span:
    """What one server did under one load for one turn.

    Attributes:
        requests_per_s: Answered.
        p50_ms: Latency, as is `p99_ms`.
        cpu_us: CPU time of all its processes a request.
    """

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


Load = tuple[str, float]
"""``closed`` and a number of connections, or ``open`` and a rate of random arrivals, requests a second."""
Spans = Mapping[tuple[Load, str], Sequence[Span]]
"""Load and server's name -> its turns, in the order of the rounds."""


@dataclass(frozen=True)
class Turns:
    """How the servers take turns.

    Attributes:
        loads: Each is given to every server in each round.
        rounds: Of each start; their order turns round from one to the next.
        seconds: Of a turn, after `WARM_UP_S`.
        starts: How often all servers are started anew.
    """

    loads: tuple[Load, ...]
    rounds: int = 10
    seconds: float = TURN_S
    starts: int = 1


def middle(spans: Sequence[Span]) -> Span:
    """Median of each figure."""
    return Span(*(median(getattr(span, part) for span in spans) for part in Span.__dataclass_fields__))


def ratio(spans: Sequence[Span], others: Sequence[Span], part: str = "requests_per_s") -> float:
    """Median of the rounds' ratios of one figure."""
    return median(getattr(a, part) / getattr(b, part) for a, b in zip(spans, others, strict=True))


def measure(
    contenders: Sequence[Contender], asked: Pictures, turns: Turns, generate: Callable[[OpenPlan], OpenSummary]
) -> Spans:
    """Start every server, and let them take turns; again with fresh ones, as often as ``turns`` says.

    Args:
        contenders: The servers.
        asked: What they are asked.
        turns: How.
        generate: Carries an open loop out.

    Raises:
        BenchmarkError: An answer was wrong, or missing in closed loop, or a server or the generator failed.
    """
    spans: dict[tuple[Load, str], list[Span]] = {(how, one.name): [] for how in turns.loads for one in contenders}
    for start in range(turns.starts):
        with ExitStack() as stack:
            ready = [stack.enter_context(_ready(one, asked, turns.seconds)) for one in contenders]
            for number in range(start * turns.rounds, (start + 1) * turns.rounds):
                for how in turns.loads:
                    for server, plan in ready[:: 1 if number % 2 == 0 else -1]:
                        count = int(how[1]) if how[0] == "closed" else OPEN_CONNECTIONS
                        span = turn(server, replace(plan, connections=count), how, number, generate)
                        spans[how, server.contender.name].append(span)
                everything = turns.starts * turns.rounds
                print(f"    turns, round {number + 1} of {everything}", file=sys.stderr, flush=True)
    return spans


@contextmanager
def _ready(contender: Contender, asked: Pictures, seconds: float) -> Iterator[tuple[Server, Plan]]:
    """A fresh server that has answered once, and what it is asked."""
    plan = replace(plan_for(contender, asked, seconds), warm_up_s=WARM_UP_S)
    checker = Checker(plan)
    with running(contender) as server:
        server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
        yield server, replace(plan, port=server.port)


def turn(server: Server, plan: Plan, how: Load, seed: int, generate: Callable[[OpenPlan], OpenSummary]) -> Span:
    """Give one server one load.

    Raises:
        BenchmarkError: An answer was wrong, or missing in closed loop, or the generator failed.
    """
    kind, size = how
    before = server.cpu_s()
    if kind == "closed":
        run = load(plan)
        rate, p50, p99, problem = run.requests_per_s, run.p50_ms, run.p99_ms, run.first_problem
    else:
        late = generate(OpenPlan(plan, size, seed, bound_ms=0))
        rate, p50, p99, problem = size, late.p50_ms, late.p99_ms, late.first_problem
    if problem:
        raise BenchmarkError(f"{server.contender.name}: {problem}")
    return Span(rate, p50, p99, 1e6 * (server.cpu_s() - before) / (rate * (plan.seconds + plan.warm_up_s)))
