"""Where should a batch run? Three ways beside each other: ``python -m benchmarks.threads``.

On the event loop with one CPU; in a thread, so that the loop goes on, for as long as it has Python's lock; on the event
loop with each batch split over the CPUs inside ONNX Runtime (the default). For each: closed loop at some connections,
then an open loop of random arrivals at a rate that none of them is overloaded by.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from benchmarks.bench import load, pictures, plan_for
from benchmarks.checker import Checker
from benchmarks.peers.contenders import gather, ours
from benchmarks.peers.measure import OPEN_CONNECTIONS, open_load
from benchmarks.plan import OpenPlan
from benchmarks.servers import BenchmarkError, end_on_sigterm, running
from models.bundle import Bundle

WAYS: Mapping[str, Mapping[str, str]] = {
    "loop": {"SERVING_THREADS": "1", "SERVING_INLINE_MS": "1000"},
    "thread": {"SERVING_THREADS": "1", "SERVING_INLINE_MS": "0"},
    "default": {},
}


def compare(options: argparse.Namespace, bundles: Path) -> None:
    """Measure each way once a round, in an order that turns round.

    Raises:
        BenchmarkError: A server or the load generator failed.
    """
    asked = pictures(Bundle.open(bundles / options.model))
    for number in range(options.rounds):
        for way in list(WAYS)[:: 1 if number % 2 == 0 else -1]:
            contender = ours(options.model, bundles)
            contender = replace(contender, environment={**contender.environment, **WAYS[way]})
            plan = replace(plan_for(contender, asked, options.seconds), warm_up_s=0.5)
            checker = Checker(plan)
            with running(contender) as server:
                server.wait_for(plan.first(), dict(plan.headers), lambda body, checker=checker: checker.wrong(0, body))
                plan = replace(plan, port=server.port)
                for connections in options.connections:
                    run = load(replace(plan, connections=connections))
                    figures = f"{run.requests_per_s:7,.0f}/s  p50 {run.p50_ms:6.2f}  p99 {run.p99_ms:7.2f} ms"
                    print(f"{way:8} {connections:4} connections   {figures} {run.first_problem}", flush=True)
                for seed in options.seeds:
                    offered = OpenPlan(replace(plan, connections=OPEN_CONNECTIONS), options.rate, seed, bound_ms=0)
                    late = open_load(offered)
                    figures = f"{late.rate:7,.0f}/s  p50 {late.p50_ms:6.2f}  p99 {late.p99_ms:7.2f} ms"
                    print(f"{way:8} open, schedule {seed}   {figures} {late.first_problem}", flush=True)


def main() -> int:
    """Exit status 1 where something could not be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small", help="of models/pretrained, or small [%(default)s]")
    parser.add_argument("--connections", type=int, nargs="+", default=[8, 32, 64], help="[8 32 64]")
    parser.add_argument("--rate", type=float, default=4000.0, help="of the open loop, a second [%(default)s]")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="a schedule each [1 2]")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=2, help="[%(default)s]")
    options = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory() as folder:
        gather(Path(folder))
        try:
            compare(options, Path(folder))
        except BenchmarkError as error:
            print(f"threads: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
