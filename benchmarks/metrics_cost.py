"""What recording metrics costs of a prediction's throughput: ``python -m benchmarks.metrics_cost``.

Two servers that differ in nothing but that one records nothing (benchmarks/unmeasured), loaded in turn: of each pair of
runs the ratio is taken, and of the ratios the median, so that a machine that slows down meanwhile does little harm.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from benchmarks.bench import load, pictures, plan_for
from benchmarks.plan import Plan
from benchmarks.report import machine
from benchmarks.servers import BenchmarkError, Contender, Server, ours, running
from models.bundle import Bundle

UNMEASURED = Path(__file__).resolve().parent / "unmeasured"
_LIMIT = 0.05


def pair(model: str, pretrained: Path) -> tuple[Contender, Contender]:
    """The server as it is, and the one that records nothing."""
    recording = ours(model, pretrained)
    path = {"PYTHONPATH": str(UNMEASURED)}
    return recording, replace(recording, name="without metrics", environment=recording.environment | path)


def cost(recording: Sequence[float], silent: Sequence[float]) -> float:
    """Share of the throughput that recording takes: 1 less the median ratio of runs taken together."""
    return 1 - median(on / off for on, off in zip(recording, silent, strict=True))


def check_silent(server: Server) -> None:
    """See to it that the server without metrics is one.

    Raises:
        BenchmarkError: It counted predictions.
    """
    import httpx

    text = httpx.get(f"http://127.0.0.1:{server.port}/metrics", timeout=10).text
    if "serving_predictions_total{" in text:
        raise BenchmarkError("the server without metrics records all the same: benchmarks/unmeasured does not work")


def run(model: str, pretrained: Path, connections: int, rounds: int, seconds: float) -> dict[str, object]:
    """Measure, and return what was found."""
    contenders = pair(model, pretrained)
    bundle = Bundle.open(pretrained / model)
    plan = plan_for(contenders[0], pictures(bundle), seconds)
    rates: tuple[list[float], list[float]] = ([], [])
    with running(contenders[0]) as recording, running(contenders[1]) as silent:
        servers = (recording, silent)
        for server in servers:
            server.wait_for(plan.first(), dict(plan.headers), lambda _: "")
        for number in range(rounds):
            # Each is the first one as often as the other.
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                wanted = Plan(**{**asdict(plan), "port": servers[which].port, "connections": connections})
                found = load(wanted).requests_per_s
                rates[which].append(found)
                print(f"  {servers[which].contender.name:16} {found:9,.0f} requests/s", flush=True)
        check_silent(silent)
    share = cost(*rates)
    figures = {"with metrics": rates[0], "without": rates[1], "cost": share, "connections": connections}
    return {"model": model, "machine": machine(), **figures}


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
    options = parser.parse_args()
    try:
        found = run(options.model, options.pretrained, options.connections, options.rounds, options.seconds)
    except BenchmarkError as error:
        print(f"metrics_cost: {error}", file=sys.stderr)
        return 1
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    print(f"recording metrics takes {found['cost']:.1%} of the throughput")
    return int(float(str(found["cost"])) >= _LIMIT)


if __name__ == "__main__":
    sys.exit(main())
