"""The end of the listening, as a worker that is the only one does it."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from service.acceptor import Acceptor, Connections
from service.app import _refuse_connections
from service.shares import Alone


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def nobody(_: socket.socket) -> None:
    """Nothing is accepted here."""


async def test_who_comes_is_refused_though_the_supervisor_listens_too_and_no_descriptor_is_left() -> None:
    server = uvicorn.Server(uvicorn.Config("none:app", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as supervisors, socket.socket() as client:
        own = supervisors.dup()
        own.setblocking(False)
        acceptor = Acceptor(own, Alone(), Connections(), nobody)
        server.servers = [acceptor]  # type: ignore[list-item]
        with no_descriptor_left():
            _refuse_connections(server.handle_exit)
        assert acceptor.sockets == ()
        with pytest.raises(ConnectionRefusedError):
            client.connect(supervisors.getsockname())
