"""Write the two graphs of a bundle, refused when they disagree."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.bundle import KERAS, ONNX
from models.engines.base import apart
from models.errors import ServingError

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

LIMIT = 1e-4
"""Largest difference between ONNX and Keras on golden rows, in the output's unit; relative where it exceeds 1."""


class ExportError(ServingError):
    """A graph that cannot be served as it was trained."""


def export(model: keras.Model, directory: Path, golden: NDArray[Any]) -> NDArray[np.float32]:
    """Write `model.keras` and `model.onnx`, and compare what was written.

    Args:
        model: From `rows` to output rows.
        directory: Where; must exist.
        golden: Rows to compare on, as the model takes them.

    Returns:
        What the Keras file, loaded again, says of the golden rows.

    Raises:
        ExportError: The file does not load safely, the ONNX graph has other inputs than `rows`, onnxruntime refuses
            it, an output is not finite, or the two differ by more than `LIMIT`.
    """
    loaded, outputs = save(model, directory, golden)
    write_onnx(loaded, directory / ONNX)
    compare(directory / ONNX, golden, outputs)
    return outputs


def save(model: keras.Model, directory: Path, golden: NDArray[Any]) -> tuple[keras.Model, NDArray[np.float32]]:
    """Write `model.keras`.

    Returns:
        The file's model, loaded again safely, and what it says of the golden rows.

    Raises:
        ExportError: An output is not finite.
    """
    import keras

    model.save(directory / KERAS)
    loaded = keras.saving.load_model(directory / KERAS, compile=False, safe_mode=True)
    outputs = predict(loaded, golden)
    if not np.isfinite(outputs).all():
        row = int(np.argwhere(~np.isfinite(outputs))[0][0])
        raise ExportError(f"outputs must be finite. Received: {outputs[row]} for golden row {row}.")
    return loaded, outputs


def predict(model: keras.Model, rows: NDArray[Any]) -> NDArray[np.float32]:
    """Output rows of many input rows, in batches of 512."""
    return np.asarray(model.predict(rows, batch_size=512, verbose=0), np.float32)


def write_onnx(model: keras.Model, path: Path) -> None:
    """Export, with a dynamic batch, a model that has been called.

    tf2onnx only logs an operator that it does not know: `compare` finds it.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        # tf2onnx uses what NumPy and protobuf deprecate; nothing that we could change.
        warnings.simplefilter("ignore")
        model.export(path, format="onnx", verbose=False, opset_version=17)


def compare(path: Path, golden: NDArray[Any], outputs: NDArray[np.float32]) -> float:
    """Run an ONNX graph on golden rows and compare.

    Returns:
        The largest difference.

    Raises:
        ExportError: As `export` says.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ExportError(f"onnxruntime refuses the exported graph: {error}. Use layers that export.") from error
    names = [tensor.name for tensor in session.get_inputs()]
    if names != ["rows"] or len(session.get_outputs()) != 1:
        raise ExportError(
            f"the ONNX graph must have the one input 'rows' and one output. Received: {names} and "
            f"{len(session.get_outputs())}. A layer that keeps constants as variables makes inputs of its own."
        )
    received = session.run(None, {"rows": golden})[0]
    difference = apart(received, outputs) if received.shape == outputs.shape else float("inf")
    if not difference <= LIMIT:
        raise ExportError(
            f"ONNX and Keras must agree to {LIMIT:g} on golden rows. Received: {difference:g}. Nothing was published."
        )
    return difference
