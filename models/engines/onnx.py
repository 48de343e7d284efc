"""The default engine: ONNX Runtime, with no TensorFlow in the process."""

import contextlib
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.bundle import ONNX, Bundle, label
from models.engines.identity import MULTIPLES, padded, row_multiple
from models.engines.splitting import split_from
from models.errors import EngineError

# Bytes of a graph that is opened with one thread and with several, so that each batch takes what is faster: a larger
# one would take its memory twice, and gains from several threads with a single row.
_MOST_TWICE = 64 << 20
# Microseconds for which a thread that has done its part of one node waits awake for the next node's: about as long as
# waking it takes. The small network had a tenth more requests with 8 connections than with threads that sleep at
# once, the shipped convolutional one a seventh more with one, for no more CPU time (docs/performance.md).
_SPIN_US = "20"


class OnnxEngine:
    """Runs ``model.onnx``; see `models.engines.base.Engine`."""

    name = "onnx"

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 1) -> None:
        available = onnxruntime.get_available_providers()
        on_gpu = device != "cpu" and "CUDAExecutionProvider" in available
        if device == "gpu" and not on_gpu:
            raise EngineError("device gpu: this onnxruntime has no CUDA provider. Install requirements/gpu.txt.")
        providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if on_gpu else ["CPUExecutionProvider"]
        # From verified bytes, not from the path: what was hashed is what is run.
        graph = bundle.read(ONNX)
        twice = threads > 1 and not on_gpu and len(graph) <= _MOST_TWICE
        session = self._session = _open(bundle, graph, providers, 1 if twice else threads)
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(
                f"{label(bundle.path)}/{ONNX}: a graph has one input and one output. Received: "
                f"{[i.name for i in inputs]} and {[o.name for o in outputs]}. Export the bundle anew."
            )
        # A CUDA provider that cannot start falls back to the CPU with a log line only.
        running_on_gpu = session.get_providers()[0] == "CUDAExecutionProvider"
        if device == "gpu" and not running_on_gpu:
            raise EngineError(
                "device gpu: onnxruntime's CUDA provider did not start. Check the driver and CUDA libraries."
            )
        self.device = "gpu" if running_on_gpu else "cpu"
        self.in_flight = 2 if running_on_gpu else 1
        self._input = inputs[0].name
        self._outputs = [outputs[0].name]
        # Where both are used, they give a row the same bits, which is tried.
        self._split = _open(bundle, graph, providers, threads) if twice else session
        self.split_rows = int(threads > 1 and not running_on_gpu)
        self._multiple = 1
        if not running_on_gpu:
            # A graph that fails here fails on its golden rows too, where the error says more.
            with contextlib.suppress(EngineError):
                rows = bundle.golden()[0]
                if twice:
                    self.split_rows = split_from(partial(self._run_in, session), rows)
                    if self.split_rows > 1 and not self._alike(rows):
                        self._split, self.split_rows = session, 0
                    if self.split_rows == 1:
                        # The other one's memory is free then.
                        self._session = self._split
                self._multiple = row_multiple(self.run, rows)
        self.padded = f"multiples of {self._multiple}" if self._multiple > 1 else ""

    def _alike(self, samples: NDArray[Any]) -> bool:
        """Whether a batch of the size that is first split has the same bits from both sessions."""
        rows = padded(np.resize(samples, (max(64, self.split_rows), *samples.shape[1:])), MULTIPLES[-1])
        return self._run_in(self._session, rows).tobytes() == self._run_in(self._split, rows).tobytes()

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """See `models.engines.base.Engine.run`."""
        if self._multiple > 1 and len(rows) % self._multiple:
            return self._run(padded(rows, self._multiple))[: len(rows)]
        return self._run(rows)

    def _run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        return self._run_in(self._session if len(rows) < self.split_rows else self._split, rows)

    def _run_in(self, session: onnxruntime.InferenceSession, rows: NDArray[Any]) -> NDArray[np.float32]:
        try:
            return session.run(self._outputs, {self._input: rows})[0]  # type: ignore[no-any-return]
        except Exception as error:
            raise EngineError(f"onnxruntime failed on {len(rows)} rows: {error}") from error

    def close(self) -> None:
        """See `models.engines.base.Engine.close`."""
        del self._session, self._split


def _open(bundle: Bundle, graph: bytes, providers: list[str], threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Warnings about optional optimisations are no news to whoever runs the service.
    options.log_severity_level = 3
    # By default threads spin for tens of milliseconds, and would take the core from the event loop.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1")
    options.add_session_config_entry("session.intra_op.spin_duration_us", _SPIN_US)
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:
        raise EngineError(
            f"onnxruntime refuses {label(bundle.path)}/{ONNX}: {error}. Export the bundle anew."
        ) from error
