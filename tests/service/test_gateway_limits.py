"""How large a body and how many rows may be, on every route."""

import asyncio
from typing import Any

import pytest
from starlette.requests import Request as HttpRequest
from starlette.responses import PlainTextResponse

from service.gateway import Gateway
from service.head import Head
from service.predictions import Predictions, Request
from service.protocols import native
from service.protocols.base import Response
from service.routes import build_routes
from service.settings import Settings
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of
from tests.service.test_gateway import CAR, JSON, body_of, check_problem, predict


@pytest.fixture
async def small(start_runtime: StartRuntime, settings: Settings) -> Client:
    """A service that takes bodies of up to 1024 bytes."""
    return client_of(await start_runtime(settings.model_copy(update={"max_body_bytes": 1024})))


def padded(size: int) -> bytes:
    body = body_of(CAR)
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize("kind", ["whole", "chunked", "no length", "lying below"])
async def test_a_body_of_exactly_the_limit_is_taken_and_one_byte_more_is_413(
    small: Client, kind: str, over: int
) -> None:
    body = padded(1024 + over)
    chunks = [body[:500], body[500:1000], body[1000:]] if kind in {"chunked", "lying below"} else body
    length = {"whole": "true", "lying below": 10}.get(kind)
    answer = await small("POST", "/predict/cars", chunks, headers=JSON, length=length)
    if over:
        check_problem(answer, 413, connection="close")
    else:
        assert answer.status == 200, answer.body


async def test_a_body_that_declares_too_much_is_refused_before_it_is_read(small: Client) -> None:
    check_problem(await small("POST", "/predict/cars", body_of(CAR), headers=JSON, length=1025), 413)
    assert small.chunks_read == 0


async def test_reading_stops_at_the_limit(small: Client) -> None:
    check_problem(await small("POST", "/predict/cars", (b"x" * 100 for _ in range(1000)), headers=JSON), 413)
    assert small.chunks_read == 11


@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_holds_for_a_body_that_has_come_in_already_too(
    start_runtime: StartRuntime, settings: Settings, over: int
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"max_body_bytes": 1024}))
    head = Head(native, "POST", "/predict/cars", b"", [(b"content-type", b"application/json")])
    request = Request(head, padded(1024 + over))
    given: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
    predictions = Predictions(runtime)
    predictions.answer(request, given.set_result)
    for response in (await predictions.reply(request), await given):
        assert response is not None
        assert (response[0], (b"connection", b"close") in response[1]) == ((413, True) if over else (200, False))


@pytest.mark.parametrize("over", [0, 1])
async def test_the_limit_holds_for_bentomls_routes_too(
    start_runtime: StartRuntime, settings: Settings, over: int
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"max_body_bytes": 1000}))

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse(await HttpRequest(scope, receive).body())(scope, receive, send)

    client = Client(Gateway(runtime, build_routes(runtime), inner))
    answer = await client("POST", "/predict", [b"x" * 100] * 10 + [b"y" * over] * 100)
    if over:
        check_problem(answer, 413, connection="close")
        assert client.chunks_read == 11
    else:
        assert answer.body == b"x" * 1000


@pytest.mark.parametrize("length", ["12abc", "-1", "1_0", "", "+5"])
async def test_bytes_are_counted_when_the_content_length_is_no_number(small: Client, length: str) -> None:
    answers = [await small("POST", "/predict/cars", padded(size), headers=JSON, length=length) for size in (1024, 1025)]
    assert [answer.status for answer in answers] == [200, 413]


async def test_more_rows_than_a_request_may_hold_are_413(start_runtime: StartRuntime, settings: Settings) -> None:
    client = client_of(await start_runtime(settings.model_copy(update={"max_request_rows": 2})))
    assert (await predict(client, CAR, CAR)).status == 200
    check_problem(await predict(client, CAR, CAR, CAR), 413)
