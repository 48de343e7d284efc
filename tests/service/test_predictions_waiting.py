"""What must wait for something goes with a task, and is answered as ever; what need not leaves no garbage behind."""

import asyncio
import gc
import gzip
import json
from collections.abc import AsyncIterator
from typing import Any, cast

import numpy as np
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from models.pictures import png
from models.store import Store
from service.bounded import DEFAULT
from service.fast_path import FastPath
from service.predictions import Predictions, Request
from service.protocols.base import Response
from service.runtime import Runtime
from service.settings import Settings
from tests.service.conftest import until
from tests.service.test_gateway import CAR, body_of
from tests.service.test_metrics import rendered
from tests.service.test_predictions import (
    IN_JSON,
    V1,
    V2,
    asked,
    car,
    check_nothing_held,
    comparable,
    directly,
    v2,
    with_tasks,
)
from tests.service.test_predictions_queued import holding
from tests.service.test_traffic import begin as begin_canary
from tests.service.test_traffic import candidate

__all__ = ["candidate"]


async def by_a_task(predictions: Predictions, request: Request) -> Response | None:
    """What `answer` gives, which has begun one task for it."""
    given: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    left = predictions.answer(request, given.set_result)
    (begun,) = asyncio.all_tasks() - before
    assert left == begun.cancel
    return await asyncio.wait_for(given, 20)


LARGE = b" " * 50_000
GZIP = (b"content-encoding", b"gzip")
NOISE = np.random.default_rng(0).integers(0, 256, (900, 900, 1), dtype=np.uint8)
PICTURES = {"name": "input", "datatype": "BYTES", "shape": [2], "data": [IN_JSON["b64"]] * 2}
WAITING = {
    "large body": asked("/predict/cars", body_of(CAR) + LARGE),
    "large body of v1": asked(V1, body_of(CAR) + LARGE),
    "large body of v2": asked(V2, v2() + LARGE),
    "gzip": asked("/predict/cars", gzip.compress(body_of(CAR)), GZIP),
    "large picture": asked("/predict/clothes", png(NOISE), (b"content-type", b"image/png")),
    "two pictures": asked("/predict/clothes", body_of(IN_JSON, IN_JSON)),
    "two pictures of v1": asked("/v1/models/clothes:predict", body_of(IN_JSON, IN_JSON)),
    "two pictures of v2": asked("/v2/models/clothes/infer", json.dumps({"inputs": [PICTURES]}).encode()),
}


@pytest.mark.parametrize("name", WAITING)
async def test_what_takes_long_to_decode_goes_with_a_task(runtime: Runtime, name: str) -> None:
    found = comparable(await by_a_task(Predictions(runtime), WAITING[name]))
    assert found[0] == 200, found
    (expected,) = await with_tasks(runtime, WAITING[name])
    assert found[2] == comparable(expected)[2]
    check_nothing_held(runtime)


async def test_a_client_that_leaves_what_takes_long_is_counted_once(runtime: Runtime) -> None:
    given: list[Response | None] = []
    with holding(runtime) as held:
        left = Predictions(runtime).answer(WAITING["large body"], given.append)
        assert await asyncio.to_thread(held.entered.wait, 10)
        left()
        await until(lambda: given)
    assert given == [None]
    check_nothing_held(runtime)
    assert runtime.metrics.disconnects._value.get() == 1


async def test_a_canary_gets_its_share_of_small_requests_and_those_with_a_key_the_same_version_each_time(
    runtime: Runtime, store: Store, candidate: str
) -> None:
    split = (await begin_canary(runtime, percent=50)).find("cars").split
    assert split is not None
    predictions = Predictions(runtime)
    ours, theirs = (next(b"%d" % n for n in range(99) if split.takes(b"%d" % n) is side) for side in (False, True))
    production = store.aliases().target("cars")
    assert production is not None

    async def version_for(*headers: tuple[bytes, bytes]) -> str:
        response = await by_a_task(predictions, car(3504, "/predict/cars", *headers))
        return str(json.loads(comparable(response)[2])["version"])

    for _ in range(3):
        assert await version_for((b"x-canary-key", theirs)) == candidate
        assert await version_for((b"x-canary-key", ours)) == production.version
    assert {await version_for() for _ in range(6)} == {candidate, production.version}
    # Who wants one version is not split, so need not wait.
    pinned = car(3504, f"/predict/cars?version={candidate}", (b"x-canary-key", ours))
    for label, request in {candidate: pinned, production.version: car(3504, "/predict/cars?label=production")}.items():
        assert json.loads(comparable((await directly(runtime, request))[0])[2])["version"] == label
    check_nothing_held(runtime)


async def test_a_refusal_is_counted_under_the_version_that_was_wanted(runtime: Runtime, candidate: str) -> None:
    await until(lambda: "candidate" in runtime.loader.aliases["cars"])
    counted = 'serving_requests_total{alias="candidate",code="422",model="cars",route="/predict/{model}"}'
    for number, way in enumerate((directly, with_tasks), start=1):
        (refused,) = await way(runtime, car(12, "/predict/cars?label=candidate"))
        assert comparable(refused)[0] == 422
        assert rendered(runtime.metrics)[counted] == number


@pytest.fixture
async def fresh(settings: Settings, thawed_garbage: None) -> AsyncIterator[Runtime]:
    """A runtime that begins to load when a test says so, and does nothing else meanwhile."""
    runtime = Runtime.create(settings.model_copy(update={"poll_s": 60.0, "start_wait_s": 60.0}))
    yield runtime
    await runtime.close()


async def test_a_request_to_a_worker_that_has_just_started_waits_until_it_has_loaded(fresh: Runtime) -> None:
    fresh.loader.start()
    assert not fresh.loader.ready
    predictions = Predictions(fresh)
    assert comparable(await by_a_task(predictions, car()))[0] == 200
    assert comparable((await directly(fresh, car()))[0])[0] == 200
    check_nothing_held(fresh)


class Written(asyncio.Transport):
    """A connection whose client reads everything."""

    def __init__(self) -> None:
        super().__init__()
        self.answers = 0

    def write(self, data: Any) -> None:
        assert bytes(data[:12]) in {b"HTTP/1.1 200", b"HTTP/1.1 422"}
        self.answers += 1

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        raise AssertionError("nothing is pipelined")

    resume_reading = close = abort = lambda self: None


@pytest.mark.parametrize("kind", ["known head", "new head each time", "refused"])
async def test_a_prediction_leaves_nothing_to_the_garbage_collector(fresh: Runtime, kind: str) -> None:
    fresh.loader.start()
    await until(lambda: fresh.loader.ready)
    transport = Written()
    told: dict[str, Any] = {
        "config": Config(cast(Any, None), log_config=None, timeout_keep_alive=60),
        "server_state": ServerState(),
        "app_state": {},
    }
    connection = FastPath(Predictions(fresh), DEFAULT, **told)
    connection.connection_made(transport)
    body = body_of({**CAR, "weight": 12 if kind == "refused" else 3504})
    line = b"POST /predict/cars HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"

    async def ask(number: int) -> None:
        unlike = b"X-Number: %d\r\n" % number if kind == "new head each time" else b""
        before = transport.answers
        connection.data_received(line + unlike + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        while transport.answers == before:  # noqa: ASYNC110 - the batch tells nobody
            await asyncio.sleep(0)

    async def garbage_of_200(number: int) -> int:
        gc.collect()
        gc.disable()
        try:
            for i in range(200):
                await ask(200 * number + i)
            return gc.collect()
        finally:
            gc.enable()

    await ask(-1)
    # Something else in the process may have left some; a request that does so does each time.
    found = [await garbage_of_200(number) for number in range(3)]
    assert min(found) == 0, found
    connection.connection_lost(None)
