"""The interface of an engine, and the choice of one."""

from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundle import Bundle
from models.errors import EngineError

EngineKind = Literal["auto", "onnx", "tensorflow"]
Device = Literal["auto", "cpu", "gpu"]


class Engine(Protocol):
    """Runs rows through one graph. `run` may be called from several threads at once.

    Attributes:
        name: ``onnx`` or ``tensorflow``.
        device: ``cpu`` or ``gpu``.
        in_flight: Batches worth having under way at once: 1 where the caller's core computes, 2 where a device
            computes while the next batch is being prepared.
        padded: To how many rows it pads batches; empty for none.
        split_rows: Rows from which on it splits a batch over its threads; 0 for none.
    """

    name: str
    device: str
    in_flight: int
    padded: str
    split_rows: int

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """Outputs ``(n, *output_shape)`` for ``rows`` ``(n, *input_shape)`` in the task's dtype.

        Raises:
            EngineError: The engine failed; the rows are unharmed and may be tried again.
        """

    def close(self) -> None:
        """Release the graph's memory; no `run` may follow."""


def open_engine(bundle: Bundle, *, kind: EngineKind = "auto", device: Device = "auto", threads: int = 1) -> Engine:
    """Open the engine that serves ``bundle``.

    Args:
        bundle: Its files are verified before they are deserialised.
        kind: ``auto`` takes onnxruntime where the bundle has an ONNX graph, else TensorFlow.
        device: ``auto`` takes a GPU where the engine finds one.
        threads: CPU threads of one batch. onnxruntime has only those batches split over them that are faster so.

    Raises:
        BundleError: A file is missing or altered, or the bundle has no graph for this kind.
        EngineError: The engine is not installed, finds no such device, or refuses the graph.
    """
    if kind == "onnx" or (kind == "auto" and bundle.has_onnx):
        from models.engines.onnx import OnnxEngine

        return OnnxEngine(bundle, device=device, threads=threads)
    from models.engines.tensorflow import TensorFlowEngine

    return TensorFlowEngine(bundle, device=device, threads=threads)


def apart(outputs: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference of outputs, relative where more than 1 is expected: float32 has seven digits, not decimals."""
    return float((np.abs(outputs - expected) / np.maximum(1, np.abs(expected))).max())


def check_golden(engine: Engine, bundle: Bundle, batch_rows: int = 64) -> float:
    """Run the golden rows and compare with what training saw.

    Returns:
        Largest difference, in the output's unit; relative where it exceeds 1.

    Raises:
        EngineError: The difference exceeds the manifest's tolerance, or an output is not finite.
    """
    rows, expected = bundle.golden()
    outputs = np.concatenate([engine.run(rows[i : i + batch_rows]) for i in range(0, len(rows), batch_rows)])
    if outputs.shape != expected.shape:
        raise EngineError(
            f"golden rows gave shape {outputs.shape}, training saw {expected.shape}. Export the bundle anew."
        )
    difference = apart(outputs, expected)
    # NaN compares false with everything, so ask for what is good.
    if not difference <= bundle.manifest.golden_tolerance:
        raise EngineError(
            f"{bundle.manifest.name} {bundle.manifest.version}: the {engine.name} engine differs from training by "
            f"{difference:.3g} on golden rows, above {bundle.manifest.golden_tolerance:.3g}. Export the bundle anew."
        )
    return difference
