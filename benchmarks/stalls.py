"""Why are single answers late? An open loop for minutes, with an eye on server, generator and machine.

Every answer later than 50 ms is kept. What kernel (scheduler, disk, memory pressure, time stolen by the host), server
(garbage collections, functions that did not end, through benchmarks/probe) and sampler say of that time names the
cause of each stall. Controls: --server bare is a bare ASGI handler with the same engine; --server none only lets one
process a core measure for how long it is not run: what they see is the machine's own.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import psutil

from benchmarks.bench import load, pictures, plan_for
from benchmarks.causes import LATE_S, cause, meanwhile, stalls
from benchmarks.checker import Checker
from benchmarks.peers.contenders import LIMIT, OURS, gather, peers_of
from benchmarks.plan import OpenPlan, OpenSummary, Plan
from benchmarks.servers import BenchmarkError, Server, end_on_sigterm, running
from benchmarks.watch import Watch
from models.bundle import Bundle

_PROBE = Path(__file__).parent / "probe"
_GAP_S = 0.005
_CAPACITY_CONNECTIONS = 64
_CONNECTIONS = 128


def spin(seconds: float, core: int) -> list[float]:
    """Times above 5 ms for which a process that never rests was not run, on one core."""
    os.sched_setaffinity(0, {core})
    gaps, last = [], perf_counter()
    end = last + seconds
    while last < end:
        now = perf_counter()
        if now - last > _GAP_S:
            gaps.append(now - last)
        last = now
    return gaps


def spin_everywhere(seconds: float) -> dict[str, Any]:
    """`spin` on every core at once."""
    cores = sorted(os.sched_getaffinity(0))
    with multiprocessing.get_context("spawn").Pool(len(cores)) as pool:
        found = pool.starmap(spin, [(seconds, core) for core in cores])
    return {
        f"core {core}": {"gaps_above_5_ms": len(gaps), "longest_ms": round(1000 * max(gaps, default=0), 1)}
        for core, gaps in zip(cores, found, strict=True)
    }


@contextmanager
def generating(plan: OpenPlan) -> Iterator[subprocess.Popen[str]]:
    """An open-loop generator at work; killed if it is still there at the end."""
    command = [sys.executable, "-m", "benchmarks.open_load"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def busiest(root: int) -> int:
    """The process of a tree that used most CPU time: the one that answers."""
    process = psutil.Process(root)
    family = [process, *process.children(recursive=True)]
    pid: int = max(family, key=lambda one: sum(one.cpu_times()[:2])).pid
    return pid


def watched(server: Server, plan: Plan, rate: float, folder: Path) -> dict[str, Any]:
    """Load a server, and explain what was late."""
    record = folder / "answers.npz"
    worker = busiest(server.process.pid)
    open_plan = OpenPlan(plan, rate, seed=1, bound_ms=0, record=str(record))
    with generating(open_plan) as generator, Watch(lambda: (worker, generator.pid)) as watch:
        output, _ = generator.communicate(json.dumps(asdict(open_plan)), timeout=plan.seconds + 120)
    if generator.returncode:
        raise BenchmarkError("the load generator failed")
    summary = OpenSummary(**json.loads(output))
    lines = [line for file in folder.glob("*.jsonl") for line in file.read_text().splitlines()]
    notes = [json.loads(line) for line in lines]
    with np.load(record) as answers:
        found = stalls(answers["due"], answers["lag"], answers["latency"])
        start = float(answers["due"][0])
    explained = []
    for stall in found:
        what = meanwhile(stall, watch.samples, worker, generator.pid, notes)
        explained.append(
            {
                "at_s": round(stall.begin - start, 3),
                **asdict(stall),
                "cause": cause(stall, what) if what else "unknown: no samples",
                "meanwhile": asdict(what) if what else None,
            }
        )
    return {
        "summary": asdict(summary),
        "stalls": explained,
        # Before the load it starts: thousands of objects, none of them anybody's wait.
        "collections": [note for note in notes if note["kind"] == "gc" and note["since"] > start],
        "longest_sampler_gap_ms": 1000 * max(sample.gap_s for sample in watch.samples),
        "stolen_s": watch.samples[-1].stolen_s - watch.samples[0].stolen_s,
    }


def investigate(options: argparse.Namespace) -> dict[str, Any]:
    """Start the server, find its capacity unless a rate is given, load it.

    Raises:
        BenchmarkError: The server or the generator failed.
    """
    seconds = 60 * options.minutes
    with tempfile.TemporaryDirectory(prefix="stalls-") as home:
        folder, bundles = Path(home), Path(home) / "bundles"
        bundles.mkdir()
        gather(bundles)
        bundle = Bundle.open(bundles / options.model)
        contender = peers_of(bundle, bundles)[OURS if options.server == "ours" else LIMIT]
        if not options.no_probe:
            probe = {"PYTHONPATH": str(_PROBE), "STALL_PROBE": home}
            contender = replace(contender, environment=contender.environment | probe)
        plan = plan_for(contender, pictures(bundle), min(seconds, 3))
        checker = Checker(plan)
        with running(contender) as server:
            server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
            plan = replace(plan, port=server.port, connections=_CAPACITY_CONNECTIONS)
            peak = options.rate or load(plan).requests_per_s
            rate = options.rate or options.share * peak
            print(f"{contender.name}, {options.model}: {rate:,.0f} requests/s for {options.minutes:g} min", flush=True)
            plan = replace(plan, seconds=seconds, connections=_CONNECTIONS)
            return {"server": contender.name, "peak": peak, **watched(server, plan, rate, folder)}


def tell(found: dict[str, Any]) -> None:
    """For people."""
    summary = found["summary"]
    print(
        f"{summary['correct']:,} of {summary['scheduled']:,} answered rightly; p50 {summary['p50_ms']:.2f}, "
        f"p99 {summary['p99_ms']:.2f}, max {summary['max_ms']:.1f} ms; the generator's lag p99 "
        f"{summary['lag_p99_ms']:.2f}, max {summary['lag_max_ms']:.1f} ms {summary['first_problem']}"
    )
    print(
        f"longest time without the sampler {found['longest_sampler_gap_ms']:.0f} ms; the host took "
        f"{found['stolen_s']:.2f} s of CPU time; {len(found['collections'])} collections above 1 ms"
    )
    for stall in found["stalls"]:
        print(
            f"at {stall['at_s']:8.3f} s: {stall['late']:5} answers later than {1000 * LATE_S:.0f} ms, worst "
            f"{1000 * stall['worst_s']:.0f} ms, over {stall['seconds']:.3f} s: {stall['cause']}"
        )
    if not found["stalls"]:
        print(f"no answer later than {1000 * LATE_S:.0f} ms")


def main() -> int:
    """Investigate, print and write; exit 1 when an answer was late or failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=("ours", "bare", "none"), default="ours")
    parser.add_argument("--model", default="small", help="dnn, small, cnn [%(default)s]")
    parser.add_argument("--minutes", type=float, default=1.0, help="at most 10 [%(default)s]")
    parser.add_argument("--share", type=float, default=0.8, help="of the closed loop's peak [%(default)s]")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second, in place of a share")
    parser.add_argument("--no-probe", action="store_true", help="leave the server as it is: fewer causes can be named")
    parser.add_argument("--out", type=Path, default=Path("reports/stalls.json"), help="[%(default)s]")
    options = parser.parse_args()
    end_on_sigterm()
    if not 0 < options.minutes <= 10:
        parser.error(f"--minutes must be above 0 and at most 10. Received: {options.minutes:g}.")
    if options.server == "none":
        found: dict[str, Any] = {"server": "none", "spinning": spin_everywhere(60 * options.minutes)}
        print(json.dumps(found["spinning"], indent=1))
    else:
        try:
            found = investigate(options)
        except BenchmarkError as error:
            print(f"stalls: {error}", file=sys.stderr)
            return 1
        tell(found)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    summary = found.get("summary", {})
    return int(bool(found.get("stalls")) or summary.get("correct") != summary.get("scheduled"))


if __name__ == "__main__":
    sys.exit(main())
