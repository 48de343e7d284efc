"""The fast path answers as uvicorn's general path does, byte for byte, and leaves it what is not its own."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from time import perf_counter
from typing import Any

import pytest
import uvicorn

from service.bounded import DEFAULT, Limits
from service.fast_path import FastPath
from service.general_path import GeneralPath
from service.head import Head, KnownHeads
from service.predictions import Give, Request
from service.protocols import native
from service.protocols.base import Response
from tests.service.conftest import until

Reply = Callable[[Request], Awaitable[Response]]


async def echo(request: Request) -> Response:
    """What the gateway got, as it got it."""
    body, more = request.body, not request.body
    while more:
        message = await request.receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    head = request.head
    told = f"{head.method} {head.path}?{head.query.decode()} {len(body)} {sum(body)}".encode()
    names = b",".join(sorted(name + b"=" + value for name, value in head.headers))
    return 200, [(b"content-length", str(len(told + names)).encode()), (b"x-request-id", b"1")], told + names


@dataclass
class FakeGateway:
    """Answers with ``reply``, without a task if so; `taken` are the requests that came by the fast path."""

    reply_with: Reply = echo
    at_once: bool = False
    taken: list[Request] = field(default_factory=list)
    left: int = 0
    heads: KnownHeads = field(default_factory=KnownHeads)

    def protocol_of(self, path: str) -> Any:
        return native if native.matches(path) else None

    def client_left(self) -> None:
        self.left += 1

    def answer(self, request: Request, give: Give) -> Callable[[], object]:
        self.taken.append(request)

        async def answering() -> None:
            try:
                give(await self.reply_with(request))
            except Exception:
                give(None)

        if not self.at_once:
            return asyncio.get_running_loop().create_task(answering()).cancel
        with pytest.raises(StopIteration):
            answering().send(None)
        return lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The general path."""
        if scope["type"] != "http":
            return
        head = Head(native, scope["method"], scope["path"], scope["query_string"], scope["headers"])
        status, headers, body = await self.reply_with(Request(head, receive=receive))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


@dataclass
class Served:
    port: int
    server: uvicorn.Server

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def exchange(self, *pieces: bytes) -> bytes:
        """Everything that comes back for these bytes and a last request that closes."""
        async with self.connection() as (reader, writer):
            for piece in (*pieces, b"GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"):
                writer.write(piece)
                with suppress(OSError):  # It may have been refused and closed before its end.
                    await writer.drain()
                await asyncio.sleep(0)
            return await asyncio.wait_for(reader.read(), 10)


@asynccontextmanager
async def serving(
    gateway: FakeGateway, *, fast: bool = True, keep_alive: int = 5, limits: Limits | None = None
) -> AsyncIterator[Served]:
    """A server; without the fast path and without limits it is uvicorn's own."""
    protocol: Any = partial(FastPath, gateway, limits=limits or DEFAULT)
    if not fast:
        protocol = partial(GeneralPath, limits) if limits else "httptools"
    config = uvicorn.Config(
        gateway,
        port=0,
        http=protocol,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=keep_alive,
        date_header=False,
    )
    server = uvicorn.Server(config)
    server.capture_signals = nullcontext  # type: ignore[method-assign]
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield Served(server.servers[0].sockets[0].getsockname()[1], server)
    finally:
        server.should_exit = True
        await running


def post(body: bytes = b"[1,2]", path: bytes = b"/predict/cars", *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST " + path + b" HTTP/" + version, b"Host: here", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*lines, b"", body])


async def test_a_small_prediction_takes_the_lane_and_is_read_as_it_was_sent() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as served:
        answer = await served.exchange(post(b"[7]", b"/predict/cars?version=1", b"X-Thing: A b"))
    (taken,) = gateway.taken
    head = taken.head
    assert (head.method, head.path, head.query, taken.body) == ("POST", "/predict/cars", b"version=1", b"[7]")
    assert (b"x-thing", b"A b") in list(head.headers)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nx-request-id: 1\r\n" in answer


CHUNKED = b"POST /predict/cars HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[7]\r\n0\r\n\r\n"
OTHERS = {
    "chunked": CHUNKED,
    "expects": post(b"[7]", b"/predict/cars", b"Expect: 100-continue"),
    "closes": post(b"[7]", b"/predict/cars", b"Connection: close"),
    "old": post(b"[7]", b"/predict/cars", version=b"1.0"),
    "escaped": post(b"[7]", b"/predict/c%61rs"),
    "large": post(b"1" * 70_000),
    "empty": post(b""),
    "elsewhere": post(b"[7]", b"/models"),
    "get": b"GET /predict/cars HTTP/1.1\r\nHost: a\r\n\r\n",
    "no length": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\n\r\n",
    "upgrade": post(b"[7]", b"/predict/cars", b"Connection: Upgrade", b"Upgrade: h2c"),
}


async def test_everything_else_goes_uvicorns_way_and_gets_its_answer() -> None:
    gateway = FakeGateway()
    async with serving(gateway, keep_alive=1) as fast, serving(FakeGateway(), fast=False, keep_alive=1) as general:
        for name, request in OTHERS.items():
            answer = await fast.exchange(request)
            assert answer == await general.exchange(request), name
            assert answer.startswith(b"HTTP/1.1 "), name
    assert gateway.taken == []


BROKEN = {
    "no http": b"hello\r\n\r\n",
    "two lengths": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
    "length and chunks": CHUNKED.replace(b"Host: a", b"Content-Length: 3"),
    "signed length": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n1",
    "huge length": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n1",
    "folded": b"POST /predict/cars HTTP/1.1\r\nHost: a\r\n b\r\nContent-Length: 1\r\n\r\n1",
    "bare path": b"POST * HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1",
}


async def test_what_is_broken_is_refused_where_uvicorn_refuses_it(caplog: pytest.LogCaptureFixture) -> None:
    async with (
        serving(FakeGateway()) as fast,
        serving(FakeGateway(), fast=False, limits=DEFAULT) as general,
        serving(FakeGateway(), fast=False) as uvicorns,
    ):
        for name, request in BROKEN.items():
            answer = await fast.exchange(request)
            assert answer == await general.exchange(request), name
            assert answer[:12] == (await uvicorns.exchange(request))[:12], name
    assert "Traceback" not in caplog.text


# What comes after an answer that closes may be reset, on either way.
LASTING = [request for name, request in OTHERS.items() if name not in {"closes", "old", "upgrade"}]
PATIENCE = b"X-Request-Timeout-Ms: 60000"
REQUESTS = [
    post(b"[1]"),
    post(b"[1]"),
    post(b"[12345]", b"/predict/cars", PATIENCE),
    post(b"2" * 5_000, b"/predict/heat?top_k=1"),
    *LASTING,
]


@pytest.mark.parametrize("at_once", [False, True])
async def test_any_requests_in_any_pieces_get_the_same_bytes_on_both_ways(at_once: bool) -> None:
    random = Random(0)
    async with serving(FakeGateway(at_once=at_once)) as fast, serving(FakeGateway(), fast=False) as general:
        for _ in range(100):
            whole = b"".join(random.choices(REQUESTS, k=random.randint(1, 4)))
            cuts = sorted(random.randint(0, len(whole)) for _ in range(random.randint(0, 4)))
            pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
            assert await fast.exchange(*pieces) == await general.exchange(*pieces), pieces


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    first = asyncio.Event()

    async def reply(request: Request) -> Response:
        path = request.head.path
        if path == "/predict/slow":
            await first.wait()
        return 200, [(b"content-length", b"%d" % len(path))], path.encode()

    async with serving(FakeGateway(reply)) as served, served.connection() as (reader, writer):
        writer.write(post(path=b"/predict/slow") + post(path=b"/predict/b") + post(path=b"/predict/c"))
        await asyncio.sleep(0.02)
        first.set()
        answers = b""
        while answers.count(b"/predict/") < 3:
            answers += await asyncio.wait_for(reader.read(4096), 5)
    assert re.findall(rb"/predict/(slow|b|c)", answers) == [b"slow", b"b", b"c"]


async def test_a_client_that_leaves_ends_the_work_on_its_answer() -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def reply(_: Request) -> Response:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        raise AssertionError

    async with serving(FakeGateway(reply)) as served, served.connection() as (_, writer):
        writer.write(post())
        await asyncio.wait_for(began.wait(), 5)
        writer.transport.abort()
        await asyncio.wait_for(ended.wait(), 5)


async def test_the_clock_of_a_request_starts_with_its_first_byte() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as served, served.connection() as (reader, writer):
        request = post()
        writer.write(request[:20])
        await until(lambda: served.server.server_state.connections)
        (connection,) = served.server.server_state.connections
        await until(lambda: connection._started)
        body_sent = perf_counter()
        writer.write(request[20:])
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert gateway.taken[0].started is not None
    assert gateway.taken[0].started < body_sent


@pytest.mark.parametrize("cut", [1, 4])
async def test_the_deadline_of_a_request_does_not_wait_for_a_body_that_did_not_come_along(cut: int) -> None:
    async def reply(request: Request) -> Response:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while (await request.receive())["more_body"]:
                    pass
                return 200, [(b"content-length", b"0")], b""
        return 504, [(b"content-length", b"0")], b""

    gateway = FakeGateway(reply)
    async with serving(gateway) as served, served.connection() as (reader, writer):
        writer.write(post(b"[1,2]", b"/predict/cars", PATIENCE)[:-cut])
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).startswith(b"HTTP/1.1 504 ")
    assert gateway.taken == []


async def test_a_client_that_leaves_before_its_request_is_complete_is_counted() -> None:
    gateway = FakeGateway()
    async with serving(gateway) as served, served.connection() as (_, writer):
        writer.write(post()[:-1])
        await until(lambda: served.server.server_state.connections)
        await asyncio.sleep(0.02)
        writer.transport.abort()
        await until(lambda: not served.server.server_state.connections)
    assert (gateway.left, gateway.taken) == (1, [])


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async def reply(_: Request) -> Response:
        await asyncio.sleep(1.2)
        return 200, [(b"content-length", b"2")], b"ok"

    async with serving(FakeGateway(reply), keep_alive=1) as served, served.connection() as (reader, writer):
        for _ in range(2):
            writer.write(post())
            assert (await asyncio.wait_for(reader.readuntil(b"ok"), 5)).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_server_that_stops_answers_what_it_has_and_says_that_it_closes() -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def reply(_: Request) -> Response:
        began.set()
        await go_on.wait()
        return 200, [(b"content-length", b"2")], b"ok"

    async with serving(FakeGateway(reply)) as served, served.connection() as (reader, writer):
        writer.write(post())
        await began.wait()
        served.server.should_exit = True
        await until(lambda: not served.server.servers[0].is_serving())
        go_on.set()
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.endswith(b"\r\nconnection: close\r\n\r\nok")


async def test_an_answer_that_says_close_closes() -> None:
    async def reply(_: Request) -> Response:
        return 429, [(b"content-length", b"0"), (b"connection", b"close")], b""

    async with serving(FakeGateway(reply)) as served, served.connection() as (reader, writer):
        writer.write(post())
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 429 ")
    assert answer.count(b"connection: close") == 1


async def test_an_answer_that_says_close_on_a_connection_that_is_to_leave_says_it_once() -> None:
    async def reply(_: Request) -> Response:
        (connection,) = served.server.server_state.connections
        connection.leaves = True
        return 200, [(b"content-length", b"0"), (b"connection", b"close")], b""

    async with serving(FakeGateway(reply)) as served, served.connection() as (reader, writer):
        writer.write(post())
        answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.count(b"connection: close") == 1


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("body", [b"[7]", b"7" * 70_000])
async def test_a_connection_that_is_to_leave_is_closed_with_its_next_answer(fast: bool, body: bytes) -> None:
    async with (
        serving(FakeGateway(), fast=fast, limits=DEFAULT) as served,
        served.connection() as (reader, writer),
    ):
        writer.write(post(body))
        assert b"connection: close" not in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        (connection,) = served.server.server_state.connections
        connection.leaves = True
        writer.write(post(body))
        assert (await asyncio.wait_for(reader.read(), 5)).count(b"\r\nconnection: close\r\n") == 1


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    answers = 40
    large = b"x" * 1_000_000

    async def reply(_: Request) -> Response:
        return 200, [(b"content-length", b"%d" % len(large))], large

    async with serving(FakeGateway(reply)) as served, served.connection() as (reader, writer):
        for _ in range(answers):
            writer.write(post())
        await asyncio.sleep(0.2)
        (connection,) = served.server.server_state.connections
        assert connection.transport.get_write_buffer_size() < 5 * len(large)
        received = 0
        while received < answers * len(large):
            received += len(await asyncio.wait_for(reader.read(1 << 20), 10))


async def test_a_header_with_a_line_break_is_not_sent(caplog: pytest.LogCaptureFixture) -> None:
    async def reply(_: Request) -> Response:
        return 200, [(b"content-length", b"0"), (b"x-request-id", b"1\r\nset-cookie: a=b")], b""

    async with serving(FakeGateway(reply)) as served:
        assert await served.exchange(post()) == b""
    assert "line break" in caplog.text
