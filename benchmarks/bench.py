"""Our service beside a stock BentoML service with the same ONNX graph, in one run: ``python -m benchmarks.bench``.

Each round starts each server anew, times the way to its first correct answer, loads it with 1, 8 and 32 connections,
and looks at its memory. Only loopback addresses are used, and every step ends by itself.
"""

import argparse
import base64
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ceiling import fixed_answers
from benchmarks.checker import Checker
from benchmarks.payloads import longest, requests
from benchmarks.peers.contenders import ours as our_service
from benchmarks.peers.contenders import stock as stock_service
from benchmarks.plan import Plan, Summary
from benchmarks.report import Round, machine, medians, targets, to_markdown
from benchmarks.servers import BenchmarkError, Contender, end_on_sigterm, running
from models.bundle import ONNX, Bundle
from models.task import ImageClassification

CONNECTIONS = (1, 8, 32)
MAX_PICTURES = 64

Pictures = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""Pictures (n, height, width, channels), and what the model says of them."""


def load(plan: Plan) -> Summary:
    """Carry ``plan`` out in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        timeout=plan.warm_up_s + plan.seconds + 60,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"the load generator failed:\n{done.stderr[-3000:]}")
    summary = Summary(**json.loads(done.stdout))
    if not summary.correct:
        raise BenchmarkError(f"no correct answer from port {plan.port}{plan.path}: {summary.first_problem}")
    return summary


def plan_for(contender: Contender, pictures: Pictures, seconds: float, rows: int = 1) -> Plan:
    """What ``contender`` is asked, and what it must answer; port and connections are filled in later."""
    headers, bodies, expected = requests(contender.payload, *pictures, rows)
    encoded = [base64.b64encode(body).decode() for body in bodies]
    return Plan(1, contender.path, encoded, expected, contender.reader, 1, seconds, headers=headers)


def measure(contender: Contender, plan: Plan) -> Round:
    """One round of one contender."""
    with running(contender) as server:
        checker = Checker(plan)
        ready_s = server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
        runs = []
        for connections in CONNECTIONS:
            run = load(Plan(**{**asdict(plan), "port": server.port, "connections": connections}))
            runs.append(run)
            print(
                f"  {contender.name:18} {connections:3} connections  {run.requests_per_s:9,.0f} requests/s"
                f"  p50 {run.p50_ms:7.2f}  p99 {run.p99_ms:7.2f} ms  {run.first_problem}",
                flush=True,
            )
        return Round(contender.name, ready_s, tuple(runs), server.memory())


def pictures(bundle: Bundle) -> Pictures:
    """The golden pictures with most digits, and their expected probabilities.

    These have about 3 kB as JSON, like the busier pictures of Fashion-MNIST; black ones have half of that.
    """
    rows, outputs = bundle.golden()
    chosen = longest(rows, MAX_PICTURES)
    return rows[chosen], outputs[chosen]


def bench(model: str, pretrained: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure, and return the whole report."""
    bundle = Bundle.open(pretrained / model)
    bundle.verify()
    if not isinstance(bundle.manifest.task, ImageClassification) or not bundle.has_onnx:
        raise BenchmarkError(f"{model} must classify pictures and have an ONNX graph.")
    asked = pictures(bundle)
    about = machine()
    pair = our_service(model, pretrained), stock_service(str((bundle.path / ONNX).resolve()))
    plans = {contender.name: plan_for(contender, asked, seconds) for contender in pair}
    bare = plans[pair[1].name]
    with fixed_answers(bare.expected[0]) as port:
        ceiling = load(Plan(port, "/", bare.bodies[:1], bare.expected[:1], "rows", max(CONNECTIONS), min(seconds, 3)))
    measured: dict[str, list[Round]] = {contender.name: [] for contender in pair}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        for contender in pair if number % 2 == 0 else reversed(pair):
            measured[contender.name].append(measure(contender, plans[contender.name]))
    figures = {name: medians(done) for name, done in measured.items()}
    ours, stock = (figures[contender.name] for contender in pair)
    return {
        "model": model,
        "version": bundle.manifest.version,
        "models": sorted(path.parent.name for path in pretrained.glob("*/manifest.json")),
        "ours": pair[0].name,
        "body_bytes": sum(len(base64.b64decode(body)) for body in plans[pair[0].name].bodies) // len(asked[0]),
        "pictures": len(asked[0]),
        "rounds": rounds,
        "seconds": seconds,
        "machine": about,
        "generator": asdict(ceiling),
        "contenders": figures,
        "targets": [asdict(target) for target in targets(ours, stock)],
        "all_rounds": {name: [asdict(one) for one in done] for name, done in measured.items()},
    }


def main() -> int:
    """Measure, print and write; exit 1 when an answer of ours was wrong, or with --strict when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="dnn", help="shipped picture classifier to measure [%(default)s]")
    parser.add_argument("--pretrained", type=Path, default=Path("models/pretrained"), help="folder of bundles")
    parser.add_argument("--rounds", type=int, default=3, choices=range(1, 12), metavar="1..11", help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured time of each run [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of bench.json and bench.md")
    parser.add_argument("--strict", action="store_true", help="exit 1 when a target is missed")
    options = parser.parse_args()
    end_on_sigterm()
    try:
        document = bench(options.model, options.pretrained, options.rounds, options.seconds)
    except (BenchmarkError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = to_markdown(document)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "bench.json").write_text(json.dumps(document, indent=2) + "\n")
    (options.out / "bench.md").write_text(text)
    print("\n" + text)
    if any(run["wrong"] for run in document["contenders"][document["ours"]]["connections"].values()):
        return 1
    return int(options.strict and not all(target["met"] for target in document["targets"]))


if __name__ == "__main__":
    sys.exit(main())
