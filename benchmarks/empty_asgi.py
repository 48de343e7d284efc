"""uvicorn with an ASGI application that reads a body and answers with ``EMPTY_ANSWER``: what uvicorn itself costs."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn


def application(answer: bytes) -> Callable[..., Awaitable[None]]:
    """The same for every request."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]

    async def answered(
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[dict[str, Any]]],
        send: Callable[[dict[str, Any]], Awaitable[None]],
    ) -> None:
        while scope["type"] == "http" and (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return answered


if __name__ == "__main__":
    uvicorn.run(
        application(os.environ["EMPTY_ANSWER"].encode()),
        host="127.0.0.1",
        port=int(os.environ["PEER_PORT"]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
