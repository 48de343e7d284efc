"""Does it pay to split a batch over threads? ``python -m benchmarks.splitting``.

Engine time by batch size, with one thread and with several, for the shipped networks and the small one: medians, and
the CPU time of the process. `models.engines.splitting` has the limit that follows.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import numpy as np

from benchmarks.peers.contenders import gather
from models.bundle import Bundle
from models.engines import open_engine

SIZES = (1, 2, 3, 4, 8, 16, 32)


def timed(call: Callable[[], object], seconds: float) -> str:
    """Median time and mean CPU time of a call, in microseconds, over ``seconds``."""
    times: list[float] = []
    cpu, began = process_time(), perf_counter()
    while perf_counter() - began < seconds:
        started = perf_counter()
        call()
        times.append(perf_counter() - started)
    return f"{median(times) * 1e6:7,.0f} us, CPU {(process_time() - cpu) / len(times) * 1e6:7,.0f} us"


def main(arguments: list[str] | None = None) -> int:
    """Print a line a model and size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["small", "dnn", "cnn"], help="[small dnn cnn]")
    parser.add_argument("--threads", type=int, default=2, help="[%(default)s]")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each cell [%(default)s]")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        gather(Path(folder))
        for name in options.models:
            bundle = Bundle.open(Path(folder) / name)
            rows = bundle.golden()[0]
            engines = [open_engine(bundle, kind="onnx", device="cpu", threads=n) for n in (1, options.threads)]
            print(f"{name}: {options.threads} threads are used from {engines[1].split_rows} rows on", flush=True)
            # Whatever the engine would choose.
            engines[1].split_rows = 1
            for size in SIZES:
                batch = np.resize(rows, (size, *rows.shape[1:]))
                cells = [timed(lambda run=engine.run, batch=batch: run(batch), options.seconds) for engine in engines]
                print(f"  {size:3} rows   one: {cells[0]}   split: {cells[1]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
