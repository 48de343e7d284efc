"""A known head on the fast path: whatever comes in whichever pieces, it gets the bytes that the parser's way gives."""

import asyncio
from random import Random
from typing import Any, cast

import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from service.bounded import DEFAULT, BoundedProtocol, Limits
from service.fast_path import FastPath
from service.general_path import GeneralPath
from service.head import Head, KnownHeads
from service.predictions import Predictions, Request
from service.protocols.base import Response
from tests.service.conftest import until
from tests.service.test_fast_path import BROKEN, CHUNKED, FakeGateway, post


class Wire(asyncio.Transport):
    """A connection to a client that reads everything; `written` is what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: Any) -> None:
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def get_write_buffer_size(self) -> int:
        return 0

    pause_reading = resume_reading = abort = lambda self: None


class Counted(KnownHeads):
    """Counts how often one was known."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0

    def find(self, data: bytes) -> tuple[Head, bytes] | None:
        found = super().find(data)
        self.found += found is not None
        return found


def connect(
    gateway: FakeGateway, *, fast: bool = True, limits: Limits = DEFAULT, keep_alive: Any = 60
) -> tuple[BoundedProtocol, Wire]:
    """A connection, and what stands for its socket: what is fed to it comes in exactly these pieces."""
    config = Config(cast(Any, gateway), log_config=None, timeout_keep_alive=keep_alive)
    told: dict[str, Any] = {"config": config, "server_state": ServerState(), "app_state": {}}
    connection = FastPath(cast(Predictions, gateway), limits, **told) if fast else GeneralPath(limits, **told)
    wire = Wire()
    connection.connection_made(wire)
    return connection, wire


async def settled(connection: BoundedProtocol) -> None:
    """Wait for the answers; what is broken closes after them."""
    while not connection.transport.is_closing() and (connection.busy or connection.pipeline):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def feed(connection: BoundedProtocol, *pieces: bytes, waits: bool = True) -> None:
    """One piece after the other, as long as the connection is open; maybe each after the answers to those before."""
    for piece in pieces:
        if connection.transport.is_closing():
            break
        if piece:
            connection.data_received(piece)
        if waits and connection.between:
            await settled(connection)
    await settled(connection)


async def answered(*pieces: bytes, gateway: FakeGateway, fast: bool, waits: bool = True) -> bytes:
    connection, wire = connect(gateway, fast=fast)
    await feed(connection, *pieces, waits=waits)
    connection.connection_lost(None)
    return wire.written


def knowing(*requests: bytes) -> FakeGateway:
    """A gateway that has seen these, and knows their heads."""
    gateway = FakeGateway(at_once=True, heads=Counted())
    connection, _ = connect(gateway)
    for request in requests:
        connection.data_received(request)
        assert gateway.heads.find(request) is not None
    gateway.taken.clear()
    connection.connection_lost(None)
    return gateway


SMALL = post(b"[1]")
NESTED = post(SMALL, b"/predict/cars", b"X: 1")
LIKE = [
    SMALL,
    SMALL,
    post(b"[2]"),
    post(b"[1,2]"),
    post(b"[1]", b"/predict/carz"),
    post(b"[1]", b"/predict/cars?top_k=1"),
    post(b"[1]", b"/predict/cars?top_k=2"),
    post(b"[1]", b"/predict/cars", b"X: 1"),
    post(b"[1]", b"/predict/cars", b"X: 2"),
    post(b"[1]", b"/predict/cars", b"X-Request-Id: 1"),
    post(b"a\r\n\r\nb"),
    NESTED,
    b"\r\n" + SMALL,
    SMALL + b"\r\n",
    CHUNKED,
    CHUNKED.replace(b"3\r\n[7]", b"%x\r\n%b" % (len(SMALL), SMALL)),
    post(b"7" * 70_000),
    b"GET /predict/cars HTTP/1.1\r\nHost: a\r\n\r\n",
]


def places(request: bytes, start: int) -> list[int]:
    """Where a cut is likely to do harm: about the ends of heads, and of requests."""
    ends = [i + 4 for i in range(len(request)) if request.startswith(b"\r\n\r\n", i)] if len(request) < 1000 else []
    return [start + i + j for i in (0, *ends, len(request)) for j in (-1, 0, 0, 0, 1)]


@pytest.mark.parametrize("at_once", [False, True])
async def test_any_requests_in_any_pieces_get_the_bytes_that_the_parsers_way_gives(at_once: bool) -> None:
    random = Random(1)
    gateway = FakeGateway(at_once=at_once, heads=Counted())
    for _ in range(200):
        chosen = random.choices(LIKE, k=random.randint(1, 5))
        if not at_once and random.random() < 0.2:
            # With answers at once those before it are out already: then it gets one too.
            chosen.append(random.choice([*BROKEN.values()]))
        whole, likely, cuts = b"", [0], []
        apart = random.random() < 0.5
        for request in chosen:
            cuts += [len(whole)] * apart
            likely += places(request, len(whole))
            whole += request
        cuts += random.choices(likely, k=random.randint(0, 4)) + [random.randint(0, len(whole))] * (not apart)
        cuts = sorted(min(max(cut, 0), len(whole)) for cut in cuts)
        pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        waits = random.random() < 0.7
        expected = await answered(*pieces, gateway=FakeGateway(), fast=False, waits=waits)
        assert await answered(*pieces, gateway=gateway, fast=True, waits=waits) == expected, pieces
    assert cast(Counted, gateway.heads).found > 50


def bodies(gateway: FakeGateway) -> list[bytes]:
    return [request.body for request in gateway.taken]


async def test_a_known_head_needs_no_parser_and_says_the_same() -> None:
    gateway = knowing(SMALL)
    connection, wire = connect(gateway)
    connection.parser = cast(Any, None)
    connection.data_received(post(b"[9]"))
    assert bodies(gateway) == [b"[9]"]
    assert wire.written == await answered(post(b"[9]"), gateway=FakeGateway(), fast=False)


@pytest.mark.parametrize("cut", range(1, len(SMALL)))
async def test_a_known_head_in_pieces_is_read_as_ever(cut: int) -> None:
    gateway = knowing(SMALL)
    expected = await answered(SMALL, SMALL, gateway=FakeGateway(), fast=False)
    assert await answered(SMALL[:cut], SMALL[cut:], SMALL, gateway=gateway, fast=True) == expected
    assert bodies(gateway) == [b"[1]", b"[1]"]


async def test_a_body_that_is_a_request_with_a_known_head_is_a_body() -> None:
    gateway = knowing(SMALL)
    for outer in (NESTED, post(b"7" * 70_000 + SMALL)):
        head = outer.index(SMALL)
        expected = await answered(outer, gateway=FakeGateway(), fast=False)
        assert await answered(outer[:head], outer[head:], gateway=gateway, fast=True) == expected
    assert bodies(gateway) == [SMALL]


async def test_a_head_that_has_a_known_one_in_it_is_one_head() -> None:
    gateway = knowing(SMALL)
    pieces = (b"GET /x HTTP/1.1\r\nX: ", SMALL)
    expected = await answered(*pieces, gateway=FakeGateway(), fast=False)
    assert expected.count(b"GET /x? 3 ") == 1
    assert await answered(*pieces, gateway=gateway, fast=True) == expected


async def test_the_rest_of_a_body_that_is_answered_already_is_no_request() -> None:
    async def early(_: Request) -> Response:
        return 200, [(b"content-length", b"2")], b"ok"

    gateway = FakeGateway(early, heads=knowing(SMALL).heads)
    connection, wire = connect(gateway)
    large = post(b"7" * 70_000 + SMALL)
    connection.data_received(large[: -len(SMALL)])
    await settled(connection)
    connection.data_received(SMALL)
    await settled(connection)
    assert (wire.written.count(b"HTTP/1.1 200 "), bodies(gateway)) == (1, [])
    connection.connection_lost(None)


async def test_known_heads_in_one_piece_are_pipelined_as_ever() -> None:
    gateway = knowing(SMALL)
    expected = await answered(SMALL * 3, gateway=FakeGateway(), fast=False)
    assert await answered(SMALL * 3, gateway=gateway, fast=True) == expected
    assert cast(Counted, gateway.heads).found == 1, "of the only look, at the one that was learned"


async def test_a_known_head_while_an_answer_is_under_way_waits_for_it() -> None:
    go = {b"1": asyncio.Event(), b"2": asyncio.Event()}

    async def late(request: Request) -> Response:
        which = dict(request.head.headers)[b"x"]
        await go[which].wait()
        return 200, [(b"content-length", b"1")], which

    first, second = (post(b"[1]", b"/predict/cars", b"X: %d" % i) for i in (1, 2))
    gateway = FakeGateway(late, heads=knowing(first, second).heads)
    connection, wire = connect(gateway)
    connection.data_received(first)
    connection.data_received(second)
    go[b"2"].set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert wire.written == b""
    go[b"1"].set()
    await until(lambda: wire.written.count(b"HTTP/1.1 200 ") == 2)
    assert wire.written.index(b"\r\n\r\n1") < wire.written.index(b"\r\n\r\n2")
