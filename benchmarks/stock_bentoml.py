"""The peer: the same ONNX graph behind BentoML's own batching, written and configured as its documentation shows.

``STOCK_MODEL`` names the ONNX file.
"""

import os

import bentoml
import numpy as np
import onnxruntime


@bentoml.service
class Stock:
    """One batchable API, everything else as shipped."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["STOCK_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        # A grey picture comes without a channel axis.
        self.shape = self.session.get_inputs()[0].shape[1:]
        self.dtype = np.uint8 if "uint8" in self.session.get_inputs()[0].type else np.float32

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Output rows of input rows."""
        outputs: np.ndarray = self.session.run(None, {"rows": rows.astype(self.dtype).reshape(-1, *self.shape)})[0]
        return outputs
