"""What recording metrics costs of a prediction's throughput: ``python -m benchmarks.metrics_cost``.

Two servers that differ in nothing but that one records nothing (benchmarks/unmeasured), loaded in turn: of each pair of
runs the ratio is taken, and of the ratios the median, so that a machine that slows down meanwhile does little harm. The
servers' CPU time a request is compared too: where other work shares the cores, it says more than the throughput.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import psutil

from benchmarks.bench import load, pictures, plan_for
from benchmarks.peers.contenders import ours
from benchmarks.plan import Plan
from benchmarks.report import machine
from benchmarks.servers import BenchmarkError, Contender, Server, running
from models.bundle import Bundle

UNMEASURED = Path(__file__).resolve().parent / "unmeasured"
_LIMIT = 0.05
_RECORDED = 200_000


def pair(model: str, pretrained: Path) -> tuple[Contender, Contender]:
    """The server as it is, and the one that records nothing."""
    recording = ours(model, pretrained)
    path = {"PYTHONPATH": str(UNMEASURED)}
    return recording, replace(recording, name="without metrics", environment=recording.environment | path)


@dataclass(frozen=True)
class Run:
    """One run of one server.

    Attributes:
        requests_per_s: Its throughput.
        cpu_us: CPU time of its processes a request. Microseconds.
    """

    requests_per_s: float
    cpu_us: float


def throughput_cost(recording: Sequence[Run], silent: Sequence[Run]) -> float:
    """Share of the throughput that recording takes: 1 less the median ratio of runs taken together."""
    pairs = zip(recording, silent, strict=True)
    return 1 - median(on.requests_per_s / off.requests_per_s for on, off in pairs)


def cpu_cost(recording: Sequence[Run], silent: Sequence[Run]) -> float:
    """Share of a recording server's CPU time that recording takes: the median over runs taken together."""
    return median(1 - off.cpu_us / on.cpu_us for on, off in zip(recording, silent, strict=True))


def _cpu_s(server: Server) -> float:
    root = psutil.Process(server.process.pid)
    times = [process.cpu_times() for process in (root, *root.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _run(server: Server, plan: Plan, connections: int) -> Run:
    before = _cpu_s(server)
    found = load(Plan(**{**asdict(plan), "port": server.port, "connections": connections}))
    # The requests of the warm-up are not counted, and cost as much.
    requests = found.correct * (1 + plan.warm_up_s / found.seconds)
    result = Run(found.requests_per_s, 1e6 * (_cpu_s(server) - before) / requests)
    print(f"  {server.contender.name:16} {result.requests_per_s:9,.0f} requests/s {result.cpu_us:7.1f} us", flush=True)
    return result


def check_silent(server: Server) -> None:
    """See to it that the server without metrics is one.

    Raises:
        BenchmarkError: It counted predictions.
    """
    import httpx

    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=10).text
    if "serving_predictions_total{" in text:
        raise BenchmarkError("the server without metrics records all the same: benchmarks/unmeasured does not work")


def recording_us(bundle: Bundle) -> float:
    """CPU time of recording one prediction, one in eight with a batch, in a process of its own. Microseconds."""
    with tempfile.TemporaryDirectory(prefix="metrics-") as folder:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": folder}
        command = [sys.executable, "-m", "benchmarks.metrics_cost", "--recording", str(bundle.path)]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def record_many(bundle: Bundle) -> float:
    """As `recording_us`, in this process, which must have the multiprocess directory in its environment."""
    from service.metrics import Metrics

    task, outputs = bundle.manifest.task, bundle.golden()[1][:1]
    recorder = Metrics().model(bundle.manifest.name)
    began = process_time()
    for number in range(_RECORDED):
        recorder.predicted(task, outputs)
        recorder.answered("/predict/{model}", 0.004, 0.0002, 0.001, 0.0001)
        if number % 8 == 0:
            recorder.batch(8, 0.002)
    recorder.flush()
    return 1e6 * (process_time() - began) / _RECORDED


def run(model: str, pretrained: Path, connections: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure, and return what was found."""
    contenders = pair(model, pretrained)
    bundle = Bundle.open(pretrained / model)
    plan = plan_for(contenders[0], pictures(bundle), seconds)
    runs: tuple[list[Run], list[Run]] = ([], [])
    with running(contenders[0]) as recording, running(contenders[1]) as silent:
        servers = (recording, silent)
        for server in servers:
            server.wait_for(plan.first(), dict(plan.headers), lambda _: "")
        for number in range(rounds):
            # Each is the first one as often as the other.
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                runs[which].append(_run(servers[which], plan, connections))
        check_silent(silent)
    return {
        "model": model,
        "connections": connections,
        "machine": machine(),
        "with metrics": [asdict(one) for one in runs[0]],
        "without": [asdict(one) for one in runs[1]],
        "throughput_cost": throughput_cost(*runs),
        "cpu_cost": cpu_cost(*runs),
        "recording_us": recording_us(bundle),
    }


def main() -> int:
    """Measure, print and write; exit 1 when recording takes 5 % or more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", default="dnn", help="shipped picture classifier; the quickest shows most [%(default)s]"
    )
    parser.add_argument("--pretrained", type=Path, default=Path("models/pretrained"), help="folder of bundles")
    parser.add_argument("--connections", type=int, default=32, help="[%(default)s]")
    parser.add_argument("--rounds", type=int, default=7, help="pairs of runs [%(default)s]")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each run [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("reports/metrics_cost.json"), help="[%(default)s]")
    parser.add_argument("--recording", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recording is not None:
        print(record_many(Bundle.open(options.recording)))
        return 0
    try:
        found = run(options.model, options.pretrained, options.connections, options.rounds, options.seconds)
    except BenchmarkError as error:
        print(f"metrics_cost: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"recording one prediction: {found['recording_us']:.1f} us of CPU time")
    print(f"recording takes {found['throughput_cost']:.1%} of the throughput, {found['cpu_cost']:.1%} of the CPU time")
    return int(found["throughput_cost"] >= _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
