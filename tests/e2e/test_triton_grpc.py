"""The Open Inference Protocol over gRPC as Triton's own client speaks it, to real server processes."""

import asyncio
import base64
import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from models.bundle import Bundle
from models.task import ImageClassification, Records, SequenceForecast
from service.settings import PRETRAINED
from tests.bundles import CARS, make_bundle, rows_of
from tests.e2e.server import Server, free_port, running, wait_for
from tests.e2e.test_predictions import MODELS, instance_of, output_of

KEY = "a-key-that-is-long-enough"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as found:
        yield found


@asynccontextmanager
async def asyncio_client(server: Server) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(server.grpc) as found:
        yield found


def tensor(name: str, array: NDArray[Any]) -> triton.InferInput:
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    return found.set_data_from_numpy(array)


def tensors(task: Any, rows: NDArray[Any]) -> list[triton.InferInput]:
    """Rows as a client sends them: a record as one tensor a column, a category as text."""
    if not isinstance(task, Records):
        return [tensor("input", rows)]
    records = [task.record(row) for row in rows]
    columns = {name: np.array([[record[name]] for record in records]) for name in records[0]}
    return [tensor(name, c.astype(object if c.dtype.kind == "U" else np.float32)) for name, c in columns.items()]


def outputs(task: Any, result: Any) -> NDArray[np.float32]:
    """An answer as output rows."""
    if isinstance(task, ImageClassification):
        return result.as_numpy("probabilities")  # type: ignore[no-any-return]
    first = "forecast" if isinstance(task, SequenceForecast) else "value"
    return np.stack([result.as_numpy(name) for name in (first, "low", "high")], axis=-1).reshape(-1, *task.output_shape)


def cars(count: int = 1, seed: int = 0) -> list[triton.InferInput]:
    return [tensor("input", rows_of(CARS, count, seed))]


@pytest.mark.parametrize("name", MODELS)
def test_a_row_gives_the_same_bits_over_grpc_as_over_http_alone_and_among_others(
    server: Server, client: triton.InferenceServerClient, name: str
) -> None:
    bundle = Bundle.open(PRETRAINED / name)
    task, rows = bundle.manifest.task, bundle.golden()[0][:7]
    body = {"instances": [instance_of(task, row) for row in rows]}
    answer = httpx.post(f"{server.url}/predict/{name}", json=body).raise_for_status().json()
    over_http = np.array([output_of(task, prediction) for prediction in answer["predictions"]], np.float32)
    together = outputs(task, client.infer(name, tensors(task, rows)))
    alone = np.concatenate([outputs(task, client.infer(name, tensors(task, row[np.newaxis]))) for row in rows])
    assert np.array_equal(together, over_http)
    assert np.array_equal(together, alone)


def test_pictures_come_as_files_and_classes_as_text(server: Server, client: triton.InferenceServerClient) -> None:
    example = httpx.get(f"{server.url}/models/cnn").json()["example"]["instances"][0]
    picture = base64.b64decode(example["b64"])
    (expected,) = httpx.post(f"{server.url}/predict/cnn", json={"instances": [example]}).json()["predictions"]
    wanted = [triton.InferRequestedOutput("probabilities", class_count=3)]
    found = client.infer("cnn", [tensor("input", np.array([picture, picture], object))], outputs=wanted)
    texts = found.as_numpy("probabilities")
    assert texts.shape == (2, 3)
    probability, index, label = texts[1, 0].decode().split(":")
    assert (label, int(index)) == (expected["label"], expected["class_id"])
    assert float(probability) == pytest.approx(expected["confidence"], abs=1e-6)


@pytest.mark.parametrize(
    ("model", "inputs", "code", "words"),
    [
        ("nope", cars(), "NOT_FOUND", "Known models: cnn, dnn, lstm, regressor"),
        ("cnn", [tensor("input", np.zeros((1, 9, 9), np.uint8))], "INVALID_ARGUMENT", "shape"),
        ("cnn", [tensor("input", np.full((1, 28, 28), 300, np.int32))], "INVALID_ARGUMENT", "255"),
        ("lstm", [tensor("input", np.array([[b"x"]], object))], "INVALID_ARGUMENT", "input"),
        ("regressor", [tensor("weight", np.ones((1, 1), np.float32))], "INVALID_ARGUMENT", "is required"),
    ],
)
def test_a_refusal_has_a_code_and_says_what_is_wrong(
    client: triton.InferenceServerClient, model: str, inputs: Any, code: str, words: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs)
    assert caught.value.status() == f"StatusCode.{code}"
    assert words in caught.value.message()


def test_a_passed_deadline_is_said_so(client: triton.InferenceServerClient) -> None:
    rows = [tensor("input", np.zeros((1024, 28, 28, 1), np.uint8))]
    for late in ({"client_timeout": 0.002}, {"timeout": 1}):
        with pytest.raises(InferenceServerException) as caught:
            client.infer("cnn", rows, **late)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert client.infer("cnn", [tensor("input", np.zeros((1, 28, 28, 1), np.uint8))], client_timeout=30)


def test_a_call_that_is_cancelled_is_not_computed(server: Server, client: triton.InferenceServerClient) -> None:
    def settled() -> bool:
        return not server.metric("serving_inflight") and not server.metric("serving_queue_depth", model="cnn")

    def cancelled_in_the_queue() -> bool:
        """Cancels two calls; whether what was in the queue was not computed, and both were counted."""
        wait_for(settled)
        rows, left = (server.metric(name) for name in ("serving_batch_size_sum", "serving_client_disconnects_total"))
        ended: queue.Queue[Any] = queue.Queue()
        calls = [client.async_infer("cnn", pictures, callback=lambda result, error: ended.put(error)) for _ in range(2)]
        queued = 0.0
        while not queued and ended.qsize() < len(calls):
            queued = server.metric("serving_queue_depth", model="cnn")
        for call in calls:
            call.cancel()
        cancelled = sum("CANCELLED" in str(ended.get(timeout=60)) for _ in calls)
        wait_for(settled)
        computed = server.metric("serving_batch_size_sum") - rows
        disconnects = server.metric("serving_client_disconnects_total") - left
        return bool(queued and cancelled) and computed < 2 * 1024 and disconnects >= cancelled

    pictures = [tensor("input", np.zeros((1024, 28, 28, 1), np.uint8))]
    # On a busy machine both may be computed before anybody looks; computed each time, they would never be left out.
    wait_for(cancelled_in_the_queue, "a call that is cancelled in the queue")


def test_the_server_describes_itself_and_its_models(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "classification" in client.get_server_metadata().extensions
    index = client.get_model_repository_index().models
    assert {model.name: model.state for model in index} == dict.fromkeys(MODELS, "READY")
    metadata, config = client.get_model_metadata("regressor"), client.get_model_config("regressor").config
    assert [one.name for one in metadata.inputs] == [one.name for one in config.input]
    (version,) = metadata.versions
    assert client.is_model_ready("regressor", version)
    assert not client.is_model_ready("regressor", "20200101-000000-00000000")


def test_statistics_and_metrics_count_calls(server: Server, client: triton.InferenceServerClient) -> None:
    def counted() -> int:
        return int(client.get_inference_statistics("dnn").model_stats[0].inference_count)

    before = counted()
    client.infer("dnn", [tensor("input", np.zeros((3, 28, 28), np.uint8))], request_id="mine")
    assert counted() - before == 3
    route = {"route": "grpc/ModelInfer", "model": "dnn", "alias": "production"}
    assert server.metric("serving_requests_total", code="200", **route) >= 1
    assert server.metric("serving_request_duration_seconds_count", **route) >= 1


def test_health_checking_is_the_standard_one(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        for service in ("", "inference.GRPCInferenceService"):
            found = check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert found.status == health_pb2.HealthCheckResponse.SERVING


def test_a_stream_of_the_real_client_is_answered_in_order(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(20):
        model = "nope" if i == 7 else "dnn"
        client.async_stream_infer(model, [tensor("input", np.zeros((1, 28, 28), np.uint8))], request_id=str(i))
    found = [answers.get(timeout=60) for _ in range(20)]
    client.stop_stream()
    assert [i for i, (_, error) in enumerate(found) if error is not None] == [7]
    assert [result.get_response().id for result, _ in found if result is not None] == [
        str(i) for i in range(20) if i != 7
    ]


async def test_calls_of_the_asyncio_client_share_the_queue_and_get_their_own_answers(
    server: Server, client: triton.InferenceServerClient
) -> None:
    rows = rows_of(Bundle.open(PRETRAINED / "dnn").manifest.task, 40)
    expected = client.infer("dnn", [tensor("input", rows)]).as_numpy("probabilities")
    async with asyncio_client(server) as aio:
        found = await asyncio.gather(*(aio.infer("dnn", [tensor("input", row[np.newaxis])]) for row in rows))
    assert np.array_equal(np.concatenate([one.as_numpy("probabilities") for one in found]), expected)


def test_with_keys_a_prediction_needs_one_and_connections_spread_over_the_workers(home: Path, tmp_path: Path) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    with running(home, "--workers", "2", pretrained=tmp_path / "pre", grpc=True, SERVING_API_KEYS=KEY) as server:
        # The server is ready as soon as one of its workers is.
        server.wait_for_workers(2)
        deadline, calls = time.monotonic() + 60, 0
        while time.monotonic() < deadline:
            calls += 1
            # A connection of its own: channels to the same address would else share one.
            with triton.InferenceServerClient(server.grpc, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as one:
                one.infer("cars", cars(), headers={"authorization": f"Bearer {KEY}"})
                (statistics,) = one.get_inference_statistics("cars").model_stats
            if statistics.inference_count < calls:
                # This worker has not answered all calls: the other one has answered too.
                break
        assert statistics.inference_count < calls
        with triton.InferenceServerClient(server.grpc) as one:
            with pytest.raises(InferenceServerException) as caught:
                one.infer("cars", cars())
            assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
            assert one.get_model_metadata("cars").name == "cars"


async def test_after_sigterm_calls_in_flight_are_answered_and_the_process_ends_with_0(
    home: Path, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "pre", "cars", CARS)
    answered, after = 0, []
    with running(home, pretrained=tmp_path / "pre", grpc=True, SERVING_DRAIN_S="0.5") as server:
        async with asyncio_client(server) as aio:

            async def caller() -> None:
                nonlocal answered
                while not after:
                    try:
                        await aio.infer("cars", cars(64))
                        answered += 1
                    except InferenceServerException as error:
                        # The first refusal ends all callers.
                        after.append((error.status(), error.message()))

            callers = [asyncio.create_task(caller()) for _ in range(8)]
            while answered < 100:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.gather(*callers)
        assert {status for status, _ in after} == {"StatusCode.UNAVAILABLE"}
        # Refused, by the server or, to one that is late, for want of it; and none of those lost that had been taken on.
        refusals = ("This server is being stopped", "failed to connect to all addresses")
        assert [message for _, message in after if not any(words in message for words in refusals)] == []
        assert await asyncio.to_thread(server.process.wait, 60) == 0
        assert "Traceback" not in server.text


def test_a_port_that_was_asked_for_and_is_taken_is_refused_in_one_line(server: Server, tmp_path: Path) -> None:
    taken = server.grpc.rpartition(":")[2]
    command = [str(Path(sys.executable).with_name("keras-serving")), "serve", "--port", str(free_port())]
    environment = {k: v for k, v in os.environ.items() if k != "SERVING_GRPC_PORT"} | {"SERVING_HOME": str(tmp_path)}
    run = partial(subprocess.run, capture_output=True, text=True, check=False)
    done = run([*command, "--grpc-port", taken], env=environment)
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [f"keras-serving: cannot listen on {server.grpc}: Address already in use. Choose another --grpc-port."],
    )
