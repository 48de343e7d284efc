"""A whole service without a server: runtime, gateway and routes, driven as an ASGI application."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from models.store import Store
from service.gateway import Gateway
from service.loader import Loader
from service.metrics import Metrics
from service.routes import build_routes
from service.runtime import Runtime
from service.settings import Settings
from tests.service.asgi import Client

StartRuntime = Callable[[Settings], Awaitable[Runtime]]


async def bentoml_stub(scope: Any, receive: Any, send: Any) -> None:
    """Stands for BentoML's application."""
    await PlainTextResponse(f"BentoML: {scope['path']}", headers={"x-from": "bentoml"})(scope, receive, send)


def client_of(runtime: Runtime) -> Client:
    return Client(Gateway(runtime, build_routes(runtime), bentoml_stub))


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class Started:
    """Starts loaders and closes them at the end of the test."""

    def __init__(self) -> None:
        self.loaders: list[Loader] = []

    async def __call__(self, settings: Settings, *, wait: bool = True) -> Loader:
        loader = Loader(settings, Store(settings.home), Metrics())
        self.loaders.append(loader)
        loader.start()
        if wait:
            await until(lambda: loader.ready)
        return loader


@pytest.fixture(autouse=True)
def own_process_settings() -> Iterator[None]:
    """What a worker sets for its whole process, making its application, is no business of the next test."""
    loggers = [logging.getLogger(name) for name in ("service", "models", "python_multipart")]
    before = [(logger, logger.handlers, logger.propagate, logger.level) for logger in loggers]
    formats = [(handler, handler.formatter) for handler in logging.getLogger().handlers]
    switch = sys.getswitchinterval()
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)
    for handler, formatter in formats:
        handler.setFormatter(formatter)
    sys.setswitchinterval(switch)


@pytest.fixture
async def started(thawed_garbage: None) -> AsyncIterator[Started]:
    starter = Started()
    yield starter
    for loader in starter.loaders:
        await loader.close()


@pytest.fixture
async def start_runtime(thawed_garbage: None) -> AsyncIterator[StartRuntime]:
    """Starts a runtime and waits until it has loaded what it can."""
    runtimes: list[Runtime] = []

    async def start(settings: Settings) -> Runtime:
        runtime = Runtime.create(settings)
        runtimes.append(runtime)
        await runtime.start()
        await until(lambda: runtime.loader.ready)
        return runtime

    yield start
    for runtime in runtimes:
        await runtime.close()


@pytest.fixture
async def runtime(start_runtime: StartRuntime, settings: Settings) -> Runtime:
    return await start_runtime(settings)


@pytest.fixture
def client(runtime: Runtime) -> Client:
    return client_of(runtime)
