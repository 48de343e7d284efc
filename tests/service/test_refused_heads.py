"""A request that cannot be parsed is told what is wrong with it."""

import asyncio
from typing import Any

import pytest

from service.bounded import DEFAULT
from tests.service.conftest import until
from tests.service.test_bounded import CHUNKED, EITHER_PATH
from tests.service.test_fast_path import FakeGateway, post, serving

HEAD = b"POST /predict/cars HTTP/1.1\r\n"
REASONS = {
    b"rubbish\r\n\r\n": b"Invalid method encountered",
    HEAD + b"Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1": b"Duplicate Content-Length",
    HEAD + b"Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1": (
        b"Transfer-Encoding can't be present with Content-Length"
    ),
    HEAD + b"Host: a\r\nTransfer-Encoding: unknown\r\n\r\n1": b"Request has invalid `Transfer-Encoding`",
    HEAD + b"Host: a\r\nContent-Length: x\r\n\r\n1": b"Invalid character in Content-Length",
    HEAD + b"Host: a\r\nName with spaces: 1\r\n\r\n": b"Invalid header token",
    CHUNKED % b"/" + b"z\r\n": b"Invalid character in chunk size",
    HEAD + b"Content-Length: 1\r\n\r\n1": b"Host must come once, received 0 times",
    HEAD + b"Host: a\r\nHost: a\r\nContent-Length: 1\r\n\r\n1": b"Host must come once, received 2 times",
    b"GET /livez HTTP/1.1\r\n\r\n": b"Host must come once, received 0 times",
}


@pytest.mark.parametrize("request_", REASONS, ids=lambda raw: REASONS[raw].decode())
@EITHER_PATH
async def test_what_cannot_be_parsed_is_told_which_rule_it_breaks(request_: bytes, fast: bool) -> None:
    gateway = FakeGateway()
    async with serving(gateway, fast=fast, limits=DEFAULT) as served:
        answer = await served.exchange(request_)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close" in head
    assert b"\r\nx-content-type-options: nosniff" in head
    assert (
        body
        == b"Not an HTTP/1.1 request (RFC 9112): %b. Check the request line, the headers and the framing of the body."
        % (REASONS[request_])
    )
    assert gateway.taken == []


@EITHER_PATH
async def test_an_old_request_needs_no_host(fast: bool) -> None:
    async with serving(FakeGateway(), fast=fast, limits=DEFAULT) as served:
        answer = await served.exchange(b"GET /livez HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


@EITHER_PATH
async def test_what_an_error_of_our_own_says_is_not_told(fast: bool) -> None:
    async with serving(FakeGateway(), fast=fast, limits=DEFAULT) as served:
        answer = await served.exchange(post(b"[7]", "/predict/\u00e9".encode("latin-1")))
    assert b"codec" not in answer
    assert answer.startswith(b"HTTP/1.1 400 ")


class Slow(FakeGateway):
    """Writes half of an answer, and the rest when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """The general path."""
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
            await send({"type": "http.response.body", "body": b"ha", "more_body": True})
            await self.go_on.wait()
            await send({"type": "http.response.body", "body": b"lf"})


BROKEN = pytest.mark.parametrize("broken", [b"rubbish\r\n\r\n", b"GET /livez HTTP/1.1\r\n\r\n"])


@BROKEN
@EITHER_PATH
async def test_a_broken_request_is_not_answered_inside_the_answer_before_it(broken: bytes, fast: bool) -> None:
    gateway = Slow()
    async with serving(gateway, fast=fast, limits=DEFAULT) as served, served.connection() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\nha"), 5)
        (connection,) = served.server.server_state.connections
        writer.write(broken)
        await until(lambda: not connection.cycle.keep_alive)
        gateway.go_on.set()
        assert await asyncio.wait_for(reader.read(), 5) == b"lf"


@BROKEN
@EITHER_PATH
async def test_requests_before_a_broken_one_are_answered_and_then_the_connection_is_closed(
    broken: bytes, fast: bool
) -> None:
    async with serving(FakeGateway(), fast=fast, limits=DEFAULT) as served:
        answer = await served.exchange(post(b"[7]") + post(b"[8]") + broken)
    assert answer.count(b"HTTP/1.1 200 ") == answer.count(b"HTTP/1.1 ") == 2
    assert answer.count(b"\r\nconnection: close\r\n") == 1
