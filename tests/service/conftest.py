"""A whole service without a server: runtime, gateway and routes, driven as an ASGI application."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from starlette.responses import PlainTextResponse

from service.gateway import Gateway
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
async def start_runtime(thawed_garbage: None) -> AsyncIterator[StartRuntime]:
    """Starts a runtime and waits until it has loaded what it can."""
    runtimes: list[Runtime] = []

    async def start(settings: Settings) -> Runtime:
        runtime = Runtime.create(settings)
        runtimes.append(runtime)
        runtime.start()
        async with asyncio.timeout(20):
            while not runtime.loader.ready:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
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
