"""mosec: its Rust front, and ``PEER_WORKERS`` Python processes that run batches of up to 8 requests."""

import os
from typing import Any

import numpy as np
import onnxruntime
import orjson
from mosec import Server, Worker
from numpy.typing import NDArray

Rows = NDArray[Any]


class Pictures(Worker):
    """Batches of pictures."""

    def __init__(self) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("PEER_THREADS", "1"))
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.shape = self.session.get_inputs()[0].shape[1:]

    def deserialize(self, data: bytes) -> Rows:
        """Rows of one request."""
        return np.array(orjson.loads(data)["rows"], np.uint8).reshape(-1, *self.shape)

    def forward(self, data: list[Rows]) -> list[Rows]:
        """One run over all."""
        outputs = self.session.run(None, {"rows": data[0] if len(data) == 1 else np.concatenate(data)})[0]
        return np.split(outputs, np.cumsum([len(rows) for rows in data])[:-1])

    def serialize(self, data: Rows) -> bytes:
        """Rows as JSON."""
        return orjson.dumps(np.ascontiguousarray(data), option=orjson.OPT_SERIALIZE_NUMPY)


def main() -> None:
    """Serve; mosec reads address and port from its own variables."""
    os.environ |= {"MOSEC_ADDRESS": "127.0.0.1", "MOSEC_PORT": os.environ["PEER_PORT"], "MOSEC_LOG_LEVEL": "warning"}
    server = Server()
    # 1 ms is the smallest wait that batches at all. Batches of 16 or 32 wait for it at 8 connections (half the
    # throughput there), and gain some 15 % from 64 connections on.
    server.append_worker(
        Pictures,
        num=int(os.environ.get("PEER_WORKERS", "1")),
        max_batch_size=8,
        max_wait_time=1,
        route="/predict",
    )
    server.run()


if __name__ == "__main__":
    main()
