"""A gRPC server before a runtime in this process: refusals, deadlines, calls given up, health, streams, the stop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from service import grpc_server
from service.grpc_calls import SERVICE, Calls
from service.grpc_server import GrpcServer
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, rows_of
from tests.service.conftest import StartRuntime, until
from tests.service.engines import FakeEngine, Gate, batcher_of

KEY = "a-key-that-is-long-enough"
HEALTH = health_pb2.HealthCheckResponse
ROWS, OTHERS = rows_of(CARS, 2), rows_of(CARS, 2, seed=1)


class Door:
    """A server and stubs of clients for it."""

    def __init__(self, server: GrpcServer, runtime: Runtime, channel: Any) -> None:
        self.server, self.runtime = server, runtime
        self.infer = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self.health = health_pb2_grpc.HealthStub(channel)
        self.channel = channel

    def hold(self, gate: Gate, **options: Any) -> FakeEngine:
        """Let an engine that waits for ``gate`` answer for the cars."""
        engine = FakeEngine(gate)
        self.runtime.loader.served["cars"].batcher = batcher_of(engine, max_batch_rows=2, **options)
        return engine


@asynccontextmanager
async def opened(runtime: Runtime) -> AsyncIterator[Door]:
    server = GrpcServer(runtime)
    port = await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Door(server, runtime, channel)
    finally:
        await server.stop()


@pytest.fixture
async def door(start_runtime: StartRuntime, settings: Settings) -> AsyncIterator[Door]:
    async with opened(await start_runtime(settings.model_copy(update={"grpc_port": 0}))) as found:
        yield found


def request(rows: Any = ROWS, model: str = "cars", **members: Any) -> Any:
    message = pb.ModelInferRequest(model_name=model, raw_input_contents=[rows.astype("<f4").tobytes()], **members)
    message.inputs.add(name="input", datatype="FP32", shape=rows.shape)
    return message


async def refusal(call: Any) -> tuple[str, str, dict[str, Any]]:
    """Code, details and trailing metadata of a call that is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code().name, caught.value.details() or "", dict(caught.value.trailing_metadata())


def counted(runtime: Runtime, text: str) -> float:
    """Sum of the counters whose line has ``text``."""
    lines = runtime.metrics.render()[0].decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if text in line and "_total" in line and line[0] != "#")


async def test_the_trace_of_a_request_comes_back(door: Door) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    call = door.infer.ModelInfer(request(), metadata=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
    await call
    assert dict(await call.trailing_metadata())["traceresponse"].split("-")[1] == trace
    nobody = door.infer.ModelInfer(request(model="nope"), metadata=[("traceparent", f"00-{trace}-00f067aa0ba902b7-01")])
    assert trace in (await refusal(nobody))[2]["traceresponse"]
    call = door.infer.ModelInfer(request())
    await call
    assert "traceresponse" not in dict(await call.trailing_metadata())


@pytest.mark.parametrize(
    ("message_id", "metadata", "used"),
    [("", "mine-1", "mine-1"), ("its", "mine-1", "its"), ("no good", "mine-1", "mine-1"), ("", "no good", "")],
)
async def test_the_request_id_of_the_metadata_names_an_answer_a_refusal_and_its_line_in_the_log(
    door: Door, message_id: str, metadata: str, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``X-Request-Id`` does over HTTP; the message's own id goes first, where that may be one."""
    ended: list[str] = []
    observer = SimpleNamespace(ended=lambda question, *_: ended.append(question.request_id))
    monkeypatch.setattr(door.runtime, "observer", observer)
    sent = (("x-request-id", metadata),)
    call = door.infer.ModelInfer(request(id=message_id), metadata=sent)
    await call
    found = [dict(await call.trailing_metadata())["x-request-id"]]
    refused = await refusal(door.infer.ModelInfer(request(model="nope", id=message_id), metadata=sent))
    found.append(refused[2]["x-request-id"])
    assert ended == found
    if used:
        assert found == [used, used]
    else:
        assert metadata not in found
    monkeypatch.undo()


async def test_a_stream_has_many_requests_and_no_request_id_of_its_own(door: Door) -> None:
    remembered = door.runtime.feedback.answers
    stream = door.infer.ModelStreamInfer(iter([request(), request()]), metadata=(("x-request-id", "all"),))
    assert [answer.error_message async for answer in stream] == ["", ""]
    assert not remembered.knows("all")
    await door.infer.ModelInfer(request(), metadata=(("x-request-id", "one"),))
    assert remembered.knows("one")


@pytest.mark.parametrize(
    "tiny",
    [b"\x2a\x00", b"\x32\x00", b"\x3a\x00", b"\x22\x00", b"\xf8\x01\x01", b"\x0a\x00"],
    ids=["inputs", "outputs", "raw contents", "parameters", "unknown fields", "names"],
)
async def test_megabytes_of_tiny_fields_are_refused_unread_and_large_raw_tensors_are_not(
    door: Door, tiny: bytes
) -> None:
    method = door.channel.unary_unary(f"/{SERVICE}/ModelInfer")
    code, details, _ = await refusal(method(tiny * (2**20 // len(tiny))))
    assert (code, "at most 65536 fields" in details) == ("INVALID_ARGUMENT", True)
    pixels = np.zeros((1024, 28, 28, 1), np.uint8)
    large = pb.ModelInferRequest(model_name="clothes", raw_input_contents=[pixels.tobytes()])
    large.inputs.add(name="input", datatype="UINT8", shape=pixels.shape)
    assert list((await door.infer.ModelInfer(large)).outputs[0].shape) == [1024, 3]


async def test_a_question_of_any_other_kind_is_small(door: Door) -> None:
    for place in (f"/{SERVICE}/ModelMetadata", "/grpc.health.v1.Health/Check"):
        code, details, _ = await refusal(door.channel.unary_unary(place)(b"\xf8\x01\x01" * 100_000))
        assert (code, "at most 131072 bytes. Received: 300000" in details) == ("INVALID_ARGUMENT", True)


async def test_only_so_many_may_watch_the_health(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.readiness._MOST_WATCHERS", 2)
    watched = health_pb2.HealthCheckRequest()
    first, second = door.health.Watch(watched), door.health.Watch(watched)
    for watch in (first, second):
        assert (await watch.read()).status == HEALTH.SERVING
    code, details, metadata = await refusal(door.health.Watch(watched).read())
    assert (code, "Ask with Check" in details) == ("RESOURCE_EXHAUSTED", True)
    assert metadata["retry-after"] == "60"
    second.cancel()
    async with asyncio.timeout(10):
        while True:
            third = door.health.Watch(watched)
            try:
                assert (await third.read()).status == HEALTH.SERVING
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.01)
            else:
                break
    door.runtime.draining = True
    for watch in (first, third):
        assert (await watch.read()).status == HEALTH.NOT_SERVING
    for watch in (first, third):
        watch.cancel()


async def test_a_request_is_answered_under_its_id_and_counted(door: Door) -> None:
    call = door.infer.ModelInfer(request(id="mine"), metadata=[("x-serving-details", "1")])
    answer = await call
    assert (answer.id, answer.model_name) == ("mine", "cars")
    trailing = dict(await call.trailing_metadata())
    assert trailing["x-request-id"] == "mine"
    assert trailing["x-model-version"] == answer.model_version
    assert "infer;dur=" in trailing["server-timing"]
    assert (
        counted(door.runtime, 'requests_total{alias="production",code="200",model="cars",route="grpc/ModelInfer"}') == 1
    )
    assert door.runtime.inflight == 0


@pytest.mark.parametrize(
    ("message", "code", "words"),
    [
        (request(model="nope"), "NOT_FOUND", "Known models: cars"),
        (request(model_version="20260102-030405-00000000"), "NOT_FOUND", "No version"),
        (request(rows_of(CARS, 3) * 1e6), "INVALID_ARGUMENT", "weight"),
        (pb.ModelInferRequest(model_name="cars"), "INVALID_ARGUMENT", "is required"),
    ],
)
async def test_a_refusal_has_the_code_and_says_what_is_wrong(door: Door, message: Any, code: str, words: str) -> None:
    found, details, trailing = await refusal(door.infer.ModelInfer(message))
    assert found == code
    assert words in details
    assert trailing["x-request-id"]


async def test_bytes_that_are_no_message_are_refused_and_not_logged(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("ModelInfer", "ModelMetadata"):
        code, details, _ = await refusal(door.channel.unary_unary(f"/{SERVICE}/{method}")(b"\xff\xff"))
        assert (code, f"inference.{method}Request" in details) == ("INVALID_ARGUMENT", True)
    assert caplog.records == []


async def test_an_error_that_nobody_foresaw_says_nothing_of_the_inside(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Any) -> Any:
        raise ValueError("the inside")

    door.runtime.loader.served["cars"].batcher = batcher_of(FakeEngine(fail))
    code, details, trailing = await refusal(door.infer.ModelInfer(request()))
    assert code == "INTERNAL"
    assert trailing["x-request-id"] in details
    assert "inside" not in details
    assert "the inside" in caplog.text


async def test_a_full_queue_says_when_to_try_again(door: Door) -> None:
    gate = Gate()
    door.hold(gate, max_queue_rows=2)
    calls = [door.infer.ModelInfer(request())]
    await gate.reached()
    calls.append(door.infer.ModelInfer(request()))
    batcher = door.runtime.loader.served["cars"].batcher
    await until(lambda: batcher.queued_rows == 2)
    code, details, trailing = await refusal(door.infer.ModelInfer(request()))
    gate.opened.set()
    await asyncio.gather(*calls)
    assert code == "RESOURCE_EXHAUSTED"
    assert "queue of cars is full" in details
    assert int(trailing["retry-after"]) >= 1
    assert int(trailing["grpc-retry-pushback-ms"]) >= 1


@pytest.mark.parametrize("end", ["cancelled", "deadline"])
async def test_what_nobody_waits_for_any_more_is_not_computed(door: Door, end: str) -> None:
    gate = Gate()
    engine = door.hold(gate)
    first = door.infer.ModelInfer(request())
    await gate.reached()
    batcher = door.runtime.loader.served["cars"].batcher
    # Long enough to come into the queue first.
    unwanted = door.infer.ModelInfer(request(OTHERS), timeout=None if end == "cancelled" else 2.0)
    await until(lambda: batcher.queued_rows == 2)
    if end == "cancelled":
        unwanted.cancel()
    else:
        assert (await refusal(unwanted))[0] == "DEADLINE_EXCEEDED"
    await until(lambda: batcher.queued_rows == 0)
    gate.opened.set()
    await first
    assert engine.batches == [ROWS[:, 0].tolist()]
    await until(lambda: counted(door.runtime, "disconnects_total") + counted(door.runtime, 'code="504"') == 1)
    if end == "cancelled":
        assert counted(door.runtime, "disconnects_total") == 1
    await until(lambda: door.runtime.inflight == 0)


async def test_what_comes_after_the_time_of_draining_is_told_to_go_elsewhere(door: Door) -> None:
    door.runtime.stopping = True
    code, words, metadata = await refusal(door.infer.ModelInfer(request()))
    assert (code, metadata["retry-after"]) == ("UNAVAILABLE", "1")
    assert "being stopped" in words


async def test_a_connection_is_made_anew_after_a_while_and_no_call_fails_for_it(
    start_runtime: StartRuntime, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grpc_server, "_CONNECTION_MS", 100)
    runtime = await start_runtime(settings.model_copy(update={"grpc_port": 0}))
    peers: set[str] = set()
    read = Calls.question

    def watched(self: Calls, context: Any, *, named: bool = True) -> Any:
        peers.add(context.peer())
        return read(self, context, named=named)

    monkeypatch.setattr(Calls, "question", watched)
    async with opened(runtime) as door, asyncio.timeout(30):
        while len(peers) < 3:
            assert (await door.infer.ModelInfer(request())).model_name == "cars"


async def test_keys_open_predictions_and_nothing_else_needs_one(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    keyed = Settings.load(home=settings.home, pretrained=settings.pretrained, api_keys=KEY, grpc_port=0)
    async with opened(await start_runtime(keyed)) as door:
        code, details, _ = await refusal(door.infer.ModelInfer(request()))
        assert (code, "API key" in details, KEY in details) == ("UNAUTHENTICATED", True, False)
        for metadata in ([("authorization", f"Bearer {KEY}")], [("x-api-key", KEY)]):
            assert (await door.infer.ModelInfer(request(), metadata=metadata)).model_name == "cars"
        assert (await door.infer.ModelMetadata(pb.ModelMetadataRequest(name="cars"))).name == "cars"
        assert (await door.health.Check(health_pb2.HealthCheckRequest())).status == HEALTH.SERVING


async def test_a_message_above_the_limit_of_bodies_is_refused_compressed_or_not(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    small = settings.model_copy(update={"grpc_port": 0, "max_body_bytes": 2048})
    async with opened(await start_runtime(small)) as door:
        large = request(rows_of(CARS, 200) * 0)
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            code, details, _ = await refusal(door.infer.ModelInfer(large, compression=compression))
            assert code == "RESOURCE_EXHAUSTED"
            assert "2048" in details


async def test_health_follows_readiness_by_the_standard_protocol(door: Door) -> None:
    for service in ("", SERVICE, "grpc.health.v1.Health"):
        assert (await door.health.Check(health_pb2.HealthCheckRequest(service=service))).status == HEALTH.SERVING
    assert (await refusal(door.health.Check(health_pb2.HealthCheckRequest(service="other"))))[0] == "NOT_FOUND"
    watch = door.health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == HEALTH.SERVING
    door.runtime.draining = True
    assert (await watch.read()).status == HEALTH.NOT_SERVING
    assert (await door.health.Check(health_pb2.HealthCheckRequest())).status == HEALTH.NOT_SERVING
    other = door.health.Watch(health_pb2.HealthCheckRequest(service="other"))
    assert (await other.read()).status == HEALTH.SERVICE_UNKNOWN
    assert not (await door.infer.ServerReady(pb.ServerReadyRequest())).ready
    assert (await door.infer.ServerLive(pb.ServerLiveRequest())).live


async def test_a_stream_answers_in_order_and_outlives_an_error(door: Door) -> None:
    stream = door.infer.ModelStreamInfer(iter([request(id="1"), request(model="nope", id="2"), request(id="3")]))
    found = [(answer.infer_response.id, bool(answer.error_message)) async for answer in stream]
    assert found == [("1", False), ("2", True), ("3", False)]


async def test_the_stop_answers_calls_in_flight_and_waits_for_no_idle_stream(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    async with opened(await start_runtime(settings.model_copy(update={"grpc_port": 0}))) as door:
        stream = door.infer.ModelStreamInfer()
        await stream.write(request())
        assert (await stream.read()).infer_response.model_name == "cars"
        watch = door.health.Watch(health_pb2.HealthCheckRequest())
        await watch.read()
        gate = Gate()
        door.hold(gate)
        call = door.infer.ModelInfer(request())
        await gate.reached()
        stopping = asyncio.create_task(door.server.stop())
        await asyncio.sleep(0.05)
        gate.opened.set()
        assert (await call).model_name == "cars"
        async with asyncio.timeout(10):
            await stopping
        assert (await refusal(door.infer.ServerLive(pb.ServerLiveRequest())))[0] == "UNAVAILABLE"


async def test_numbers_of_the_server_and_its_models_have_the_protocols_form(door: Door) -> None:
    await door.infer.ModelInfer(request())
    index = (await door.infer.RepositoryIndex(pb.RepositoryIndexRequest())).models
    assert [(model.name, model.state) for model in index] == [(name, "READY") for name in ("cars", "clothes", "heat")]
    statistics = (await door.infer.ModelStatistics(pb.ModelStatisticsRequest(name="cars"))).model_stats
    assert [(one.inference_count, one.execution_count) for one in statistics] == [(len(ROWS), 1)]
    metadata = await door.infer.ModelMetadata(pb.ModelMetadataRequest(name="cars", version="production"))
    assert [(one.name, one.datatype) for one in metadata.inputs] == [
        ("weight", "FP32"),
        ("horsepower", "FP32"),
        ("origin", "BYTES"),
    ]
    config = (await door.infer.ModelConfig(pb.ModelConfigRequest(name="clothes"))).config
    assert [list(one.dims) for one in config.input] == [[28, 28, 1]]
    assert not (await door.infer.ModelReady(pb.ModelReadyRequest(name="nope"))).ready
    code, details, _ = await refusal(door.infer.ModelMetadata(pb.ModelMetadataRequest(name="nope")))
    assert (code, "Known models" in details) == ("NOT_FOUND", True)
