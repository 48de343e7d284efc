"""What a request says of its own answer: how long it waits, that it is gone. And what a stopping server refuses."""

import asyncio
import re

import pytest

from models.errors import DecodeError
from service.errors import QueueFullError
from service.inference import respond
from service.protocols import native
from service.protocols.base import Question
from service.runtime import Runtime
from service.settings import Settings
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime, client_of, until
from tests.service.test_gateway import CAR, JSON, Held, body_of, check_problem, predict
from tests.service.test_metrics import rendered


def within(milliseconds: str) -> dict[str, str]:
    return JSON | {"x-request-timeout-ms": milliseconds}


async def test_an_answer_in_time_is_given_though_the_request_has_a_deadline(client: Client) -> None:
    answer = await client("POST", "/predict/cars", body_of(CAR), headers=within("60000"))
    assert answer.status == 200


async def test_a_request_whose_deadline_passes_in_the_queue_is_504_and_never_computed(runtime: Runtime) -> None:
    held = Held(runtime, "cars")
    first = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.to_thread(held.entered.wait, 10)
    # The engine is held all the while: only the deadline can end this.
    late = await client_of(runtime)("POST", "/predict/cars", body_of(CAR), headers=within("20"))
    check_problem(late, 504)
    held.go.set()
    assert (await first).status == 200
    assert held.runs == 1
    assert rendered(runtime.metrics)['serving_rejected_total{reason="deadline"}'] == 1


async def test_a_deadline_ends_the_wait_for_a_body_that_does_not_come(runtime: Runtime) -> None:
    client = client_of(runtime)
    # The rest of the body never comes, nor does the client leave.
    answer = await client("POST", "/predict/cars", [body_of(CAR)[:10]], headers=within("20"), whole=False)
    check_problem(answer, 504)


@pytest.mark.parametrize("value", ["0", "-5", "soon", "nan", "inf", "3600001", "1e9", "5 ms"])
async def test_a_timeout_that_is_no_number_of_milliseconds_is_422_and_named(client: Client, value: str) -> None:
    problem = check_problem(await client("POST", "/predict/cars", body_of(CAR), headers=within(value)), 422)
    assert problem["errors"][0]["field"] == "header X-Request-Timeout-Ms"
    assert value in problem["errors"][0]["received"]


async def test_details_come_for_who_asks_for_them(client: Client) -> None:
    plain = await predict(client, CAR)
    assert "server-timing" not in plain.headers
    answer = await client("POST", "/predict/cars", body_of(CAR, CAR), headers=JSON | {"x-serving-details": "1"})
    assert re.fullmatch(
        r"decode;dur=\d+\.\d{3}, queue;dur=\d+\.\d{3}, infer;dur=\d+\.\d{3}, encode;dur=\d+\.\d{3}",
        answer.headers["server-timing"],
    )
    assert answer.headers["x-model-version"] == answer.json["version"]
    assert answer.headers["x-batch-rows"] == "2"


async def test_details_come_with_every_answer_where_the_setting_says_so(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"response_details": True}))
    assert (await predict(client_of(runtime), CAR)).headers["x-batch-rows"] == "1"


async def test_a_client_that_leaves_while_its_rows_wait_is_not_computed_and_counted(runtime: Runtime) -> None:
    held = Held(runtime, "cars")
    first = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.to_thread(held.entered.wait, 10)
    batcher = runtime.loader.find("cars").batcher
    batcher._busy_until += 60
    client = client_of(runtime)
    gone = asyncio.create_task(client("POST", "/predict/cars", body_of(CAR, CAR), headers=JSON))
    await until(lambda: batcher.queued_rows == 2)
    client.leave.set()
    with pytest.raises(ValueError, match="unpack"):
        await gone
    assert client.sent == []
    assert batcher.queued_rows == 0
    held.go.set()
    assert (await first).status == 200
    assert held.runs == 1
    assert runtime.inflight == 0
    assert rendered(runtime.metrics)["serving_client_disconnects_total{}"] == 1


async def test_nobody_looks_after_clients_whose_answer_is_due_at_once(runtime: Runtime) -> None:
    client = client_of(runtime)
    client.leave.set()
    assert (await predict(client, CAR)).status == 200


async def test_a_request_that_the_server_cancels_is_a_client_that_left(runtime: Runtime) -> None:
    held = Held(runtime, "cars")
    gone = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.to_thread(held.entered.wait, 10)
    gone.cancel()
    held.go.set()
    await asyncio.gather(gone, return_exceptions=True)
    assert rendered(runtime.metrics)["serving_client_disconnects_total{}"] == 1


async def test_what_comes_after_the_time_of_draining_is_503_on_a_connection_that_ends(runtime: Runtime) -> None:
    runtime.draining = runtime.stopping = True
    check_problem(await predict(client_of(runtime), CAR), 503, retry_after="1", connection="close")


async def test_a_refusal_while_draining_ends_its_connection_too(runtime: Runtime) -> None:
    runtime.draining = True
    check_problem(await predict(client_of(runtime), "no car"), 422, connection="close")


async def test_where_the_queue_filled_up_while_a_body_came_in_that_body_is_not_decoded(runtime: Runtime) -> None:
    served = runtime.loader.find("cars")
    question = Question(native, "1", JSON["content-type"].encode(), b"not even JSON")
    with pytest.raises(DecodeError):
        await respond(served, question, runtime.settings)
    served.batcher.queued_rows += runtime.settings.max_queue_rows
    with pytest.raises(QueueFullError):
        await respond(served, question, runtime.settings)
    served.batcher.queued_rows -= runtime.settings.max_queue_rows
