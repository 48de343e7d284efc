"""Triton's Perf Analyzer against the service, over HTTP and gRPC: `make perf-analyzer`.

Shows that the Triton project's own tool, which asks for metadata and configuration before it begins, gets along with
the service. It looks at no answer, so its figures are no benchmark of ours: `make bench-peers` checks each answer.
"""

import argparse
import csv
import ctypes.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from models.bundle import Bundle
from models.task import Records
from service.settings import PRETRAINED

ENVIRONMENT = Path(__file__).resolve().parent.parent / ".venv-peers" / "perf-analyzer"
_START_S = 60
_WAYS = {"http": (), "grpc": (), "grpc, one stream": ("--async", "--streaming")}


def inputs_of(bundle: Bundle, rows: int = 16) -> dict[str, Any]:
    """Golden rows in the form that ``--input-data`` has: random numbers would break most schemas."""
    task = bundle.manifest.task
    golden = bundle.golden()[0][:rows]
    if isinstance(task, Records):
        records = [task.record(row) for row in golden]
        # It takes 4 for no float.
        return {"data": [{k: [v if isinstance(v, str) else float(v)] for k, v in one.items()} for one in records]}
    return {"data": [{"input": {"content": row.ravel().tolist(), "shape": list(row.shape)}} for row in golden]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str) -> None:
    """Until the server is ready.

    Raises:
        TimeoutError: It is not, within a minute.
    """
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} does not answer 200 within {_START_S} s.")


@contextmanager
def served(home: Path) -> Iterator[tuple[int, int]]:
    """The shipped models in a server of their own; its ports of HTTP and gRPC."""
    port, grpc_port = _free_port(), _free_port()
    command = [str(Path(sys.executable).with_name("keras-serving")), "serve"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--grpc-port", str(grpc_port)],
            env=os.environ | {"SERVING_HOME": str(home / "home"), "SERVING_DRAIN_S": "0"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/readyz")
        yield port, grpc_port
    finally:
        server.terminate()
        server.wait(_START_S)


def measure(folder: Path, model: str, way: str, port: int, concurrency: int) -> dict[str, float]:
    """Requests a second, and p50 and p99 in milliseconds, of one run.

    Raises:
        RuntimeError: It could not measure, or a request failed.
    """
    (libraries,) = ENVIRONMENT.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib")
    report = folder / "report.csv"
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [
            *(str(ENVIRONMENT / "bin" / "perf_analyzer"), "-m", model, "-u", f"127.0.0.1:{port}"),
            *("-i", way[:4], *_WAYS[way], "--input-data", str(folder / f"{model}.json"), "-f", str(report)),
            *("--concurrency-range", str(concurrency), "--measurement-mode", "count_windows"),
            # What it calls stable is not the question here, so nearly everything is.
            *("--measurement-request-count", "500", "--max-trials", "6", "--stability-percentage", "99"),
        ],
        env=os.environ | {"LD_LIBRARY_PATH": str(libraries)},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    if done.returncode or not report.exists():
        raise RuntimeError(f"{model} over {way}: {(done.stdout + done.stderr).strip()[-600:]}")
    with report.open(newline="") as file:
        (row,) = csv.DictReader(file)
    return {
        "requests/s": float(row["Inferences/Second"]),
        "p50 ms": float(row["p50 latency"]) / 1000,
        "p99 ms": float(row["p99 latency"]) / 1000,
    }


def main() -> int:
    """Run each model over each way and print a table; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--concurrency", type=int, default=8, help="requests at once [8]")
    parser.add_argument("--models", default="cnn,dnn,lstm,regressor", help="comma-separated [all shipped ones]")
    arguments = parser.parse_args()
    if ctypes.util.find_library("b64") is None:
        print("perf-analyzer: it needs libb64. On Debian: apt-get install libb64-0d.", file=sys.stderr)
        return 2
    models = arguments.models.split(",")
    with tempfile.TemporaryDirectory() as folder:
        return 1 if _run(Path(folder), models, arguments.concurrency) else 0


def _run(folder: Path, models: list[str], concurrency: int) -> int:
    """Print a row a measurement; how many failed."""
    failed = 0
    print(f"| model, {concurrency} at once | way | requests/s | p50 ms | p99 ms |\n|---|---|---|---|---|")
    with served(folder) as (port, grpc_port):
        for model in models:
            (folder / f"{model}.json").write_text(json.dumps(inputs_of(Bundle.open(PRETRAINED / model))))
            for way in _WAYS:
                try:
                    found = measure(folder, model, way, port if way == "http" else grpc_port, concurrency)
                except RuntimeError as error:
                    failed += 1
                    print(f"perf-analyzer: {error}", file=sys.stderr)
                else:
                    figures = f"{found['requests/s']:,.0f} | {found['p50 ms']:.2f} | {found['p99 ms']:.2f}"
                    print(f"| {model} | {way} | {figures} |")
    return failed


if __name__ == "__main__":
    sys.exit(main())
