"""Names of models, versions and labels that try to leave the store, on every route of every protocol."""

import itertools
import json
import shutil
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from models.store import Store
from service.runtime import Runtime
from service.settings import Settings
from tests.bundles import CARS, rows_of
from tests.service.asgi import Client
from tests.service.conftest import StartRuntime
from tests.service.test_gateway import CAR, body_of
from tests.service.test_grpc_server import Door, opened, request

TOKEN = "correct-horse-battery-staple"  # noqa: S105 - made up
NAMES = (
    "../outside",
    "..",
    ".",
    "/etc/passwd",
    "cars/../../outside",
    "..\\outside",
    "cars\0",
    "cars\r\nset-cookie: a=b",
    "%2e%2e/outside",
    "CARS",
    "cärs",
    "x" * 5000,
    "{model}",
    "file:///etc/passwd",
)
READ = (
    "/models/{}",
    "/models/{}/drift",
    "/models/{}/compare",
    "/v1/models/{}",
    "/v1/models/{}/metadata",
    "/v1/models/cars/versions/{}",
    "/v1/models/cars/labels/{}",
    "/v2/models/{}",
    "/v2/models/{}/ready",
    "/v2/models/{}/config",
    "/v2/models/{}/stats",
    "/v2/models/cars/versions/{}",
    "/web/{}",
)
SENT = (
    "/predict/{}",
    "/predict/cars?version={}",
    "/predict/cars?label={}",
    "/v1/models/{}:predict",
    "/v1/models/cars/versions/{}:predict",
    "/v1/models/cars/labels/{}:predict",
    "/v2/models/{}/infer",
    "/v2/models/cars/versions/{}/infer",
    "/admin/models/{}/promote",
    "/admin/models/{}/unload",
)


@pytest.fixture
async def runtime(start_runtime: StartRuntime, settings: Settings, store: Store) -> Runtime:
    # What an unchecked name would find: a whole bundle beside the store.
    (version,) = store.versions("cars")
    shutil.copytree(store.open("cars", version).path, settings.home / "outside")
    return await start_runtime(Settings.load(**settings.model_dump() | {"admin_token": TOKEN, "grpc_port": 0}))


@pytest.mark.parametrize("escape", [str, quote, lambda text: quote(text, safe="")], ids=["raw", "quoted", "all"])
async def test_no_hostile_name_finds_anything_over_http(client: Client, escape: Callable[[str], str]) -> None:
    headers = {"content-type": "application/json", "authorization": f"Bearer {TOKEN}"}
    body = json.dumps({"version": "../outside"}).encode()
    for route, name in itertools.product((*READ, *SENT), NAMES):
        posted = route in SENT
        sent = (body if "/admin/" in route else body_of(CAR)) if posted else b""
        answer = await client("POST" if posted else "GET", route.format(escape(name)), sent, headers=headers)
        assert 400 <= answer.status < 500, (route, name, answer.status)
        assert not any("\r" in value or "\n" in value for value in answer.headers.values())
        assert len(answer.body) < 2 * len(name) + 3000, (route, name)
        assert b"sha256" not in answer.body


@pytest.fixture
async def door(runtime: Runtime) -> AsyncIterator[Door]:
    async with opened(runtime) as found:
        yield found


def calls(door: Door, name: str, version: str) -> list[Any]:
    return [
        door.infer.ModelInfer(request(rows_of(CARS, 1), name, model_version=version)),
        door.infer.ModelMetadata(pb.ModelMetadataRequest(name=name, version=version)),
        door.infer.ModelConfig(pb.ModelConfigRequest(name=name, version=version)),
        door.infer.ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version)),
    ]


async def test_no_hostile_name_finds_anything_over_grpc(door: Door) -> None:
    for name in NAMES:
        for call in [*calls(door, name, ""), *calls(door, "cars", name)]:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() in {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}, name
            assert len(caught.value.details() or "") < 1000
        assert not (await door.infer.ModelReady(pb.ModelReadyRequest(name=name))).ready
