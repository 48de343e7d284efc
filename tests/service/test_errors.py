"""One place maps errors to status codes and RFC 9457 problem documents."""

import inspect
import json
from typing import Any

import pytest

import models.errors
import service.errors
from models.errors import (
    BundleError,
    ConfigError,
    ConflictError,
    DecodeError,
    EngineError,
    InputError,
    OvertakenError,
    ServingError,
    StoreError,
    UnknownModelError,
    shorten,
)
from service.errors import (
    ClientDisconnectError,
    DeadlineError,
    EncodingError,
    MediaTypeError,
    MethodError,
    NoAnswerError,
    NoRouteError,
    NotReadyError,
    QueueFullError,
    TooLargeError,
    UnauthorizedError,
    problem,
    status_of,
)

INVALID = InputError("instances[3].weight", "must be a number from 500 to 9000 lb", "12", "Check the unit.")
TABLE = [
    (DecodeError("body: broken"), 400),
    (UnknownModelError("Unknown model"), 404),
    (NoRouteError("/nowhere"), 404),
    (NoAnswerError("id-7", 1000), 404),
    (MethodError("GET", "POST"), 405),
    (TooLargeError("too large"), 413),
    (MediaTypeError("Content-Type"), 415),
    (EncodingError(b"br"), 415),
    (ConflictError("production points to another version"), 409),
    (OvertakenError("another one changed it just now"), 409),
    (UnauthorizedError("This route needs an API key"), 401),
    (BundleError("model.onnx does not match"), 422),
    (StoreError("No space left"), 503),
    (INVALID, 422),
    (QueueFullError("cars", 0.2), 429),
    (EngineError("cuda://secret"), 500),
    (NotReadyError("loading"), 503),
    (DeadlineError(), 504),
]


def told(error: Exception) -> tuple[int, dict[bytes, bytes], dict[str, Any]]:
    status, headers, body = problem(error, "id-1")
    return status, dict(headers), json.loads(body)


@pytest.mark.parametrize(("error", "status"), TABLE, ids=lambda value: type(value).__name__)
def test_every_error_has_its_status_and_a_problem_document(error: Exception, status: int) -> None:
    found, headers, document = told(error)
    assert found == status == status_of(error) == document["status"]
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"x-request-id"] == b"id-1"
    assert document["request_id"] == "id-1"
    assert document["type"] == "about:blank"
    assert document["title"]
    assert int(headers[b"content-length"]) == len(problem(error, "id-1")[2])
    if status != 500:
        assert document["detail"] == str(error)


def test_no_error_of_a_request_is_missing_from_the_table() -> None:
    raised = {
        kind
        for module in (models.errors, service.errors)
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, ServingError)
    }
    never_answered = {ServingError, ConfigError, ClientDisconnectError}
    assert raised - never_answered == {type(error) for error, _ in TABLE}


def test_a_request_without_a_key_is_told_how_to_send_one() -> None:
    assert told(UnauthorizedError("needs a key"))[1][b"www-authenticate"] == b'Bearer realm="keras-serving"'


def test_a_broken_schema_names_field_rule_value_and_remedy() -> None:
    assert told(INVALID)[2]["errors"] == [
        {
            "field": "instances[3].weight",
            "rule": "must be a number from 500 to 9000 lb",
            "received": "12",
            "remedy": "Check the unit.",
        }
    ]


@pytest.mark.parametrize("error", [EngineError("at /secret/path"), ZeroDivisionError("secret"), KeyError("secret")])
def test_an_inner_failure_says_nothing_of_the_inside(error: Exception) -> None:
    status, _, document = told(error)
    assert status == 500
    assert "secret" not in json.dumps(document)
    assert "id-1" in document["detail"]


@pytest.mark.parametrize(("seconds", "header"), [(0.0, b"1"), (0.2, b"1"), (1.2, b"2"), (30, b"30")])
def test_who_may_come_back_is_told_when_in_whole_seconds_and_never_at_once(seconds: float, header: bytes) -> None:
    assert told(QueueFullError("cars", seconds))[1][b"retry-after"] == header
    assert told(NotReadyError("loading", seconds))[1][b"retry-after"] == header


def test_a_wrong_method_names_the_right_one() -> None:
    assert told(MethodError("GET", "POST"))[1][b"allow"] == b"POST"


def test_a_connection_with_an_unread_body_is_closed() -> None:
    assert told(TooLargeError("too large"))[1][b"connection"] == b"close"
    assert b"connection" not in told(INVALID)[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"),
        ("abc", "'abc'"),
        ([1] * 9, "a list of 9 values"),
        (dict.fromkeys(range(9)), "an object of 9 members"),
        (None, "null"),
        (True, "true"),
    ],
)
def test_a_short_value_is_echoed_and_a_long_one_described(value: object, text: str) -> None:
    assert shorten(value) == text


@pytest.mark.parametrize("value", ["x" * 10**6, b"x" * 10**6, ["y" * 10**5] * 8, {"k": "y" * 10**5}, 10**200])
def test_no_echo_is_longer_than_its_limit(value: object) -> None:
    assert len(shorten(value)) <= 60
