"""Clients that take too long or too much are refused; those that take what they need are not."""

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.bounded import Limits
from service.fast_path import FastPath
from service.general_path import GeneralPath
from service.predictions import Predictions, Request
from service.protocols.base import Response
from tests.service.conftest import until
from tests.service.test_fast_path import FakeGateway, post, serving

CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HEADS = {
    "one header": b"GET / HTTP/1.1\r\nHost: a\r\nX: ",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n",
    "path": b"GET /",
    "chunk extension": CHUNKED % b"/" + b"1;",
    "trailers": CHUNKED % b"/" + b"1\r\nx\r\n0\r\n",
    "no request at all": b"",
}
EITHER_PATH = pytest.mark.parametrize("fast", [True, False], ids=["fast path", "general path"])
PIECES = {"many headers": b"a: b\r\n", "trailers": b"a: b\r\n", "no request at all": b"\r\n"}


@pytest.mark.parametrize("name", HEADS)
@EITHER_PATH
async def test_what_is_no_body_has_an_end(name: str, fast: bool) -> None:
    piece = PIECES.get(name, b"a") * 500
    async with (
        serving(FakeGateway(), fast=fast, limits=Limits(head_bytes=10_000)) as served,
        served.connection() as (reader, writer),
    ):
        answer = b""
        # Until it closes: what it does not read any more may reset the connection, and take the answer with it.
        with suppress(ConnectionError):
            writer.write(HEADS[name])
            while not (reader.at_eof() or answer):
                writer.write(piece)
                await writer.drain()
                with suppress(TimeoutError):
                    answer = await asyncio.wait_for(reader.read(1000), 0.02)
        assert answer[:13] in {b"", b"HTTP/1.1 431 "}
        await until(lambda: not served.server.server_state.connections)


@EITHER_PATH
async def test_a_body_in_tiny_chunks_may_have_any_number_of_them(fast: bool) -> None:
    async with serving(FakeGateway(), fast=fast, limits=Limits(head_bytes=1000)) as served:
        tiny = b"1\r\n2\r\n" * 1000
        answer = await served.exchange(CHUNKED % b"/predict/cars", *[tiny] * 20, b"0\r\n\r\n")
    assert b"POST /predict/cars? 20000 " in answer


@EITHER_PATH
async def test_a_body_of_either_path_is_no_head(fast: bool) -> None:
    async with serving(FakeGateway(), fast=fast, limits=Limits(head_bytes=1000)) as served:
        for size in (60_000, 300_000):
            whole = post(b"1" * size)
            assert b"POST /predict/cars? %d " % size in await served.exchange(whole[:5000], whole[5000:])


INCOMPLETE = {
    "head": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\n",
    "body of the fast path": post(b"[7]")[:-1],
    "large body": post(b"1" * 100_000)[:-1],
    "chunks": CHUNKED % b"/predict/cars" + b"1\r\nx\r\n",
}


@pytest.mark.parametrize("before", [b"", post(b"[7]")], ids=["first", "second"])
@pytest.mark.parametrize("name", INCOMPLETE)
@EITHER_PATH
async def test_a_request_that_is_not_complete_in_time_is_told_so(name: str, before: bytes, fast: bool) -> None:
    async with (
        serving(FakeGateway(), fast=fast, limits=Limits(receive_s=0.2)) as served,
        served.connection() as (reader, writer),
    ):
        writer.write(before)
        if before:
            assert (await asyncio.wait_for(reader.read(1000), 5)).startswith(b"HTTP/1.1 200 ")
        writer.write(INCOMPLETE[name])
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")


@EITHER_PATH
async def test_a_connection_without_a_request_is_closed_without_a_word(fast: bool) -> None:
    limits = Limits(receive_s=0.1)
    async with serving(FakeGateway(), fast=fast, limits=limits) as served, served.connection() as (reader, _):
        assert await asyncio.wait_for(reader.read(), 5) == b""


@EITHER_PATH
async def test_line_ends_after_an_answer_keep_no_connection_open(fast: bool) -> None:
    limits = Limits(receive_s=0.1)
    async with serving(FakeGateway(), fast=fast, limits=limits) as served, served.connection() as (reader, writer):
        writer.write(post())
        assert await asyncio.wait_for(reader.read(1000), 5)
        writer.write(b"\r\n")
        assert b"200 OK" not in await asyncio.wait_for(reader.read(), 5)


@EITHER_PATH
async def test_an_answer_that_takes_longer_than_a_request_may_is_waited_for(fast: bool) -> None:
    async def reply(_: Request) -> Response:
        await asyncio.sleep(0.3)
        return 200, [(b"content-length", b"2")], b"ok"

    limits = Limits(receive_s=0.05)
    async with serving(FakeGateway(reply), fast=fast, limits=limits) as served, served.connection() as (reader, writer):
        # The second one is incomplete all the while.
        writer.write(post() + post()[:-1])
        answers = await asyncio.wait_for(reader.read(), 5)
    first, second = answers.split(b"ok")
    assert first.startswith(b"HTTP/1.1 200 ")
    assert second.startswith(b"HTTP/1.1 408 ") or second == b""


async def test_a_connection_whose_answer_came_before_its_body_is_idle_afterwards() -> None:
    async def early(_: Request) -> Response:
        return 404, [(b"content-length", b"0")], b""

    async with serving(FakeGateway(early), keep_alive=1) as served, served.connection() as (reader, writer):
        whole = post(b"1" * 100_000)
        writer.write(whole[:1000])
        assert (await asyncio.wait_for(reader.read(1000), 5)).startswith(b"HTTP/1.1 404 ")
        writer.write(whole[1000:])
        assert await asyncio.wait_for(reader.read(), 5) == b""


@EITHER_PATH
async def test_more_requests_than_may_wait_on_a_connection_close_it(fast: bool) -> None:
    gate = asyncio.Event()

    async def reply(_: Request) -> Response:
        await gate.wait()
        return 200, [(b"content-length", b"0")], b""

    limits = Limits()
    async with serving(FakeGateway(reply), fast=fast, limits=limits) as served, served.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 10_000)
        try:
            # What it did not read may reset the connection.
            with suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        finally:
            gate.set()


@pytest.mark.parametrize("name", ["body of the fast path", "large body", "chunks"])
async def test_what_is_not_complete_soon_after_the_server_stops_does_not_hold_that_up(name: str) -> None:
    async with (
        serving(FakeGateway(), limits=Limits(receive_s=60, last_s=0.1)) as served,
        served.connection() as (reader, writer),
    ):
        writer.write(INCOMPLETE[name])
        await until(lambda: any(c.cycle is not None for c in served.server.server_state.connections))
        served.server.should_exit = True
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 408 ")


async def test_a_body_that_is_complete_soon_after_the_server_stops_is_answered() -> None:
    async with serving(FakeGateway()) as served, served.connection() as (reader, writer):
        whole = post(b"[7]")
        writer.write(whole[:-1])
        await until(lambda: any(c.cycle is not None for c in served.server.server_state.connections))
        served.server.should_exit = True
        await until(lambda: not served.server.servers[0].is_serving())
        writer.write(whole[-1:])
        assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("fast", [True, False], ids=["fast path", "general path"])
async def test_a_wish_for_another_protocol_is_ignored_and_loses_no_earlier_answer(
    fast: bool, caplog: pytest.LogCaptureFixture
) -> None:
    entered = asyncio.Event()

    async def late(request: Request) -> Response:
        entered.set()
        await asyncio.sleep(0.05)
        return 200, [(b"content-length", b"4")], b"late"

    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    async with (
        serving(FakeGateway(late), fast=fast, limits=Limits()) as served,
        served.connection() as (reader, writer),
    ):
        writer.write(CHUNKED % b"/predict/cars" + b"0\r\n\r\n")
        await asyncio.wait_for(entered.wait(), 5)
        writer.write(upgrade)
        for _ in range(2):
            assert (await asyncio.wait_for(reader.readuntil(b"late"), 5)).startswith(b"HTTP/1.1 200 ")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def endless(_: Request) -> Response:
    """More than the system holds for a client that reads nothing."""
    body = b"x" * 2**24
    return 200, [(b"content-length", str(len(body)).encode())], body


@pytest.mark.parametrize("stops", [False, True], ids=["while serving", "at the stop"])
@EITHER_PATH
async def test_a_client_that_does_not_read_its_answer_is_dropped(fast: bool, stops: bool) -> None:
    limits = Limits(receive_s=60, last_s=0.1) if stops else Limits(receive_s=0.2)
    async with (
        serving(FakeGateway(endless), fast=fast, keep_alive=60, limits=limits) as served,
        served.connection() as (_, writer),
    ):
        # The second one has to wait until the first answer is read.
        writer.write(post() + post())
        connections = served.server.server_state.connections
        await until(lambda: any(connection.flow.write_paused for connection in connections))
        served.server.should_exit = stops
        await until(lambda: not connections)


class Unread(asyncio.Transport):
    """A connection to a client that has not read ``waits`` bytes of its answers, at one look after the other."""

    def __init__(self, *waits: int) -> None:
        super().__init__()
        self.waits = list(waits)
        self.closing = self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.waits.pop(0) if len(self.waits) > 1 else self.waits[0]

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.aborted = True


def answering(transport: Unread, limits: Limits, *, fast: bool = False) -> GeneralPath | FastPath:
    told: dict[str, Any] = {
        "config": Config(cast(Any, FakeGateway()), log_config=None, timeout_keep_alive=0),
        "server_state": ServerState(),
        "app_state": {},
    }
    predictions = cast(Predictions, FakeGateway())
    protocol = FastPath(predictions, limits, **told) if fast else GeneralPath(limits, **told)
    protocol.connection_made(transport)
    return protocol


async def test_a_client_that_reads_slowly_gets_its_answer_however_long_that_takes() -> None:
    transport = Unread(5_000_000, 4_000_000, 3_000_000, 2_000_000, 1_000_000)
    answering(transport, Limits(receive_s=0.01)).pause_writing()
    await until(lambda: transport.aborted)
    assert transport.waits == [1_000_000], "it read no further"


@pytest.mark.parametrize("closes", ["idle", "after its last answer", "with the rest unread"])
@EITHER_PATH
async def test_a_connection_that_closes_waits_for_no_reader_either(fast: bool, closes: str) -> None:
    transport = Unread(100)
    protocol = answering(transport, Limits(receive_s=0.05), fast=fast)
    if closes == "with the rest unread":
        protocol.pause_writing()
        transport.close()
        protocol.resume_writing()
    else:
        transport.closing = closes != "idle"
        protocol.on_response_complete()
    await until(lambda: transport.aborted)


async def test_a_client_that_has_read_its_answer_in_time_is_not_watched_any_more() -> None:
    transport = Unread(100_000)
    protocol = answering(transport, Limits(receive_s=0.05))
    protocol.completed()
    protocol.pause_writing()
    protocol.resume_writing()
    other = Unread(100)
    answering(other, Limits(receive_s=0.06)).pause_writing()
    await until(lambda: other.aborted)
    assert not transport.aborted


async def test_a_client_that_still_reads_does_not_hold_up_the_stop() -> None:
    transport = Unread(*range(1_000_000, 1_000, -1))
    protocol = answering(transport, Limits(receive_s=60, last_s=0.01))
    protocol.pause_writing()
    protocol.shutdown()
    await until(lambda: transport.aborted)
