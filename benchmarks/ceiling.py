"""A server that answers at once and does nothing: what the load generator itself can reach."""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import cast

import uvloop


class _Answer(asyncio.Protocol):
    """Sends the fixed answer once a whole request has come."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._missing = 0
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            head, _, body = data.partition(b"\r\n\r\n")
            self._missing = int(head.rpartition(b"Content-Length: ")[2]) - len(body)
        else:
            self._missing -= len(data)
        if not self._missing:
            self._transport.write(self._answer)


def _serve(answer: bytes, port: "Connection[int, None]") -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: _Answer(answer), "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@contextmanager
def fixed_answers(row: Sequence[float]) -> Iterator[int]:
    """Port of a server process that answers every request with ``[row]``."""
    body = json.dumps([list(row)]).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(answer, there), daemon=True)
    process.start()
    try:
        if not here.poll(30):
            raise RuntimeError("the bare server did not start")
        yield here.recv()
    finally:
        process.terminate()
        process.join(10)
