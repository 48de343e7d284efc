"""FastAPI in two ways: ``plain`` as its tutorial shows, ``tuned`` by hand.

Plain: a pydantic body, a synchronous function in FastAPI's thread pool, the framework's own encoding. Tuned: the body
read raw and parsed by orjson, inference on the event loop (a thread hop costs more), a ready response, garbage frozen.
"""

import gc
import os
import sys
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from numpy.typing import NDArray
from pydantic import BaseModel


def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"])


def _predict(session: onnxruntime.InferenceSession, pictures: list[Any]) -> NDArray[np.float32]:
    shape = session.get_inputs()[0].shape[1:]
    outputs: NDArray[np.float32] = session.run(None, {"rows": np.array(pictures, np.uint8).reshape(-1, *shape)})[0]
    return outputs


class Pictures(BaseModel):
    """A body: pictures as lists of lines of pixels."""

    rows: list[list[list[int]]]


def plain() -> FastAPI:
    """As the tutorial shows."""
    app, session = FastAPI(), _session()

    @app.post("/predict")
    def predict(pictures: Pictures) -> list[list[float]]:
        rows: list[list[float]] = _predict(session, pictures.rows).tolist()
        return rows

    return app


def tuned() -> FastAPI:
    """By hand."""
    app, session = FastAPI(openapi_url=None), _session()

    @app.post("/predict")
    async def predict(request: Request) -> Response:
        outputs = _predict(session, orjson.loads(await request.body())["rows"])
        return Response(orjson.dumps(outputs, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    return app


def main() -> None:
    """Serve the variant that the first argument names."""
    app = {"plain": plain, "tuned": tuned}[sys.argv[1]]()
    if sys.argv[1] == "tuned":
        gc.collect()
        gc.freeze()
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), loop="uvloop", http="httptools", access_log=False
    )


if __name__ == "__main__":
    main()
