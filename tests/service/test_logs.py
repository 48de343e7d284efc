"""What is logged, in which form, and that no record can forge another one."""

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from service.logs import FIELDS, JsonFormatter, TextFormatter, configure_logging
from service.settings import Settings
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of

FORGED = 'cars\r\n2026-01-01T00:00:00.000Z [INFO] all is well\x1b[2K\u2028\x9b31m{"level": "INFO"}'
BODY = b'{"instances": [{"weight": 3504, "horsepower": 130, "origin": "usa"}]}'
HEADERS = {"content-type": "application/json"}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def record(message: str, *arguments: object, error: Exception | None = None, **fields: object) -> logging.LogRecord:
    exc_info = (type(error), error, None) if error else None
    found = logging.LogRecord("service.test", logging.INFO, __file__, 1, message, arguments, exc_info)
    setattr(found, FIELDS, fields)
    return found


def test_json_is_one_object_a_line_with_the_records_fields() -> None:
    line = JsonFormatter().format(record("request %s", 7, error=ValueError("bad\nly"), status=200, model="cars"))
    assert "\n" not in line
    found = json.loads(line)
    assert (found["message"], found["level"], found["logger"]) == ("request 7", "INFO", "service.test")
    assert (found["status"], found["model"]) == (200, "cars")
    assert found["exception"].splitlines()[-1] == "ly"
    assert found["time"].endswith("Z")


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()])
def test_names_from_outside_make_no_lines_and_no_control_sequences(formatter: logging.Formatter) -> None:
    line = formatter.format(record("request to %s failed", FORGED, model=FORGED))
    assert len(line.splitlines()) == 1
    assert all(character.isprintable() for character in line)
    assert "all is well" in line


def test_in_text_the_lines_of_a_traceback_cannot_be_taken_for_records() -> None:
    lines = TextFormatter().format(record("failed", error=ValueError(FORGED))).splitlines()
    assert len(lines) > 1
    assert all(line.startswith("  | ") for line in lines[1:])
    assert all(line.isprintable() for line in lines)


def test_text_has_time_level_process_logger_message_and_fields() -> None:
    line = TextFormatter().format(record("request", status=200, model="cars"))
    assert line.split(" ", 1)[1].startswith("[INFO] [")
    assert line.endswith(":service.test] request status=200 model=cars")


@pytest.fixture
def logged() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What the service's loggers write, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    bentoml, service = logging.getLogger("bentoml"), logging.getLogger("service")
    before = (bentoml.handlers, service.handlers, service.propagate, service.level)
    root = [(one, one.formatter) for one in logging.getLogger().handlers]
    bentoml.handlers = [handler]
    configure_logging("INFO", "json")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    bentoml.handlers, service.handlers, service.propagate, service.level = before
    for one, formatter in root:
        one.setFormatter(formatter)


def requests(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["logger"] == "service.requests"]


async def test_no_request_has_a_line_unless_somebody_asked(
    client: Client, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    assert (await client("POST", "/predict/cars", BODY, headers=HEADERS)).status == 200
    assert requests(logged()) == []


async def test_a_requests_line_says_how_it_went_and_nothing_of_what_it_was(
    start_runtime: StartRuntime, settings: Settings, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    secret = {"authorization": "Bearer secret-of-the-client", "x-api-key": "secret-of-the-client"}
    client = client_of(await start_runtime(settings.model_copy(update={"log_requests": True})))
    answer = await client("POST", "/predict/cars", BODY, headers=HEADERS | secret | {"traceparent": TRACE})
    assert answer.status == 200
    assert (await client("POST", "/predict/cars", b"{", headers=HEADERS | secret)).status == 400
    assert (await client("POST", f"/predict/{FORGED}?key=secret-of-the-client", BODY, headers=HEADERS)).status == 404
    assert (await client("GET", "/models")).status == 200
    lines = requests(logged())
    good, bad, unknown, other = lines
    assert (good["route"], good["model"], good["status"]) == ("/predict/{model}", "cars", 200)
    assert good["request_id"] == answer.headers["x-request-id"]
    assert good["version"] == answer.json["version"]
    assert good["trace_id"] == TRACE.split("-")[1]
    assert good["span_id"] == answer.headers["traceresponse"].split("-")[2]
    assert all(good[f"{stage}_ms"] >= 0 for stage in ("decode", "queue", "infer", "encode", "total"))
    assert (bad["status"], "version" in bad) == (400, False)
    assert unknown["status"] == 404
    assert (other["route"], other["status"]) == ("/models", 200)
    written = json.dumps(logged())
    assert "secret-of-the-client" not in written
    assert "3504" not in written


async def test_the_trace_of_a_request_comes_back_with_answers_and_refusals(client: Client) -> None:
    for body, status in ((BODY, 200), (b"{", 400)):
        answer = await client("POST", "/predict/cars", body, headers=HEADERS | {"traceparent": TRACE})
        assert answer.status == status
        assert answer.headers["traceresponse"].split("-")[1] == TRACE.split("-")[1]
    for headers in (HEADERS, HEADERS | {"traceparent": "00-no-trace-01"}):
        assert "traceresponse" not in (await client("POST", "/predict/cars", BODY, headers=headers)).headers
