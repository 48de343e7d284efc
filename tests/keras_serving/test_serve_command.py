"""Which port gRPC gets."""

import socket
from collections.abc import Iterator

import click
import pytest

from keras_serving.serve_command import free_grpc_port
from service.settings import Settings
from tests.e2e.server import free_port

HOST = "127.0.0.1"


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


def by_default(port: int) -> Settings:
    """Settings in which nobody chose the port."""
    return Settings.model_construct(_fields_set=set(), **(dict(Settings()) | {"grpc_port": port}))


def test_a_port_that_nobody_asked_for_and_that_is_taken_is_done_without(
    taken: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert free_grpc_port(by_default(taken), HOST, 3000) == 0
    assert capsys.readouterr().err == (
        f"keras-serving: no gRPC: cannot listen on {HOST}:{taken}: Address already in use. "
        "Choose another --grpc-port.\n"
    )


def test_a_port_that_was_asked_for_and_is_taken_ends_the_start(taken: int) -> None:
    with pytest.raises(click.ClickException, match="Choose another --grpc-port"):
        free_grpc_port(Settings(grpc_port=taken), HOST, 3000)


def test_a_free_port_is_taken_and_0_is_none() -> None:
    port = free_port()
    assert free_grpc_port(by_default(port), HOST, 3000) == port
    assert free_grpc_port(Settings(grpc_port=0), HOST, 3000) == 0


def test_http_and_grpc_have_a_port_each() -> None:
    with pytest.raises(click.UsageError, match="cannot both have port 3001"):
        free_grpc_port(by_default(3001), HOST, 3001)
