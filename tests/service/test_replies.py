"""Every answer says that it is what it says it is, and the errors of BentoML's router are in our form."""

from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from service.gateway import Gateway
from service.routes import build_routes
from service.runtime import Runtime
from tests.service.asgi import Client
from tests.service.test_gateway import CAR, JSON, body_of, check_problem

NOSNIFF = "nosniff"


async def described(_: Any) -> JSONResponse:
    return JSONResponse({"a": 1})


async def unknown(_: Any) -> JSONResponse:
    return JSONResponse({"error": "No model"}, 404)


async def plain(_: Any) -> PlainTextResponse:
    return PlainTextResponse("here")


@pytest.fixture
def client(runtime: Runtime) -> Client:
    bentoml = Starlette(
        routes=[
            Route("/schema.json", described),
            Route("/predict", unknown, methods=["POST"]),
            Mount("/static_content", routes=[Route("/a.css", plain)]),
        ]
    )
    return Client(Gateway(runtime, build_routes(runtime), bentoml))


async def test_a_route_of_bentomls_that_is_not_there_is_404_in_our_form(client: Client) -> None:
    answer = await client("GET", "/static_content/x")
    check_problem(answer, 404)
    assert "/static_content/x" in answer.json["detail"]


async def test_a_method_that_bentoml_does_not_take_is_405_in_our_form(client: Client) -> None:
    answer = await client("POST", "/schema.json", b"{}", headers=JSON)
    check_problem(answer, 405)
    assert "GET" in answer.json["detail"]
    assert "POST" in answer.json["detail"]
    assert "GET" in answer.headers["allow"]


async def test_what_bentoml_answers_itself_stays(client: Client) -> None:
    assert (await client("GET", "/static_content/a.css")).body == b"here"
    assert (await client("POST", "/predict", b"{}", headers=JSON)).json == {"error": "No model"}


@pytest.mark.parametrize(
    ("method", "url", "body", "status"),
    [
        ("POST", "/predict/cars", body_of(CAR), 200),
        ("POST", "/predict/cars", b"{", 400),
        ("POST", "/v2/models/nope/infer", b"{}", 404),
        ("GET", "/models", b"", 200),
        ("GET", "/metrics", b"", 200),
        ("GET", "/live.json", b"", 200),
        ("GET", "/", b"", 200),
        ("GET", "/docs", b"", 200),
        ("GET", "/schema.json", b"", 200),
        ("GET", "/static_content/x", b"", 404),
        ("GET", "/nowhere", b"", 404),
        ("DELETE", "/models", b"", 405),
    ],
)
async def test_no_browser_is_to_guess_what_an_answer_is(
    client: Client, method: str, url: str, body: bytes, status: int
) -> None:
    answer = await client(method, url, body, headers=JSON)
    assert (answer.status, answer.headers.get("x-content-type-options")) == (status, NOSNIFF)
