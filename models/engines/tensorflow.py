"""TensorFlow on ``model.keras``: for bundles that cannot be exported, and as a second opinion."""

import os
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundle import KERAS, Bundle, label
from models.errors import EngineError

# Batches are padded to one of these row counts: oneDNN and cuDNN choose and keep an algorithm for each shape they see.
PADDED_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class TensorFlowEngine:
    """Runs ``model.keras`` as a compiled function; see `models.engines.base.Engine`."""

    name = "tensorflow"
    padded = ", ".join(map(str, PADDED_ROWS))

    def __init__(self, bundle: Bundle, *, device: str = "auto", threads: int = 1) -> None:
        # TensorFlow reads these once, at its import.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        try:
            import keras
            import tensorflow as tf
        except ImportError as error:
            raise EngineError(
                "The TensorFlow engine needs TensorFlow, which is not installed. Install requirements/train.txt, "
                "or serve bundles that have model.onnx."
            ) from error
        gpus = tf.config.list_physical_devices("GPU") if device != "cpu" else []
        if device == "gpu" and not gpus:
            raise EngineError("device gpu: TensorFlow finds no GPU. Check the driver and CUDA libraries.")
        try:
            for gpu in gpus:
                # Otherwise TensorFlow takes all of the GPU's memory from its neighbours.
                tf.config.experimental.set_memory_growth(gpu, True)
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            pass  # An earlier engine in this process has set them.
        # TensorFlow decides by itself, operation by operation.
        self.split_rows = int(threads > 1)
        self._tf = tf
        self.device = "gpu" if gpus else "cpu"
        self.in_flight = 2 if gpus else 1
        self._placement = "/GPU:0" if gpus else "/CPU:0"
        verified = bundle.read(KERAS)
        try:
            # Keras loads from a path only: a copy of the verified bytes, so that what was hashed is what is loaded.
            with tempfile.NamedTemporaryFile(suffix=".keras") as file, tf.device(self._placement):
                file.write(verified)
                file.flush()
                model = keras.saving.load_model(file.name, compile=False, safe_mode=True)
        except Exception as error:
            raise EngineError(f"Keras refuses {label(bundle.path)}/{KERAS}: {error}") from error
        task = bundle.manifest.task
        signature = tf.TensorSpec((None, *task.input_shape), task.dtype)
        self._function = tf.function(lambda rows: model(rows, training=False), input_signature=[signature])

    def run(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        """See `models.engines.base.Engine.run`."""
        largest = PADDED_ROWS[-1]
        if len(rows) > largest:
            return np.concatenate([self.run(rows[i : i + largest]) for i in range(0, len(rows), largest)])
        padded = next(size for size in PADDED_ROWS if size >= len(rows))
        # Repeating a real row keeps every operation in its usual range, which zeros might not.
        batch = (
            rows if padded == len(rows) else np.concatenate([rows, np.repeat(rows[-1:], padded - len(rows), axis=0)])
        )
        try:
            with self._tf.device(self._placement):
                outputs = self._function(self._tf.constant(batch)).numpy()
        except Exception as error:
            raise EngineError(f"TensorFlow failed on {len(rows)} rows: {error}") from error
        return outputs[: len(rows)]  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `models.engines.base.Engine.close`."""
        del self._function
