"""LitServe with batching and its fast queue, one worker process beside one API server."""

import os
from typing import Any

import litserve as ls
import numpy as np
import onnxruntime
from numpy.typing import NDArray

Rows = NDArray[Any]


class Pictures(ls.LitAPI):
    """Batches of pictures."""

    def setup(self, device: str) -> None:
        """Load."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.shape = self.session.get_inputs()[0].shape[1:]

    def decode_request(self, request: dict[str, Any]) -> Rows:
        """Rows of one request."""
        return np.array(request["rows"], np.uint8).reshape(-1, *self.shape)

    def batch(self, inputs: list[Rows]) -> list[Rows]:
        """Requests differ in rows: joined in `predict`."""
        return inputs

    def predict(self, batch: list[Rows]) -> list[Rows]:
        """One run over all."""
        outputs = self.session.run(None, {"rows": np.concatenate(batch)})[0]
        return np.split(outputs, np.cumsum([len(rows) for rows in batch])[:-1])

    def unbatch(self, output: list[Rows]) -> list[Rows]:
        """One a request."""
        return output

    def encode_response(self, output: Rows) -> list[list[float]]:
        """Rows as JSON."""
        rows: list[list[float]] = output.tolist()
        return rows


def main() -> None:
    """Serve."""
    api = Pictures(max_batch_size=32, batch_timeout=0.001)
    server = ls.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
