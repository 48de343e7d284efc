"""A prediction that is answered without a task gets and counts what one with a task does, and holds nothing either."""

import asyncio
import base64
import io
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np
import pytest

from models.pictures import png
from models.store import Store
from service.head import Head
from service.predictions import Predictions, Request
from service.protocols.base import Response
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, IMAGE, rows_of
from tests.service.conftest import StartRuntime
from tests.service.test_gateway import CAR, body_of

JSON: Final = (b"content-type", b"application/json")
TRACE: Final = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TENSORS: Final = [
    {"name": "weight", "datatype": "FP32", "shape": [1, 1], "data": [3504]},
    {"name": "horsepower", "datatype": "FP32", "shape": [1, 1], "data": [130]},
    {"name": "origin", "datatype": "BYTES", "shape": [1, 1], "data": ["usa"]},
]


def asked(url: str, body: bytes, *headers: tuple[bytes, bytes], method: str = "POST", age_s: float = 0.0) -> Request:
    """A request that has come in as a whole, its first byte ``age_s`` ago; JSON where its headers say nothing else."""
    path, _, query = url.partition("?")
    protocol = Predictions.protocol_of(path)
    assert protocol is not None
    described = [*headers] if dict(headers).keys() & {b"content-type"} else [JSON, *headers]
    described.append((b"content-length", str(len(body)).encode()))
    return Request(Head(protocol, method, path, query.encode(), described), body, started=perf_counter() - age_s)


def car(weight: float = 3504, url: str = "/predict/cars", *headers: tuple[bytes, bytes], **more: Any) -> Request:
    return asked(url, body_of({**CAR, "weight": weight}), *headers, **more)


def begin(predictions: Predictions, request: Request) -> "asyncio.Future[Response | None]":
    """What `answer` gives; checked to need no task."""
    given: asyncio.Future[Response | None] = asyncio.get_running_loop().create_future()
    before = asyncio.all_tasks()
    predictions.answer(request, given.set_result)
    assert asyncio.all_tasks() == before, "a task was begun"
    return given


async def directly(runtime: Runtime, *requests: Request) -> list[Response | None]:
    """What these get that come in at once, without a task."""
    predictions = Predictions(runtime)
    async with asyncio.timeout(20):
        return list(await asyncio.gather(*[begin(predictions, request) for request in requests]))


async def with_tasks(runtime: Runtime, *requests: Request) -> list[Response | None]:
    """What they get by uvicorn's way."""
    predictions = Predictions(runtime)
    async with asyncio.timeout(20):
        return list(await asyncio.gather(*[predictions.reply(request) for request in requests]))


Way = Callable[..., Awaitable[list[Response | None]]]
WAYS: Final[tuple[Way, Way]] = (directly, with_tasks)


def counts(runtime: Runtime) -> dict[str, float]:
    """How often things happened to requests and batches, without how long they took."""
    of = runtime.metrics
    of.flush()
    counted = (of.requests, of.duration, of.stage, of.batch_size, of.predictions, of.rejected, of.disconnects)
    return {
        f"{sample.name}{sample.labels}": sample.value
        for family in (*counted, of.out_of_range, of.unseen_category)
        for metric in family.collect()
        for sample in metric.samples
        if sample.name.endswith(("_total", "_count", "batch_size_sum"))
    }


def statistics(runtime: Runtime) -> dict[tuple[str, str], int]:
    """What the versions have counted themselves."""
    kept = ("requests", "rows", "failures")
    return {(name, k): getattr(one.statistics, k) for name, one in runtime.loader.served.items() for k in kept}


def comparable(response: Response | None) -> Response:
    """A response without what is another each time: ids that we choose, and durations."""
    assert response is not None
    status, headers, body = response
    chosen = dict(headers)[b"x-request-id"]
    ours = chosen if re.fullmatch(rb"[0-9a-f]{11,}", chosen) else b"\0"
    told = []
    for name, value in headers:
        if name == b"server-timing":
            told.append((name, re.sub(rb"[0-9.]+", b"0", value)))
        elif name == b"traceresponse":
            told.append((name, value[:35]))
        else:
            told.append((name, value.replace(ours, b"id")))
    return status, told, body.replace(ours, b"id")


@dataclass
class Outcome:
    """What one way led to."""

    responses: list[Response]
    counted: dict[str, float]
    added: dict[tuple[str, str], int]

    @property
    def statuses(self) -> list[int]:
        return [status for status, _, _ in self.responses]


def check_nothing_held(runtime: Runtime) -> None:
    assert runtime.inflight == 0
    assert {(one.users, one.batcher.queued_rows) for one in runtime.loader.served.values()} == {(0, 0)}


async def outcome(runtime: Runtime, way: Way, *requests: Request) -> Outcome:
    """What these get, and what is counted of it; nothing is held any more."""
    counted, added = counts(runtime), statistics(runtime)
    responses = [comparable(response) for response in await way(runtime, *requests)]
    check_nothing_held(runtime)
    now, then = counts(runtime), statistics(runtime)
    return Outcome(
        responses,
        {name: now[name] - counted.get(name, 0) for name in now if now[name] != counted.get(name, 0)},
        {name: then[name] - added[name] for name in then if then[name] != added[name]},
    )


async def same(runtime: Runtime, *requests: Request, name: str = "") -> Outcome:
    """What these get and count both ways, which is the same."""
    direct, general = [await outcome(runtime, way, *requests) for way in WAYS]
    assert direct == general, name
    assert direct.counted, name
    return direct


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, rows_of(CARS, 2))
    return buffer.getvalue()


PICTURE: Final = png(rows_of(IMAGE, 1)[0])
IN_JSON: Final = {"b64": base64.b64encode(PICTURE).decode()}
V1, V2 = "/v1/models/cars:predict", "/v2/models/cars/infer"


def v2(**more: Any) -> bytes:
    return json.dumps({"inputs": TENSORS, **more}).encode()


def raw_v2() -> bytes:
    inputs = [TENSORS[0] | {"parameters": {"binary_data_size": 4}}, *TENSORS[1:]]
    del inputs[0]["data"]
    return json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()


def good(version: str) -> dict[str, Request]:
    raw = raw_v2()
    return {
        "record": car(),
        "two rows": asked("/predict/cars", body_of(CAR, CAR)),
        "sequence": asked("/predict/heat", body_of([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])),
        "npy": asked("/predict/cars", npy(), (b"content-type", b"application/x-npy")),
        "png": asked("/predict/clothes", PICTURE, (b"content-type", b"image/png")),
        "picture in JSON, fewer classes": asked("/predict/clothes?top_k=1", body_of(IN_JSON)),
        "trial": car(3504, "/predict/cars?trial=1"),
        "version": car(3504, f"/predict/cars?version={version}"),
        "label": car(3504, "/predict/cars?label=production"),
        "details": car(3504, "/predict/cars", (b"x-serving-details", b"1")),
        "trace": car(3504, "/predict/cars", (b"traceparent", TRACE)),
        "wrong trace": car(3504, "/predict/cars", (b"traceparent", TRACE), (b"traceparent", TRACE)),
        "id": car(3504, "/predict/cars", (b"x-request-id", b"mine")),
        "patience": car(3504, "/predict/cars", (b"x-request-timeout-ms", b"60000")),
        "rows of v1": car(3504, V1),
        "columns of v1": asked(V1, json.dumps({"inputs": {k: [v] for k, v in CAR.items()}}).encode()),
        "version of v1": car(3504, f"/v1/models/cars/versions/{version}:predict"),
        "label of v1": car(3504, "/v1/models/cars/labels/production:predict"),
        "v2": asked(V2, v2(id="mine", parameters={"timeout": 60_000_000})),
        "version of v2": asked(f"/v2/models/cars/versions/{version}/infer", v2()),
        "binary v2": asked(
            V2, raw + np.float32(3504).tobytes(), (b"inference-header-content-length", str(len(raw)).encode())
        ),
    }


async def test_a_good_request_gets_the_same_answer_and_is_counted_as_much(runtime: Runtime, store: Store) -> None:
    for name, request in good(store.versions("cars")[0]).items():
        assert (await same(runtime, request, name=name)).statuses == [200], name


BAD: Final[dict[str, tuple[int, Request]]] = {
    "unknown model": (404, car(3504, "/predict/trains")),
    "unknown version": (404, car(3504, "/predict/cars?version=20200101-000000-00000000")),
    "unknown label of v1": (404, car(3504, "/v1/models/cars/labels/nightly:predict")),
    "no such route of v2": (404, asked("/v2/models/cars/versions/infer", v2())),
    "no JSON": (400, asked("/predict/cars", b"{")),
    "nothing": (400, asked("/predict/cars", b"")),
    "no JSON of v2": (400, asked(V2, b"{")),
    "wrong value": (422, car(12)),
    "wrong value of v1": (400, car(12, V1)),
    "media type": (415, asked("/predict/cars", b"x", (b"content-type", b"text/plain"))),
    "no picture": (400, asked("/predict/clothes", PICTURE[:60], (b"content-type", b"image/png"))),
    "rows": (413, asked("/predict/cars", body_of(*[CAR] * 5))),
    "method": (405, asked("/predict/cars?top=1", b"", method="GET")),
    "patience": (422, car(3504, "/predict/cars", (b"x-request-timeout-ms", b"soon"))),
    "query": (422, car(3504, "/predict/cars?top=1")),
    "two pins": (422, car(3504, "/predict/cars?version=1&label=production")),
    "no version": (422, car(3504, "/predict/cars?version=")),
    "method of v1": (400, car(3504, "/v1/models/cars:classify")),
    "output of v2": (400, asked(V2, v2(outputs=[{"name": "kpl"}]))),
    "classes of numbers": (400, asked(V2, v2(outputs=[{"name": "mpg", "parameters": {"classification": 1}}]))),
    "header of v2": (400, asked(V2, v2(), (b"inference-header-content-length", b"many"))),
}


async def test_a_bad_request_gets_the_same_refusal_and_is_counted_as_much(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    runtime = await start_runtime(settings.model_copy(update={"max_request_rows": 4}))
    for name, (status, request) in BAD.items():
        assert (await same(runtime, request, name=name)).statuses == [status], name


async def test_a_key_is_asked_for_each_time_also_of_a_head_that_came_before(
    start_runtime: StartRuntime, settings: Settings
) -> None:
    key = b"k" * 32
    runtime = await start_runtime(Settings.load(**settings.model_dump() | {"api_keys": key.decode()}))
    for header, status in (((b"x-api-key", key), 200), ((b"x-api-key", key[1:]), 401), ((b"x-api", key), 401)):
        request = car(3504, "/predict/cars", header)
        assert (await same(runtime, request, request)).statuses == [status] * 2


async def test_a_server_that_drains_closes_and_one_that_stops_refuses(runtime: Runtime) -> None:
    runtime.draining = True
    for status in (200, 503):
        found = await same(runtime, car(), car(12))
        assert found.statuses == [status, max(status, 422) if status == 200 else 503]
        assert all((b"connection", b"close") in headers for _, headers, _ in found.responses)
        runtime.stopping = True


@pytest.mark.parametrize("way", WAYS)
async def test_what_looks_on_sees_no_rows_that_somebody_only_tries(runtime: Runtime, way: Way) -> None:
    seen: list[float] = []
    runtime.loader.find("cars").batcher.listeners = (lambda rows, *_: seen.extend(rows[:, 0]),)
    await way(runtime, car(1111), car(2222, "/predict/cars?trial=1"), car(3333))
    assert seen == [1111, 3333]
