"""OpenTelemetry: a real receiver gets a request's spans, where the standard variables ask for it, and only there."""

import gzip
import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from service.observer import Observer
from service.settings import Settings
from service.spans import Spans
from tests.service.conftest import StartRuntime, client_of

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
BODY = b'{"instances": [{"weight": 3504, "horsepower": 130, "origin": "usa"}]}'
HEADERS = {"content-type": "application/json"}


class Collector(HTTPServer):
    """Receives OTLP over HTTP in protobuf, on loopback."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []
        self.paths: list[str] = []

    @property
    def spans(self) -> list[Any]:
        return [s for r in self.requests for rs in r.resource_spans for ss in rs.scope_spans for s in ss.spans]

    @property
    def resource(self) -> dict[str, str]:
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {one.key: one.value.string_value for one in attributes}


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        body = gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body
        self.server.paths.append(self.path)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    server = Collector()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def attributes(span: Any) -> dict[str, str | int]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


async def test_a_request_is_a_span_with_its_stages_end_to_end_in_the_senders_trace(
    start_runtime: StartRuntime, settings: Settings, collector: Collector
) -> None:
    runtime = await start_runtime(settings)
    trace = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}
    answer = await client_of(runtime)("POST", "/predict/cars", BODY, headers=HEADERS | trace)
    assert answer.status == 200
    assert runtime.observer is not None
    runtime.observer.close()
    assert set(collector.paths) == {"/v1/traces"}
    assert collector.resource["service.name"] == "keras-serving"
    spans = {span.name: span for span in collector.spans}
    assert set(spans) == {"POST /predict/{model}", "decode", "queue", "infer", "encode"}
    request = spans["POST /predict/{model}"]
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE_ID}
    assert request.parent_span_id.hex() == PARENT_ID
    assert request.span_id.hex() == answer.headers["traceresponse"].split("-")[2]
    stages = [spans[name] for name in ("decode", "queue", "infer", "encode")]
    assert {stage.parent_span_id for stage in stages} == {request.span_id}
    assert request.start_time_unix_nano <= stages[0].start_time_unix_nano
    for before, after in itertools.pairwise(stages):
        assert before.end_time_unix_nano == after.start_time_unix_nano
    assert stages[-1].end_time_unix_nano == request.end_time_unix_nano
    found = attributes(request)
    assert (found["http.route"], found["http.response.status_code"]) == ("/predict/{model}", 200)
    assert (found["keras_serving.model"], found["keras_serving.version"]) == ("cars", answer.json["version"])


async def test_a_refused_request_has_a_span_of_its_own_trace_and_no_stages(
    start_runtime: StartRuntime, settings: Settings, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "cars-in-production")
    runtime = await start_runtime(settings)
    assert (await client_of(runtime)("POST", "/predict/cars", b"{", headers=HEADERS)).status == 400
    assert runtime.observer is not None
    runtime.observer.close()
    (span,) = collector.spans
    assert attributes(span)["http.response.status_code"] == 400
    assert not span.parent_span_id
    assert collector.resource["service.name"] == "cars-in-production"


async def test_what_the_sender_does_not_record_is_not_exported(
    start_runtime: StartRuntime, settings: Settings, collector: Collector
) -> None:
    runtime = await start_runtime(settings)
    trace = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-00"}
    assert (await client_of(runtime)("POST", "/predict/cars", BODY, headers=HEADERS | trace)).status == 200
    assert runtime.observer is not None
    runtime.observer.close()
    assert collector.spans == []


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_exported_unless_the_variables_ask_for_it(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Observer.of(Settings()) is None


def test_without_the_variables_no_exporter_is_imported() -> None:
    code = (
        "import sys, service.runtime; from service.observer import Observer; from service.settings import Settings; "
        "assert Observer.of(Settings()) is None; assert not [m for m in sys.modules if 'opentelemetry' in m]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_exporter_is_said_in_one_line_that_names_the_remedy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.setattr(logging.getLogger("service"), "propagate", True)
    assert Spans.open() is None
    assert [record.getMessage().count("keras-serving[tracing]") for record in caplog.records] == [1]
