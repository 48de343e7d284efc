"""Compressed bodies at the front door: every prediction's route reads the same encodings, and says which."""

import asyncio
import gzip
import json
import time
import zlib
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import Response

from service.gateway import Gateway
from service.head import Head
from service.predictions import Predictions
from service.predictions import Request as PredictionRequest
from service.protocols import native
from service.protocols.base import Decoded, HttpProtocol
from service.routes import build_routes
from service.runtime import Runtime
from tests.service.asgi import Client

CAR = {"weight": 3504, "horsepower": 130, "origin": "usa"}
JSON = {"content-type": "application/json"}
BODIES: dict[str, Any] = {
    "/predict/cars": {"instances": [CAR]},
    "/v1/models/cars:predict": {"instances": [CAR]},
    "/v2/models/cars/infer": {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3], "data": [3504, 130, 0]}]
    },
    "/predict": {"model": "cars", "instances": [CAR]},
}


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Stands for BentoML's application: answers with the body that it is given."""
    await Response(await Request(scope, receive).body())(scope, receive, send)


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return Client(Gateway(runtime, build_routes(runtime), echo))


@pytest.mark.parametrize("path", BODIES)
async def test_a_compressed_body_is_answered_as_the_same_one_plain(path: str, client: Client) -> None:
    body = json.dumps(BODIES[path]).encode()
    headers = JSON | {"x-request-id": "same"}
    plain = await client("POST", path, body, headers=headers)
    assert plain.status == 200
    for encoding, packed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body)), ("identity", body)):
        answer = await client("POST", path, packed, headers=headers | {"content-encoding": encoding})
        assert (answer.status, answer.body) == (200, plain.body)


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("encoding", ["br", "gzip, gzip"])
async def test_another_encoding_is_415_and_says_what_is_read(path: str, encoding: str, client: Client) -> None:
    answer = await client("POST", path, b"{}", headers=JSON | {"content-encoding": encoding})
    assert answer.status == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert f"Content-Encoding must be gzip or deflate, one of them. Received: '{encoding}'" in answer.body.decode()


@pytest.mark.parametrize("path", BODIES)
async def test_a_body_is_no_larger_inflated_than_plain(path: str, client: Client) -> None:
    bomb = gzip.compress(bytes(17 * 2**20))
    answer = await client("POST", path, bomb, headers=JSON | {"content-encoding": "gzip"})
    assert answer.status == 413
    broken = await client("POST", path, bomb[:50], headers=JSON | {"content-encoding": "gzip"})
    assert broken.status == 400


class AtOnce:
    """How many inflated bodies there were at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def wait(self) -> None:
        """As long as a large body takes in a thread, behind all that waits for one."""
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.to_thread(time.sleep, 0)
        self.now -= 1


async def test_of_many_compressed_bodies_few_are_inflated_at_once(runtime: Runtime) -> None:
    at_once = AtOnce()

    async def decode(*arguments: Any) -> Decoded:
        await at_once.wait()
        return await native.decode(*arguments)

    protocol = cast(HttpProtocol, SimpleNamespace(**vars(native) | {"decode": decode}))
    predictions = Predictions(runtime)
    headers = [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")]
    body = gzip.compress(json.dumps(BODIES["/predict/cars"]).encode())
    request = PredictionRequest(Head(protocol, "POST", "/predict/cars", b"", headers), body)
    replies = await asyncio.gather(*(predictions.reply(request) for _ in range(100)))
    assert {reply[0] for reply in replies if reply is not None} == {200}
    assert 1 < at_once.most <= 8


async def test_of_many_compressed_bodies_for_bentoml_few_are_inflated_at_once(runtime: Runtime) -> None:
    at_once = AtOnce()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await at_once.wait()
        await echo(scope, receive, send)

    door = Gateway(runtime, build_routes(runtime), inner)
    headers = JSON | {"content-encoding": "gzip"}
    body = gzip.compress(json.dumps(BODIES["/predict"]).encode())
    answers = await asyncio.gather(*(Client(door)("POST", "/predict", body, headers=headers) for _ in range(100)))
    assert {answer.status for answer in answers} == {200}
    assert 1 < at_once.most <= 8


async def test_the_header_twice_is_two_encodings(client: Client) -> None:
    headers = JSON | {"content-encoding": "gzip", "Content-Encoding": "gzip"}
    assert (await client("POST", "/predict/cars", b"{}", headers=headers)).status == 415


@pytest.mark.parametrize("kind", ["multipart/form-data", "text/plain", "application/vnd.bentoml+pickle", "a/b; c"])
async def test_bentomls_route_takes_json_alone(kind: str, client: Client) -> None:
    """It takes whatever it does not know for JSON, and answers 500 to a form without a boundary."""
    answer = await client("POST", "/predict", b"{}", headers={"content-type": kind})
    assert (answer.status, answer.headers["content-type"]) == (415, "application/problem+json")
    assert "must be application/json" in answer.json["detail"]


@pytest.mark.parametrize("method", ["GET", "TRACE", "DELETE"])
async def test_another_method_is_405_whatever_its_query_string(method: str, client: Client) -> None:
    answer = await client(method, "/predict/cars?version=&top_k=x")
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
