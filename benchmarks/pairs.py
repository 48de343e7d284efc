"""Servers in short turns, all of them up at once: ``python -m benchmarks.pairs small --closed 8 64 --open 4000``.

`benchmarks.peers` measures one server after another, each for seconds, and a shared machine has phases of a minute in
which everything takes half as long again. Here each load is given to every server in turn, for half a second, in
rounds whose order turns round, and what is compared is the median of the rounds' ratios: both of a pair have the same
phase. All else is as there: the same servers, requests and checks.
"""

import argparse
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.bench import load, pictures, plan_for
from benchmarks.checker import Checker
from benchmarks.peers.capacity import BOUND_MS
from benchmarks.peers.contenders import OURS, WIDE_MOSEC, gather, missing_environments, peers_of, two_processes
from benchmarks.peers.measure import OPEN_CONNECTIONS, open_load
from benchmarks.plan import OpenPlan, Plan
from benchmarks.servers import BenchmarkError, Contender, Server, end_on_sigterm, running
from models.bundle import Bundle

_WARM_UP_S = 0.2


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
"""``closed`` and a number of connections, or ``open`` and a rate."""
Spans = Mapping[tuple[Load, str], Sequence[Span]]


def table(spans: Spans, first: str) -> str:
    """A line for each load and server: medians, and those of the rounds' ratios to ``first``."""
    lines = [f"{'':16} {'':32} {'requests/s':>10} {'p50 ms':>8} {'p99 ms':>8} {'CPU us':>7}  beside {first}"]
    for (how, name), found in spans.items():
        kind, size = how
        middle = [statistics.median(getattr(span, part) for span in found) for part in Span.__dataclass_fields__]
        pairs = list(zip(found, spans[how, first], strict=True))
        if kind == "closed":
            beside = f"{statistics.median(a.requests_per_s / b.requests_per_s for a, b in pairs):.1%} of its requests/s"
        else:
            held = sum(span.p99_ms < BOUND_MS for span in found)
            ratio = statistics.median(a.p99_ms / b.p99_ms for a, b in pairs)
            beside = f"{ratio:.1%} of its p99; below {BOUND_MS:g} ms in {held} of {len(found)} turns"
        load_of = f"{size:,.0f} connections" if kind == "closed" else f"{size:,.0f}/s offered"
        figures = f"{middle[0]:10,.0f} {middle[1]:8.2f} {middle[2]:8.2f} {middle[3]:7.0f}"
        lines.append(f"{load_of:16} {name:32} {figures}  {beside}")
    return "\n".join(lines)


def _turn(server: Server, plan: Plan, how: Load, seed: int) -> Span:
    """Give one server one load.

    Raises:
        BenchmarkError: An answer was wrong, or missing in closed loop, or the generator failed.
    """
    kind, size = how
    before = server.cpu_s()
    if kind == "closed":
        run = load(replace(plan, connections=int(size)))
        rate, p50, p99, problem = run.requests_per_s, run.p50_ms, run.p99_ms, run.first_problem
    else:
        late = open_load(OpenPlan(replace(plan, connections=OPEN_CONNECTIONS), size, seed, bound_ms=0))
        rate, p50, p99, problem = size, late.p50_ms, late.p99_ms, late.first_problem
    if problem:
        raise BenchmarkError(f"{server.contender.name}: {problem}")
    return Span(rate, p50, p99, 1e6 * (server.cpu_s() - before) / (rate * (plan.seconds + plan.warm_up_s)))


def _chosen(options: argparse.Namespace, bundles: Path) -> list[Contender]:
    found = peers_of(Bundle.open(bundles / options.model), bundles)
    if options.two_workers:
        return two_processes(found, options.model, bundles)
    unknown = set(options.servers) - set(found)
    if unknown:
        raise BenchmarkError(f"no server {', '.join(sorted(unknown))}; there are: {', '.join(found)}")
    others = [_at(found[OURS], folder.resolve()) for folder in options.checkout]
    return [*(found[name] for name in options.servers), *others]


def _at(ours: Contender, checkout: Path) -> Contender:
    """Our server with the code of another checkout, in the same environment."""
    environment = {**ours.environment, "PYTHONPATH": str(checkout)}
    return replace(ours, name=f"{ours.name} of {checkout.name}", environment=environment)


def compare(options: argparse.Namespace, bundles: Path) -> str:
    """Measure; the table.

    Raises:
        BenchmarkError: A server or the load generator failed.
    """
    contenders = _chosen(options, bundles)
    asked = pictures(Bundle.open(bundles / options.model))
    loads: list[Load] = [("closed", size) for size in options.closed] + [("open", rate) for rate in options.open]
    spans: dict[tuple[Load, str], list[Span]] = defaultdict(list)
    with ExitStack() as stack:
        ready = []
        for contender in contenders:
            plan = replace(plan_for(contender, asked, options.seconds), warm_up_s=_WARM_UP_S)
            checker = Checker(plan)
            server = stack.enter_context(running(contender))
            server.wait_for(plan.first(), dict(plan.headers), lambda body, checker=checker: checker.wrong(0, body))
            ready.append((server, replace(plan, port=server.port)))
        for number in range(options.rounds):
            for how in loads:
                for server, plan in ready[:: 1 if number % 2 == 0 else -1]:
                    name = server.contender.name
                    spans[how, name].append(_turn(server, plan, how, number))
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr, flush=True)
    order = [(how, contender.name) for how in loads for contender in contenders]
    return table({key: spans[key] for key in order}, contenders[0].name)


def main() -> int:
    """Exit status 1 where something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="small", help="of models/pretrained, or small [%(default)s]")
    parser.add_argument("--servers", nargs="+", default=[OURS, WIDE_MOSEC], help="names as in docs/performance.md")
    parser.add_argument("--checkout", type=Path, nargs="*", default=[], help="ours with other code, from such folders")
    parser.add_argument("--two-workers", action="store_true", help="ours and mosec, two processes each, instead")
    parser.add_argument("--closed", type=int, nargs="*", default=[1, 8, 32, 64, 256], help="connections")
    parser.add_argument("--open", type=float, nargs="*", default=[], help="rates of random arrivals, requests/s")
    parser.add_argument("--seconds", type=float, default=0.5, help="of each turn [%(default)s]")
    parser.add_argument("--rounds", type=int, default=10, help="[%(default)s]")
    options = parser.parse_args()
    end_on_sigterm()
    if missing := missing_environments():
        print(f"pairs: make bench-peers installs {', '.join(missing)}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        gather(Path(folder))
        try:
            print(compare(options, Path(folder)))
        except BenchmarkError as error:
            print(f"pairs: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
