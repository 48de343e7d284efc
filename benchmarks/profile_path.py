"""Where the time of one request goes: CPU microseconds a request of several servers, and of ours by function.

Server CPU time is what the kernel counted for the process that answers, divided by the requests that it answered at 32
connections. What a step adds is the difference between two servers: an answer from a bare socket protocol (event loop
and kernel), uvicorn with an empty handler, the same with all of the work of a prediction (the bare handler), and ours
with one feature after another off. The table of functions comes from a sampling probe in a run of its own.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep
from typing import Any

import psutil

from benchmarks.bench import load, pictures, plan_for
from benchmarks.ceiling import fixed_answers
from benchmarks.checker import Checker
from benchmarks.payloads import PAYLOADS
from benchmarks.peers.contenders import LIMIT, OURS, gather, in_format, peers_of
from benchmarks.plan import Plan
from benchmarks.servers import BenchmarkError, Contender, end_on_sigterm, running
from benchmarks.stalls import busiest
from models.bundle import Bundle

CONNECTIONS = 32
_PROBE = Path(__file__).parent / "probe"
_FEATURES = {"drift watch off": {"SERVING_DRIFT": "false"}, "fast path off": {"SERVING_FAST_PATH": "false"}}


@dataclass(frozen=True)
class Cost:
    """CPU microseconds a request of the process that answers.

    Attributes:
        user: In its own code.
        system: In the kernel: sockets, above all.
        requests_per_s: At 32 connections.
    """

    user: float
    system: float
    requests_per_s: float

    @property
    def total(self) -> float:
        """Both."""
        return self.user + self.system


def cost_of(pid: int, plan: Plan) -> Cost:
    """Load a server that is warm, and ask the kernel before and after."""
    before = psutil.Process(pid).cpu_times()
    run = load(replace(plan, warm_up_s=0.0, connections=CONNECTIONS))
    after = psutil.Process(pid).cpu_times()
    used = ((after.user - before.user) * 1e6, (after.system - before.system) * 1e6)
    return Cost(used[0] / run.correct, used[1] / run.correct, run.requests_per_s)


def measured(contender: Contender, plan: Plan) -> Cost:
    """Cost of a fresh server."""
    checker = Checker(plan)
    with running(contender) as server:
        server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
        plan = replace(plan, port=server.port)
        load(replace(plan, seconds=1.0, connections=CONNECTIONS))
        return cost_of(busiest(server.process.pid), plan)


def empty(plan: Plan) -> Contender:
    """Uvicorn that answers the first body, always."""
    answer = json.dumps([plan.expected[0]])
    environment = {"PEER_PORT": "{port}", "EMPTY_ANSWER": answer}
    command = (sys.executable, str(Path(__file__).with_name("empty_asgi.py")))
    return Contender("uvicorn, empty handler", command, environment, "/", "rows", "rows")


def functions(contender: Contender, plan: Plan) -> Counter[str]:
    """Samples a function, of the process that answers, under load."""
    checker = Checker(plan)
    with tempfile.TemporaryDirectory(prefix="profile-") as folder:
        probe = {"PYTHONPATH": str(_PROBE), "PROFILE_PROBE": folder}
        with running(replace(contender, environment=contender.environment | probe)) as server:
            server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
            plan = replace(plan, port=server.port, connections=CONNECTIONS)
            load(replace(plan, seconds=1.0))
            file = Path(folder) / f"profile-{busiest(server.process.pid)}.json"
            warm = Counter(json.loads(file.read_text()))
            load(plan)
            sleep(0.1)
            return Counter(json.loads(file.read_text())) - warm


def profile(model: str, seconds: float, payload: str, rounds: int) -> dict[str, Any]:
    """Everything.

    Raises:
        BenchmarkError: A server failed.
    """
    with tempfile.TemporaryDirectory(prefix="bundles-") as folder:
        gather(Path(folder))
        bundle = Bundle.open(Path(folder) / model)
        found = peers_of(bundle, Path(folder))
        asked = pictures(bundle)
        asked_so = in_format(found[OURS], payload)
        plan = plan_for(asked_so, asked, seconds)
        bare = plan_for(found[LIMIT], asked, seconds)
        fixed = replace(plan, path="/", reader="rows", bodies=plan.bodies[:1], expected=plan.expected[:1])
        asked_of = {"uvicorn, empty handler": (empty(plan), fixed), LIMIT: (found[LIMIT], bare), OURS: (asked_so, plan)}
        for name, changed in _FEATURES.items():
            varied = replace(asked_so, environment=asked_so.environment | changed)
            asked_of[f"{OURS}, {name}"] = (varied, plan)
        every: dict[str, list[Cost]] = {}
        for _ in range(rounds):
            with fixed_answers(plan.expected[0]) as port:
                every.setdefault("an answer from a bare socket protocol", []).append(
                    cost_of(_child(), replace(fixed, port=port))
                )
            for name, (contender, its_plan) in asked_of.items():
                every.setdefault(name, []).append(measured(contender, its_plan))
        # The cheapest round: what else runs on the machine only ever adds, through cold caches above all.
        costs = {name: min(several, key=lambda cost: cost.total) for name, several in every.items()}
        samples = functions(asked_so, plan)
    return {"model": f"{model}, {payload}", "costs": costs, "functions": samples}


def _child() -> int:
    """The process that `fixed_answers` began last."""
    pid: int = psutil.Process(os.getpid()).children()[-1].pid
    return pid


def tell(found: dict[str, Any], most: int = 25) -> None:
    """For people."""
    print(f"{found['model']}, {CONNECTIONS} connections\n")
    print("| server | user us | system us | CPU us a request | requests/s |\n|---|---|---|---|---|")
    for name, cost in found["costs"].items():
        print(f"| {name} | {cost.user:.1f} | {cost.system:.1f} | {cost.total:.1f} | {cost.requests_per_s:,.0f} |")
    total, ours = sum(found["functions"].values()), found["costs"][OURS].total
    print(f"\n{total} samples of {OURS}, where run stands for event loop, sockets and kernel\n")
    print("| function, with what it calls outside of Python | share | us a request |\n|---|---|---|")
    for name, count in found["functions"].most_common(most):
        print(f"| {name} | {count / total:.1%} | {ours * count / total:.1f} |")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dnn", help="dnn, small, cnn [%(default)s]")
    parser.add_argument("--format", default="instances", choices=sorted(PAYLOADS), help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each run [%(default)s]")
    parser.add_argument("--rounds", type=int, default=3, help="the cheapest one counts [%(default)s]")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        tell(profile(options.model, options.seconds, options.format, options.rounds))
    except BenchmarkError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
