"""The front door, driven as an ASGI application: every status code, every limit, every way to leave."""

import asyncio
import json
import logging
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from models.errors import EngineError
from models.store import Store
from service.gateway import Gateway
from service.protocols import native
from service.protocols.base import Decoded, Question
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, IMAGE, SERIES, example_of, rows_of, run_offline
from tests.service.asgi import Answer, Client
from tests.service.conftest import StartRuntime, bentoml_stub, client_of, until
from tests.service.test_metrics import rendered

JSON = {"content-type": "application/json"}
CAR = {"weight": 3504, "horsepower": 130, "origin": "usa"}


def body_of(*instances: Any) -> bytes:
    return json.dumps({"instances": instances}).encode()


async def predict(client: Client, *instances: Any, model: str = "cars", **options: Any) -> Answer:
    return await client("POST", f"/predict/{model}", body_of(*instances), headers=JSON, **options)


def check_problem(answer: Answer, status: int, **headers: str) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json
    assert document["status"] == status
    assert document["request_id"] == answer.headers["x-request-id"]
    for name, value in headers.items():
        assert answer.headers[name.replace("_", "-")] == value
    return document


class Held:
    """Stands in front of an engine and holds its batches until it is let go."""

    def __init__(self, runtime: Runtime, model: str) -> None:
        served = runtime.loader.find(model)
        self.engine, self.go, self.entered, self.runs = served.engine, threading.Event(), threading.Event(), 0
        self.name, self.device, self.in_flight = self.engine.name, self.engine.device, 1
        self.padded, self.split_rows = "", 0
        served.batcher._engine = self
        served.batcher.inline_rows = 0

    def run(self, rows: np.ndarray) -> np.ndarray:
        self.runs += 1
        self.entered.set()
        assert self.go.wait(10)
        return self.engine.run(rows)


class Broken:
    """An engine that fails on rows of which one has the weight 666."""

    name, device, in_flight, padded, split_rows = "broken", "cpu", 1, "", 0

    def __init__(self, runtime: Runtime, error: Exception | None = None) -> None:
        served = runtime.loader.find("cars")
        self.engine, self.error = served.engine, error
        served.batcher._engine = self

    def run(self, rows: np.ndarray) -> np.ndarray:
        bad = rows[:, 0] == 666
        if bad.any() and self.error is not None:
            raise self.error
        outputs = self.engine.run(rows)
        outputs[bad] = np.nan
        return outputs


@pytest.mark.parametrize(("model", "task"), [("cars", CARS), ("clothes", IMAGE), ("heat", SERIES)])
async def test_a_prediction_is_answered_with_what_the_bundle_says_offline(
    client: Client, store: Store, model: str, task: Any
) -> None:
    rows = rows_of(task, 2, seed=5)
    instances = [task.record(row) for row in rows] if task is CARS else rows.squeeze(-1).tolist()
    answer = await predict(client, *instances, model=model)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    bundle = store.open(model, store.versions(model)[0])
    assert answer.json["request_id"] == answer.headers["x-request-id"]
    question = Question(native, answer.json["request_id"], b"", b"")
    offline = native.encode(bundle.manifest, question, Decoded(rows), run_offline(bundle, rows))
    assert answer.json == json.loads(offline.body)


async def test_a_body_may_come_in_any_chunks(client: Client) -> None:
    whole = body_of(CAR, CAR)
    expected = (await predict(client, CAR, CAR)).json["predictions"]
    for chunks in ([whole, b""], [b"", whole], [whole[:7], whole[7:]], [bytes([byte]) for byte in whole]):
        answer = await client("POST", "/predict/cars", chunks, headers=JSON)
        assert answer.json["predictions"] == expected


async def test_an_unknown_model_is_404_with_the_known_names(client: Client) -> None:
    problem = check_problem(await predict(client, CAR, model="trains"), 404)
    assert "cars, clothes, heat" in problem["detail"]


@pytest.mark.parametrize(
    "path", ["/predict/..%2F..%2Fetc", "/predict/cars/", "/predict/cars/x", "/predict/%00", "/predict//"]
)
async def test_a_path_that_is_no_models_name_is_404(client: Client, path: str) -> None:
    check_problem(await client("POST", path, body_of(CAR), headers=JSON), 404)


@pytest.mark.parametrize("path", ["/nowhere", "/predictions", "/..", "/admin", "//", "/livez/", "/models/a/b"])
async def test_a_path_that_leads_nowhere_is_404(client: Client, path: str) -> None:
    problem = check_problem(await client("GET", path), 404)
    assert "/docs" in problem["detail"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_another_method_is_405_and_names_the_right_one(client: Client, method: str) -> None:
    check_problem(await client(method, "/predict/cars"), 405, allow="POST")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"instances": [NaN]}'])
async def test_a_body_that_cannot_be_read_is_400(client: Client, body: bytes) -> None:
    check_problem(await client("POST", "/predict/cars", body, headers=JSON), 400)


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-pickle", "image/png", ""])
async def test_a_media_type_that_the_model_does_not_take_is_415(client: Client, content_type: str) -> None:
    headers = {"content-type": content_type} if content_type else {}
    problem = check_problem(await client("POST", "/predict/cars", b"x", headers=headers), 415)
    assert "application/json" in problem["detail"]


async def test_a_value_that_breaks_the_schema_is_422_with_its_path(client: Client) -> None:
    problem = check_problem(await predict(client, CAR, CAR, CAR, {**CAR, "weight": 12}), 422)
    (error,) = problem["errors"]
    assert error["field"] == "instances[3].weight"
    assert error.keys() == {"field", "rule", "received", "remedy"}


async def test_an_unknown_query_parameter_is_422(client: Client) -> None:
    answer = await client("POST", "/predict/clothes?top=1", body_of(example_of(IMAGE)), headers=JSON)
    assert check_problem(answer, 422)["errors"][0]["field"] == "query.top"


async def test_top_k_shortens_the_probabilities(client: Client) -> None:
    answer = await client("POST", "/predict/clothes?top_k=1", body_of(example_of(IMAGE)), headers=JSON)
    (prediction,) = answer.json["predictions"]
    assert list(prediction["probabilities"]) == [prediction["label"]]


async def test_a_full_queue_is_429_with_retry_after_before_the_body_is_read_and_recovers(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"max_queue_rows": 2, "max_request_rows": 2}))
    held = Held(runtime, "cars")
    running = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.to_thread(held.entered.wait, 10)
    waiting = asyncio.create_task(predict(client_of(runtime), CAR, CAR))
    while runtime.loader.find("cars").batcher.queued_rows < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    client = client_of(runtime)
    answer = await predict(client, CAR)
    check_problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    assert client.chunks_read == 0
    held.go.set()
    assert [(await task).status for task in (running, waiting)] == [200, 200]
    assert (await predict(client, CAR)).status == 200


@pytest.mark.parametrize("error", [EngineError("at /secret"), ZeroDivisionError("at /secret"), None])
async def test_a_model_that_fails_is_500_without_the_inside_and_only_for_its_owner(
    client: Client, runtime: Runtime, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    Broken(runtime, error)
    bad, good = await asyncio.gather(
        predict(client_of(runtime), {**CAR, "weight": 666}), predict(client_of(runtime), CAR)
    )
    problem = check_problem(bad, 500)
    assert "secret" not in json.dumps(problem)
    assert problem["request_id"] in caplog.text
    assert good.status == 200


async def test_an_unforeseen_error_is_500_and_logged_with_its_traceback(
    client: Client, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr("service.protocols.native.predictions", broken)
    problem = check_problem(await predict(client, CAR), 500)
    assert "secret" not in json.dumps(problem)
    assert "ZeroDivisionError" in caplog.text
    assert runtime.inflight == 0


async def test_one_bad_request_does_not_hurt_those_beside_it(runtime: Runtime) -> None:
    requests = [{**CAR, "weight": 12 if i % 3 == 0 else 3000 + i} for i in range(12)]
    answers = await asyncio.gather(*(predict(client_of(runtime), request) for request in requests))
    assert [answer.status for answer in answers] == [422 if i % 3 == 0 else 200 for i in range(12)]


async def test_concurrent_callers_get_their_own_answers(runtime: Runtime, store: Store) -> None:
    rows = rows_of(CARS, 20, seed=4)
    expected = run_offline(store.open("cars", store.versions("cars")[0]), rows)
    answers = await asyncio.gather(*(predict(client_of(runtime), CARS.record(row)) for row in rows))
    values = [answer.json["predictions"][0]["value"] for answer in answers]
    np.testing.assert_allclose(values, expected[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", [0, 1])
async def test_a_client_that_leaves_gets_no_answer_and_holds_nothing(
    client: Client, runtime: Runtime, chunks: int
) -> None:
    with pytest.raises(ValueError, match="not enough values"):
        await client("POST", "/predict/cars", [b"{", b"}"], headers=JSON, leave_after=chunks)
    assert client.sent == []
    assert runtime.inflight == 0
    assert runtime.loader.find("cars").users == 0
    assert rendered(runtime.metrics)["serving_client_disconnects_total{}"] == 1


async def test_a_cancelled_request_takes_its_rows_out_of_the_queue(runtime: Runtime) -> None:
    held = Held(runtime, "cars")
    running = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.to_thread(held.entered.wait, 10)
    batcher = runtime.loader.find("cars").batcher
    gone = asyncio.create_task(predict(client_of(runtime), CAR, CAR))
    while batcher.queued_rows < 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    assert batcher.queued_rows == 0
    held.go.set()
    assert (await running).status == 200
    assert held.runs == 1
    assert (runtime.inflight, runtime.loader.find("cars").users) == (0, 0)


@pytest.mark.parametrize("wanted", ["a", "A.b_c-9", "x" * 64])
async def test_a_request_id_comes_back(client: Client, wanted: str) -> None:
    answer = await client("POST", "/predict/cars", body_of(CAR), headers={**JSON, "x-request-id": wanted})
    assert answer.headers["x-request-id"] == answer.json["request_id"] == wanted
    refused = await client("POST", "/predict/cars", b"{", headers={**JSON, "x-request-id": wanted})
    assert check_problem(refused, 400)["request_id"] == wanted


@pytest.mark.parametrize("wanted", ["", "x" * 65, "a b", "a\r\nset-cookie: x", "a\n", "<script>", "é", '"'])
async def test_a_request_id_that_could_do_harm_is_replaced(client: Client, wanted: str) -> None:
    answer = await client("POST", "/predict/cars", body_of(CAR), headers={**JSON, "x-request-id": wanted})
    assert re.fullmatch(r"[0-9a-f]{10,}", answer.headers["x-request-id"])
    assert answer.json["request_id"] == answer.headers["x-request-id"]


async def test_every_request_has_an_id_of_its_own(runtime: Runtime) -> None:
    answers = [await predict(client, CAR) for client in (client_of(runtime), client_of(runtime)) for _ in range(5)]
    assert len({answer.headers["x-request-id"] for answer in answers}) == 10


async def test_what_is_bentomls_falls_through(client: Client) -> None:
    for path in ("/predict", "/schema.json", "/docs.json", "/static_content/swagger-ui.css"):
        answer = await client("GET", path)
        assert answer.headers["x-from"] == "bentoml"


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_no_http_request_is_bentomls(runtime: Runtime, kind: str) -> None:
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    await Gateway(runtime, bentoml_stub, inner)({"type": kind}, None, None)  # type: ignore[arg-type]
    assert seen == [kind]


async def test_while_draining_requests_are_answered_and_their_connections_closed(
    client: Client, runtime: Runtime
) -> None:
    assert "connection" not in (await predict(client, CAR)).headers
    runtime.draining = True
    answer = await predict(client, CAR)
    assert (answer.status, answer.headers["connection"]) == (200, "close")


def series(runtime: Runtime) -> set[str]:
    return {name for name in rendered(runtime.metrics) if "_bucket" not in name}


async def test_ten_thousand_random_paths_make_no_new_series(client: Client, runtime: Runtime) -> None:
    async def knock(i: int) -> None:
        await client("GET", f"/x{i}")
        await client("GET", f"/models/x{i}")
        await client("GET", f"/static_content/x{i}")
        await client("GET", f"/models/x{i}/drift")
        await client("POST", f"/predict/x{i}", body_of(CAR), headers=JSON)
        await client("POST", f"/predict/cars?version=x{i}", body_of(CAR), headers=JSON)
        await client("POST", f"/v1/models/x{i}:predict", body_of(CAR), headers=JSON)
        await client("POST", f"/v2/models/x{i}/infer", body_of(CAR), headers=JSON)

    await knock(0)
    # The worker's own gauges are there from their first measurement on.
    await until(lambda: any(name.startswith("serving_event_loop_lag") for name in series(runtime)))
    before = series(runtime)
    for i in range(1, 1250):
        await knock(i)
    assert series(runtime) == before


async def test_every_answer_and_refusal_is_counted_under_its_model_and_code(client: Client, runtime: Runtime) -> None:
    await predict(client, CAR, CAR)
    await predict(client, {**CAR, "weight": 12})
    await predict(client, CAR, model="trains")
    await client("GET", "/predict/cars")
    found = rendered(runtime.metrics)
    labels = 'model="cars",route="/predict/{model}"'
    codes = {
        code: found[f'serving_requests_total{{alias="production",code="{code}",{labels}}}'] for code in (200, 422, 405)
    }
    assert codes == {200: 1, 422: 1, 405: 1}
    assert found['serving_requests_total{alias="",code="404",model="",route="unmatched"}'] == 1
    assert found['serving_predictions_total{class="",model="cars"}'] == 2
    assert found['serving_rejected_total{reason="invalid"}'] == 1


@pytest.fixture(autouse=True)
def _logs_are_captured(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    # Importing the service elsewhere may have given its loggers handlers of their own.
    logger = logging.getLogger("service")
    propagate, logger.propagate = logger.propagate, True
    yield
    logger.propagate = propagate
