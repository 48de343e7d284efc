"""The CUDA provider beside the CPU: time a batch by its size, and the service's throughput on a GPU.

Without a GPU that onnxruntime can use it says why, measures nothing, and exits with 2.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import load, pictures, plan_for
from benchmarks.checker import Checker
from benchmarks.load import percentile
from benchmarks.peers.contenders import gather, ours
from benchmarks.report import machine
from benchmarks.servers import BenchmarkError, end_on_sigterm, running
from models.bundle import Bundle
from models.engines import Engine, open_engine
from models.engines.base import Device, apart
from models.errors import ServingError

MODELS = ("dnn", "small", "cnn")
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
CONNECTIONS = (1, 8, 32, 64, 256)
_WARM_UP = 5
_SECONDS_A_SIZE = 1.0
_MOST_RUNS = 2000


@dataclass(frozen=True)
class Point:
    """Batches of one size.

    Attributes:
        rows: In a batch.
        p50_ms: Time of a batch.
        p99_ms: Time of a batch.
        rows_per_s: At the median.
        runs: How many were timed.
    """

    rows: int
    p50_ms: float
    p99_ms: float
    rows_per_s: float
    runs: int


def curve(
    engine: Engine, golden: NDArray[Any], sizes: Sequence[int] = SIZES, clock: Callable[[], float] = perf_counter
) -> list[Point]:
    """Time batches of each size, for about a second each."""
    points = []
    for size in sizes:
        batch: NDArray[Any] = np.resize(golden, (size, *golden.shape[1:]))
        for _ in range(_WARM_UP):
            engine.run(batch)
        times: list[float] = []
        while sum(times) < _SECONDS_A_SIZE and len(times) < _MOST_RUNS:
            started = clock()
            engine.run(batch)
            times.append(clock() - started)
        times.sort()
        median = percentile(times, 0.5)
        points.append(Point(size, 1000 * median, 1000 * percentile(times, 0.99), size / median, len(times)))
    return points


def on(device: Device, bundle: Bundle) -> dict[str, Any]:
    """Curve and largest difference from the golden outputs.

    Raises:
        ServingError: The engine does not start there.
    """
    golden, expected = bundle.golden()
    engine = open_engine(bundle, kind="onnx", device=device)
    try:
        difference = apart(engine.run(golden), expected)
        return {"difference": difference, "curve": [asdict(point) for point in curve(engine, golden)]}
    finally:
        engine.close()


def served(model: str, bundles: Path, seconds: float) -> dict[str, Any]:
    """Closed loop of the service with its engines on the GPU."""
    contender = ours(model, bundles)
    contender = replace(contender, environment=contender.environment | {"SERVING_DEVICE": "gpu"})
    plan = plan_for(contender, pictures(Bundle.open(bundles / model)), seconds)
    checker = Checker(plan)
    with running(contender) as server:
        server.wait_for(plan.first(), dict(plan.headers), lambda body: checker.wrong(0, body))
        plan = replace(plan, port=server.port)
        return {str(count): asdict(load(replace(plan, connections=count))) for count in CONNECTIONS}


def to_markdown(found: dict[str, Any]) -> str:
    """The report for people."""
    lines = ["# On a GPU", "", f"{found['gpu']}; {found['machine']['cpu']}, {found['machine']['cores']} cores.", ""]
    for model, one in found["models"].items():
        lines += [f"## {model}", "", "| rows a batch | CPU ms | CPU rows/s | GPU ms | GPU p99 ms | GPU rows/s |"]
        lines.append("|---|---|---|---|---|---|")
        for cpu, gpu in zip(one["cpu"]["curve"], one["gpu"]["curve"], strict=True):
            lines.append(
                f"| {cpu['rows']} | {cpu['p50_ms']:.3f} | {cpu['rows_per_s']:,.0f} "
                f"| {gpu['p50_ms']:.3f} | {gpu['p99_ms']:.3f} | {gpu['rows_per_s']:,.0f} |"
            )
        lines += ["", f"Largest difference from the golden outputs: {one['gpu']['difference']:.1e}.", ""]
        lines += ["| connections | requests/s | p50 ms | p99 ms |", "|---|---|---|---|"]
        for count, run in one["served"].items():
            lines.append(f"| {count} | {run['requests_per_s']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f} |")
        lines.append("")
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each closed-loop run [%(default)s]")
    parser.add_argument("--out", type=Path, default=Path("reports"), help="folder of gpu.json and gpu.md")
    options = parser.parse_args()
    end_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="bundles-") as folder:
        bundles = Path(folder)
        gather(bundles)
        try:
            open_engine(Bundle.open(bundles / "dnn"), kind="onnx", device="gpu").close()
        except ServingError as error:
            print(f"bench-gpu: no GPU to measure: {error}", file=sys.stderr)
            return 2
        found: dict[str, Any] = {"machine": machine(("numpy", "uvicorn")), "gpu": _gpu(), "models": {}}
        try:
            for model in MODELS:
                bundle = Bundle.open(bundles / model)
                found["models"][model] = {"cpu": on("cpu", bundle), "gpu": on("gpu", bundle)}
                found["models"][model]["served"] = served(model, bundles, options.seconds)
        except (BenchmarkError, ServingError) as error:
            print(f"bench-gpu: {error}", file=sys.stderr)
            return 1
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps(found, indent=1) + "\n")
    text = to_markdown(found)
    (options.out / "gpu.md").write_text(text)
    print(text)
    return 0


def _gpu() -> str:
    """Its name, as the driver says."""
    names = [
        line.partition(":")[2].strip()
        for file in Path("/proc/driver/nvidia/gpus").glob("*/information")
        for line in file.read_text().splitlines()
        if line.startswith("Model")
    ]
    return ", ".join(names) or "a GPU without a name"


if __name__ == "__main__":
    sys.exit(main())
