"""What is answered before the models are loaded."""

import asyncio
from pathlib import Path

from models.bundle import ONNX
from models.store import Store
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import SERIES, example_of
from tests.service.conftest import StartRuntime, client_of
from tests.service.test_gateway import CAR, JSON, body_of, check_problem, predict


async def test_a_prediction_waits_for_the_models_of_a_worker_that_has_just_started(
    settings: Settings, thawed_garbage: None
) -> None:
    runtime = Runtime.create(settings.model_copy(update={"start_wait_s": 60.0}))
    early = asyncio.create_task(predict(client_of(runtime), CAR))
    await asyncio.sleep(0.05)
    assert not early.done()
    await runtime.start()
    assert (await early).status == 200
    await runtime.close()


async def test_a_prediction_waits_for_the_models_no_longer_than_its_deadline(settings: Settings) -> None:
    client = client_of(Runtime.create(settings.model_copy(update={"start_wait_s": 30})))
    async with asyncio.timeout(10):
        answer = await client("POST", "/predict/cars", body_of(CAR), headers=JSON | {"x-request-timeout-ms": "5"})
    check_problem(answer, 504)


async def test_a_model_is_503_while_it_is_loaded_for_longer_than_a_request_waits(settings: Settings) -> None:
    client = client_of(Runtime.create(settings.model_copy(update={"start_wait_s": 0.01})))
    answer = await predict(client, CAR)
    check_problem(answer, 503)
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_model_whose_version_cannot_be_loaded_is_503_and_the_others_answer(
    start_runtime: StartRuntime, settings: Settings, store: Store, tmp_path: Path
) -> None:
    (store.home / "models" / "cars" / store.versions("cars")[0] / ONNX).write_bytes(b"x")
    client = client_of(await start_runtime(settings.model_copy(update={"pretrained": tmp_path / "none"})))
    answer = await predict(client, CAR)
    check_problem(answer, 503)
    assert "retry-after" in answer.headers
    assert (await predict(client, example_of(SERIES), model="heat")).status == 200
