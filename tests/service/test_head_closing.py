"""A known head on a connection that closes, is to close, or would if the parser had not been spared."""

import asyncio
from typing import cast

import pytest

from service.bounded import BoundedProtocol, Limits
from service.predictions import Request
from service.protocols.base import Response
from tests.service.conftest import until
from tests.service.test_fast_path import BROKEN, FakeGateway, echo
from tests.service.test_head_fast_path import SMALL, Counted, Wire, connect, feed, knowing


def check_last(connection: BoundedProtocol, wire: Wire, gateway: FakeGateway) -> None:
    """Nothing is answered any more, and no known head is looked for."""
    written, found = wire.written, cast(Counted, gateway.heads).found
    assert wire.closing
    connection.data_received(SMALL)
    assert (wire.written, cast(Counted, gateway.heads).found) == (written, found)
    connection.connection_lost(None)


@pytest.mark.parametrize("name", [name for name in BROKEN if name != "bare path"])
async def test_after_what_is_broken_a_known_head_is_not_answered(name: str) -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway)
    connection.data_received(BROKEN[name])
    assert wire.written.startswith(b"HTTP/1.1 400 ")
    check_last(connection, wire, gateway)


async def test_after_a_head_that_is_too_large_a_known_one_is_not_answered() -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway, limits=Limits(head_bytes=100))
    connection.data_received(SMALL[:30] + b"x" * 100)
    assert wire.written.startswith(b"HTTP/1.1 431 ")
    check_last(connection, wire, gateway)


async def test_after_a_request_that_took_too_long_a_known_head_is_not_answered() -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway, limits=Limits(receive_s=0.01))
    connection.data_received(SMALL[:-1])
    await until(lambda: wire.closing)
    assert wire.written.startswith(b"HTTP/1.1 408 ")
    check_last(connection, wire, gateway)


async def test_on_a_connection_that_is_to_leave_the_answer_to_a_known_head_says_so_and_is_the_last() -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway)
    connection.leaves = True
    connection.data_received(SMALL)
    assert (wire.written.count(b"\r\nconnection: close\r\n"), wire.closing) == (1, True)
    check_last(connection, wire, gateway)


async def test_a_connection_on_which_only_known_heads_come_is_not_closed_for_the_first_that_is_missing() -> None:
    gateway = FakeGateway(echo, heads=knowing(SMALL).heads)
    connection, wire = connect(gateway, limits=Limits(receive_s=0.01))
    await feed(connection, SMALL)
    # It rings later than the connection's own timer.
    other, unused = connect(gateway, limits=Limits(receive_s=0.02))
    await until(lambda: unused.closing)
    assert not wire.closing
    for one in (connection, other):
        one.connection_lost(None)


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "general path"])
async def test_line_ends_between_requests_do_not_add_up_however_many_heads_are_known(fast: bool) -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway, fast=fast, limits=Limits(head_bytes=100))
    for _ in range(60):
        await feed(connection, SMALL, b"\r\n")
    assert wire.written.count(b"HTTP/1.1 200 ") == 60
    assert not wire.closing
    connection.connection_lost(None)


async def test_a_connection_is_not_idle_while_a_request_with_a_known_head_is_answered() -> None:
    go = asyncio.Event()

    async def late(request: Request) -> Response:
        await go.wait()
        return await echo(request)

    gateway = FakeGateway(late, heads=knowing(SMALL).heads)
    connection, wire = connect(gateway, keep_alive=0.01)
    connection.on_response_complete()
    connection.data_received(SMALL)
    await until(lambda: connection.timeout_keep_alive_task is None)
    assert not wire.closing
    go.set()
    await until(lambda: wire.closing)
    assert wire.written.startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_leaves_ends_the_work_on_a_request_with_a_known_head() -> None:
    ended = asyncio.Event()

    async def endless(_: Request) -> Response:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    gateway = FakeGateway(endless, heads=knowing(SMALL).heads)
    connection, _ = connect(gateway)
    connection.data_received(SMALL)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.wait_for(ended.wait(), 10)
