"""The limit of our stack: the same work in a bare ASGI handler under uvicorn, uvloop and httptools.

Decodes, batches greedily, runs the engine and answers in our own form, and does nothing else: no checks, limits,
versions, request ids, metrics or errors. ``PEER_LABELS`` names the classes, as a JSON list.
"""

import asyncio
import gc
import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn
from numpy.typing import NDArray

MAX_BATCH_ROWS = 64


class Handler:
    """The ASGI application."""

    def __init__(self, model: str, labels: list[str]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._shape = self._session.get_inputs()[0].shape[1:]
        self._labels = labels
        self._waiting: list[tuple[NDArray[np.uint8], asyncio.Future[NDArray[np.float32]]]] = []

    def _run(self) -> None:
        """Everything that came in during this turn of the loop, as one batch (or several, when it is much)."""
        batch, self._waiting = self._waiting[:MAX_BATCH_ROWS], self._waiting[MAX_BATCH_ROWS:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._run)
        rows = batch[0][0] if len(batch) == 1 else np.concatenate([rows for rows, _ in batch])
        outputs = self._session.run(None, {"rows": rows})[0]
        start = 0
        for rows, answer in batch:
            if not answer.done():
                answer.set_result(outputs[start : start + len(rows)])
            start += len(rows)

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        pictures = orjson.loads(body)["instances"]
        pixels = b"".join([bytes(line) for picture in pictures for line in picture])
        rows = np.frombuffer(pixels, np.uint8).reshape(len(pictures), *self._shape)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[NDArray[np.float32]] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._run)
        self._waiting.append((rows, answer))
        predictions = []
        for output in await answer:
            best = int(output.argmax())
            probabilities = dict(zip(self._labels, output, strict=True))
            predictions.append(
                {"label": self._labels[best], "confidence": output[best], "probabilities": probabilities}
            )
        data = orjson.dumps({"predictions": predictions}, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": data})


def main() -> None:
    """Serve."""
    handler = Handler(os.environ["PEER_MODEL"], json.loads(os.environ["PEER_LABELS"]))
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 50, 100)
    uvicorn.run(
        handler,
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        date_header=False,
    )


if __name__ == "__main__":
    main()
