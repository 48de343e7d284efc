"""What Triton's Python backend runs; Triton hands over a batch of requests at a time."""

import json
import os
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """The names are Triton's."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("PEER_THREADS", "1"))
        options.inter_op_num_threads = 1
        model = json.loads(args["model_config"])["parameters"]["model"]["string_value"]
        self.session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """One run over all."""
        rows = [triton.get_input_tensor_by_name(request, "input").as_numpy() for request in requests]
        outputs = self.session.run(None, {"rows": rows[0] if len(rows) == 1 else np.concatenate(rows)})[0]
        answers, start = [], 0
        for some in rows:
            part = outputs[start : start + len(some)]
            start += len(some)
            answers.append(triton.InferenceResponse([triton.Tensor("probabilities", part)]))
        return answers
