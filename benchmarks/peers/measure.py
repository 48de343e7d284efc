"""Carries the steps out, one server at a time."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.bench import Pictures, load, pictures, plan_for
from benchmarks.checker import Checker
from benchmarks.peers import contenders as who
from benchmarks.peers.capacity import BOUND_MS, search
from benchmarks.peers.plans import FORMAT_CONNECTIONS, FORMATS, ROWS, Preset, Step, front
from benchmarks.peers.record import Record
from benchmarks.plan import OPEN_CONNECTIONS, OpenPlan, OpenSummary, Plan
from benchmarks.servers import BenchmarkError, Contender, Server, running
from benchmarks.turns import TURN_S, WARM_UP_S, Load, measure, middle, turn
from models.bundle import Bundle

_OPEN_WARM_UP_S = 0.5


def open_load(plan: OpenPlan) -> OpenSummary:
    """Carry ``plan`` out in a process of its own.

    Raises:
        BenchmarkError: The generator failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.open_load"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        timeout=plan.plan.warm_up_s + plan.plan.seconds + 60,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"the load generator failed:\n{done.stderr[-3000:]}")
    return OpenSummary(**json.loads(done.stdout))


class Bench:
    """Measures steps against bundles that lie in one folder, each under its model's name."""

    def __init__(
        self,
        bundles: Path,
        preset: Preset,
        record: Record,
        generate: Callable[[OpenPlan], OpenSummary] = open_load,
    ) -> None:
        self._bundles = bundles
        self._preset = preset
        self._record = record
        self._generate = generate
        self._kinds: dict[str, Callable[[Step], dict[str, Any]]] = {
            "closed": self._closed,
            "open": self._open,
            "formats": self._formats,
            "workers": self._workers,
            "turns": self._turns,
        }

    def do(self, step: Step) -> None:
        """Measure one step, and keep what it gave or why it could not be."""
        try:
            result = self._kinds[step.kind](step)
        except BenchmarkError as error:
            result = {"error": str(error)[-1500:]}
            print(f"    failed: {result['error']}", flush=True)
        self._record.keep(step.key, result)

    def _ask(self, model: str) -> tuple[dict[str, Contender], Pictures]:
        bundle = Bundle.open(self._bundles / model)
        return who.peers_of(bundle, self._bundles), pictures(bundle)

    @contextmanager
    def _ready(self, contender: Contender, plan: Plan) -> Iterator[tuple[Server, float]]:
        """A fresh server that has answered once, and how long that took."""
        checker = Checker(plan)
        with running(contender) as server:
            yield server, server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))

    def _levels(self, contender: Contender, asked: Pictures, connections: tuple[int, ...]) -> dict[str, Any]:
        plan = replace(plan_for(contender, asked, self._preset.seconds), warm_up_s=self._preset.warm_up_s)
        runs = {}
        with self._ready(contender, plan) as (server, ready_s):
            for count in connections:
                before = server.cpu_s()
                run = load(replace(plan, port=server.port, connections=count))
                # What was answered in the warm-up is not counted: taken to be as fast.
                answered = run.requests_per_s * (run.seconds + plan.warm_up_s)
                runs[str(count)] = asdict(run) | {"cpu_us": 1e6 * (server.cpu_s() - before) / answered}
                _tell(f"{count:3} connections", run.requests_per_s, run.p50_ms, run.p99_ms, run.first_problem)
            return {"ready_s": ready_s, "memory": asdict(server.memory()), "runs": runs}

    def _closed(self, step: Step) -> dict[str, Any]:
        found, asked = self._ask(step.model)
        return self._levels(found[step.contender], asked, self._preset.connections[step.model])

    def _workers(self, step: Step) -> dict[str, Any]:
        found, asked = self._ask(step.model)
        ours, mosec = who.two_processes(found, step.model, self._bundles)
        contender = ours if step.contender == who.OURS else mosec
        return self._levels(contender, asked, self._preset.connections[step.model])

    def _formats(self, step: Step) -> dict[str, Any]:
        """Each format with each number of rows, in short turns, of one server."""
        found, asked = self._ask(step.model)
        ours = found[step.contender]
        plans: dict[str, Plan] = {}
        for name in FORMATS:
            for rows in ROWS:
                plan = plan_for(who.in_format(ours, name), asked, TURN_S, rows)
                plans[f"{name}|{rows}"] = replace(plan, connections=FORMAT_CONNECTIONS, warm_up_s=WARM_UP_S)
        runs: dict[str, dict[str, Any]] = {}
        for key, plan in plans.items():
            size = round(sum(len(base64.b64decode(body)) for body in plan.bodies) / len(plan.bodies))
            runs[key] = {"bytes": size, "spans": []}
        with self._ready(ours, next(iter(plans.values()))) as (server, _):
            for number in range(self._preset.format_rounds):
                for key in list(plans)[:: 1 if number % 2 == 0 else -1]:
                    plan = replace(plans[key], port=server.port)
                    try:
                        span = turn(server, plan, ("closed", FORMAT_CONNECTIONS), number, self._generate)
                    except BenchmarkError as error:
                        runs[key] = {"error": str(error)[-600:]}
                        print(f"    {key}: failed: {str(error)[-300:]}", flush=True)
                        del plans[key]
                        continue
                    runs[key]["spans"].append(asdict(span))
                    _tell(key, span.requests_per_s, span.p50_ms, span.p99_ms, "")
        return {"runs": runs, "seconds": TURN_S}

    def _turns(self, step: Step) -> dict[str, Any]:
        found, asked = self._ask(step.model)
        contenders = [found[name] for name in front(step.model)]
        turns = self._preset.turns[step.model]
        spans = measure(contenders, asked, turns, self._generate)
        loads: dict[Load, dict[str, list[dict[str, float]]]] = {}
        for (how, name), taken in spans.items():
            loads.setdefault(how, {})[name] = [asdict(span) for span in taken]
            one = middle(taken)
            _tell(f"{how[0]} {how[1]:g}, {name}", one.requests_per_s, one.p50_ms, one.p99_ms, "")
        told = [{"kind": kind, "size": size, "spans": found} for (kind, size), found in loads.items()]
        return {"loads": told, "seconds": turns.seconds, "starts": turns.starts}

    def _open(self, step: Step) -> dict[str, Any]:
        found, asked = self._ask(step.model)
        contender, preset = found[step.contender], self._preset
        plan = plan_for(contender, asked, preset.open_seconds)
        plan = replace(plan, connections=OPEN_CONNECTIONS, warm_up_s=_OPEN_WARM_UP_S)
        rounds = self._record.of("closed", step.model).get(step.contender, [])
        peak = max((run["requests_per_s"] for one in rounds[:1] for run in one["runs"].values()), default=0.0)
        if not peak:
            raise BenchmarkError("nothing is known of its closed loop, so there is no place to begin the search")
        before = self._record.of("open", step.model).get(step.contender)
        near = before[-1]["rate"] if before else None
        with self._ready(contender, plan) as (server, _):

            def attempt(rate: float, seed: int) -> OpenSummary:
                run = self._generate(OpenPlan(replace(plan, port=server.port), rate, seed, BOUND_MS))
                what = f"offered, schedule {seed}{' (given up)' if run.given_up else ''}, lag p99 {run.lag_p99_ms:.1f}"
                _tell(what, rate, run.p50_ms, run.p99_ms, run.first_problem)
                return run

            capacity = search(attempt, peak, preset.seeds(step.number), near=near)
        return capacity.to_json() | {"seconds": preset.open_seconds}


def _tell(what: str, rate: float, p50_ms: float, p99_ms: float, problem: str) -> None:
    print(f"    {rate:9,.0f} requests/s  p50 {p50_ms:7.2f}  p99 {p99_ms:7.2f} ms  {what} {problem[:200]}", flush=True)
