"""A request's own deadline under a canary: production has time left to answer, and a late candidate goes."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from models.store import Store
from service.loader import Loader
from service.protocols.base import Pin
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, rows_of
from tests.service.asgi import Answer
from tests.service.conftest import StartRuntime, client_of, until
from tests.service.test_grpc_server import opened, request
from tests.service.test_metrics import rendered
from tests.service.test_traffic import CAR, JSON, Fails, begin, candidate

__all__ = ["candidate"]

FAILURES = 'serving_canary_failures_total{model="cars"}'
TENSORS = [
    {"name": "weight", "datatype": "FP32", "shape": [1, 1], "data": [3504]},
    {"name": "horsepower", "datatype": "FP32", "shape": [1, 1], "data": [130]},
    {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["usa"]},
]


@pytest.fixture
def go() -> Iterator[threading.Event]:
    """What a version waits for that hangs; set at the end."""
    event = threading.Event()
    yield event
    event.set()


async def halved(runtime: Runtime) -> tuple[Loader, str, str]:
    """With a canary of half of the requests: a key that production answers, and one of the candidate's."""
    loader = await begin(runtime, 50)
    split = loader.find("cars").split
    assert split is not None
    ours, theirs = (next(str(n) for n in range(100) if split.takes(str(n).encode()) is side) for side in (False, True))
    return loader, ours, theirs


async def by_header(runtime: Runtime, milliseconds: int, key: str) -> Answer:
    body = json.dumps({"instances": [CAR]}).encode()
    headers = JSON | {"x-request-timeout-ms": str(milliseconds), "x-canary-key": key}
    return await client_of(runtime)("POST", "/predict/cars", body, headers=headers)


async def by_parameter(runtime: Runtime, milliseconds: int, key: str) -> Answer:
    document = {"inputs": TENSORS, "parameters": {"timeout": 1000 * milliseconds}}
    headers = JSON | {"x-canary-key": key}
    return await client_of(runtime)("POST", "/v2/models/cars/infer", json.dumps(document).encode(), headers=headers)


async def by_grpc_parameter(runtime: Runtime, milliseconds: int, key: str) -> Answer:
    message = request(rows_of(CARS, 1))
    message.parameters["timeout"].int64_param = 1000 * milliseconds
    async with opened(runtime) as door:
        # One that is refused raises.
        await door.infer.ModelInfer(message, metadata=[("x-canary-key", key)])
    return Answer(200, {}, b"")


@pytest.mark.parametrize("ask", [by_header, by_parameter, by_grpc_parameter])
async def test_production_answers_in_the_time_that_is_left_and_a_candidate_that_hangs_is_rolled_back(
    start_runtime: StartRuntime,
    settings: Settings,
    store: Store,
    candidate: str,
    go: threading.Event,
    ask: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Little of it is waited for the candidate, and production has plenty left, however slow the machine is.
    monkeypatch.setattr("service.traffic._SHARE", 0.01)
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 60.0, "grpc_port": 0}))
    loader, ours, theirs = await halved(runtime)
    Fails(loader.find("cars", Pin(label="candidate")), go)
    for _ in range(60):
        assert (await by_header(runtime, 60_000, ours)).status == 200
    for _ in range(5):
        assert (await ask(runtime, 20_000, theirs)).status == 200
    assert rendered(runtime.metrics)[FAILURES] == 5
    await until(lambda: not store.aliases().traffic)


@pytest.mark.parametrize("ask", [by_header, by_parameter])
async def test_a_late_candidate_counts_though_production_cannot_answer_in_what_it_leaves(
    start_runtime: StartRuntime,
    settings: Settings,
    store: Store,
    candidate: str,
    go: threading.Event,
    ask: Callable[..., Any],
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"canary_timeout_s": 60.0}))
    loader, ours, theirs = await halved(runtime)
    for _ in range(60):
        assert (await ask(runtime, 60_000, ours)).status == 200
    for pin in (None, Pin(label="candidate")):
        Fails(loader.find("cars", pin), go)
    async with asyncio.timeout(60):
        # Half of it is the candidate's. Where the machine stands still until all of it is over, nobody is to blame.
        while rendered(runtime.metrics)[FAILURES] < 5:
            assert (await ask(runtime, 400, theirs)).status == 504
    await until(lambda: not store.aliases().traffic)


async def test_a_request_that_has_less_time_than_production_needs_counts_against_nobody(
    start_runtime: StartRuntime, settings: Settings, candidate: str, go: threading.Event
) -> None:
    runtime = await start_runtime(settings)
    loader, ours, theirs = await halved(runtime)

    class Slow(Fails):
        def run(self, rows: np.ndarray) -> np.ndarray:
            go.wait(0.2)
            return self.engine.run(rows)  # type: ignore[no-any-return]

    for pin in (None, Pin(label="candidate")):
        Slow(loader.find("cars", pin))
    for _ in range(3):
        assert (await by_header(runtime, 60_000, ours)).status == 200
    for _ in range(5):
        assert (await by_parameter(runtime, 1, theirs)).status == 504
    assert rendered(runtime.metrics)[FAILURES] == 0
