"""`python -m training.latency cnn textbook-cnn`: one row through each recipe's graph, as it would be served.

The weights do not matter for the time, so nothing is trained.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_ROUNDS = 20
_CALLS = 100


def session_of(name: str) -> tuple[InferenceSession, tuple[int, ...], str]:
    """The recipe's graph in onnxruntime with one thread; shape and dtype of one row."""
    import onnxruntime

    from models import architecture
    from training.config import config_path, load_config
    from training.datasets import data_set
    from training.export import write_onnx

    config = load_config(config_path(name))
    task = data_set(config.dataset).task
    model = architecture(config.architecture).build(config.model, task, {})
    model(np.zeros((1, *task.input_shape), task.dtype))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_onnx(model, path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(path.read_bytes(), options), task.input_shape, task.dtype


def timed(sessions: dict[str, tuple[InferenceSession, tuple[int, ...], str]]) -> dict[str, float]:
    """Milliseconds a row: of rounds in turn, the least median, since other processes only ever add."""
    rng = np.random.default_rng(0)
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(_ROUNDS):
        for name, (session, shape, dtype) in sessions.items():
            feed = {session.get_inputs()[0].name: rng.integers(0, 256, (1, *shape)).astype(dtype)}
            times = []
            for _ in range(_CALLS):
                started = perf_counter()
                session.run(None, feed)
                times.append(perf_counter() - started)
            best[name] = min(best[name], 1000 * median(times))
    return best


@click.command()
@click.argument("names", nargs=-1, required=True)
def main(names: tuple[str, ...]) -> None:
    """Time one row of each recipe NAMES (of training/configs); ratios to the last one. For pictures."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    found = timed({name: session_of(name) for name in names})
    for name, milliseconds in found.items():
        click.echo(f"{name:20} {milliseconds:8.3f} ms {milliseconds / found[names[-1]]:6.2f} x")


if __name__ == "__main__":
    main()
