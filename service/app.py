"""The BentoML service, and nothing else: the composition root.

BentoML's supervisor imports this module too, only to learn the name and the number of workers. What only a worker needs
is imported where it is used, which makes the start a fifth of a second shorter.
"""

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, cast

import bentoml
from _bentoml_sdk.service import Service
from bentoml.exceptions import BentoMLException
from pydantic import ValidationError

from models.errors import ServingError
from service.errors import status_of
from service.logs import configure_logging
from service.settings import Settings

if TYPE_CHECKING:
    from service.gateway import App
    from service.grpc_server import GrpcServer
    from service.runtime import Runtime

logger = logging.getLogger(__name__)

_SWITCH_S = 0.0001


class _Document:
    """What BentoML's ``/docs.json`` asks for."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def asdict(self) -> dict[str, Any]:
        return self._document


class FrontDoorService(Service[Any]):
    """A BentoML service with our gateway before its own routes.

    Overrides two members that BentoML does not document as hooks; tests/service/test_bentoml_contract.py pins them.
    """

    runtime: "ClassVar[Runtime | None]" = None

    def to_asgi(self, is_main: bool = True) -> "App":
        """The application of one worker process."""
        from service.bounded import Limits, make_connections
        from service.fast_path import FastPath
        from service.gateway import App, Gateway
        from service.general_path import GeneralPath
        from service.routes import build_routes
        from service.runtime import Runtime

        settings = Settings.load()
        configure_logging(settings.log_level, settings.log_format)
        logging.getLogger("bentoml._internal.server.http_app").addFilter(_is_no_client_error)
        # The loop waits at most so long for a thread that computes, not Python's usual 5 ms.
        sys.setswitchinterval(_SWITCH_S)
        runtime = FrontDoorService.runtime = Runtime.create(settings, bentoml.server_context.worker_index or 1)
        runtime.loader.prepare()
        gateway = Gateway(runtime, build_routes(runtime), cast(App, super().to_asgi(is_main)))
        limits = Limits(settings.receive_s, settings.max_head_bytes)
        make_connections(
            partial(FastPath, gateway.predictions, limits=limits)
            if settings.fast_path
            else partial(GeneralPath, limits)
        )
        return gateway

    @property
    def openapi_spec(self) -> _Document:
        """Our document in the place of the one that BentoML would generate."""
        from service.openapi import openapi_document
        from service.routes import api_of

        return _Document(api_of(self.runtime) if self.runtime else openapi_document([]))


def _is_no_client_error(record: logging.LogRecord) -> bool:
    """BentoML logs a traceback for each bad request, so that any client could fill the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, ValidationError | PredictionError) or (
        isinstance(error, PredictionError) and error.error_code >= HTTPStatus.INTERNAL_SERVER_ERROR
    )


def _refuse_connections(stop: object) -> None:
    """End the listening for good: the supervisor has the socket too, where who comes now would wait for nobody.

    Not with several workers, of which one may be stopped alone; the one that takes its place listens anew.
    """
    import uvicorn

    server = getattr(stop, "__self__", None)
    if not isinstance(server, uvicorn.Server):
        return
    for given in server.servers:
        for listening in given.sockets:
            # No copy: there may be no descriptor left for one.
            same = socket.socket(fileno=listening.fileno())
            with contextlib.suppress(OSError):
                same.shutdown(socket.SHUT_RDWR)
            same.detach()
        # In the same turn: the loop would go on asking a socket that does not listen any more.
        given.close()


class PredictionError(BentoMLException):
    """An error of ours in the form that BentoML's clients expect."""

    def __init__(self, error: ServingError) -> None:
        self.error_code = HTTPStatus(status_of(error))
        super().__init__(str(error))


@bentoml.service(
    name="keras-serving",
    service_class=FrontDoorService,
    workers=Settings.load().workers,
    # BentoML labels its metrics with raw paths: any client could make series without end. Ours are at /metrics.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    # Tracing halves the throughput, recording or not.
    tracing={"excluded_urls": ".*"},
)
class KerasServing:
    """Serves the production version of each model in the store."""

    def __init__(self) -> None:
        runtime = FrontDoorService.runtime
        if runtime is None:
            raise RuntimeError("KerasServing runs inside a BentoML server: start it with `keras-serving serve`.")
        self.runtime: Runtime = runtime
        self._grpc: GrpcServer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._spreading: asyncio.Task[None] | None = None

    @bentoml.on_startup
    async def start(self) -> None:
        """Begin loading, and drain on SIGTERM before uvicorn stops."""
        from service.supervised import stop_with_supervisor

        await self.runtime.start()
        loop = asyncio.get_running_loop()
        if self.runtime.settings.grpc_port:
            self.runtime.opening = True
            self._opening = loop.create_task(self._open_grpc(), name="grpc")
        stop = signal.getsignal(signal.SIGTERM)

        self._spread(stop)

        def end(stop: Callable[[int, FrameType | None], object], number: int, frame: FrameType | None) -> None:
            self.runtime.stopping = True
            try:
                if self.runtime.settings.workers == 1:
                    _refuse_connections(stop)
            finally:
                # Whatever became of the listening.
                stop(number, frame)

        def drain(number: int, frame: FrameType | None) -> None:
            if self.runtime.draining or not callable(stop):
                return
            self.runtime.draining = True
            seconds = self.runtime.settings.drain_s
            logger.info("SIGTERM: not ready any more; still answering for %g s", seconds)
            loop.call_soon_threadsafe(loop.call_later, seconds, end, stop, number, frame)

        signal.signal(signal.SIGTERM, drain)
        stop_with_supervisor()

    def _spread(self, stop: object) -> None:
        """Take connections as they come, each worker its share.

        uvicorn's server is to be had from its signal handler only.
        """
        import uvicorn

        from service.acceptor import spread_connections
        from service.live import directory_of_workers

        server, folder = getattr(stop, "__self__", None), directory_of_workers()
        if isinstance(server, uvicorn.Server) and folder is not None:
            self._spreading = spread_connections(server, folder / "connections.slots", self.runtime.settings.workers)

    @bentoml.on_shutdown
    async def stop(self) -> None:
        """Answer the calls in flight, and release the models."""
        if self._opening is not None:
            await self._opening
        if self._grpc is not None:
            await self._grpc.stop()
        await self.runtime.close()

    async def _open_grpc(self) -> None:
        """Listen for gRPC too. Beside the models' loading, as its import takes a while."""
        try:
            server = (await asyncio.to_thread(import_module, "service.grpc_server")).GrpcServer(self.runtime)
            logger.info("gRPC at port %d", await server.start())
            self._grpc = server
        except (ImportError, RuntimeError) as error:
            # HTTP goes on: nothing of it depends on this.
            logger.error("this worker has no gRPC: %s", error)  # noqa: TRY400
        finally:
            self.runtime.opening = False

    @bentoml.api
    async def predict(self, model: str, instances: list[Any]) -> dict[str, Any]:
        """The answer of POST /predict/{model}, from the same queue, for BentoML's clients."""
        import orjson

        from service.inference import infer
        from service.protocols import native
        from service.protocols.base import Question

        runtime = self.runtime
        # orjson refuses integers above 64 bits, which JSON may have.
        body = json.dumps({"instances": instances}).encode()
        # Not counted there: this route has a name of its own in the metrics.
        question = Question(native, uuid.uuid4().hex, native.JSON.encode(), body)
        try:
            if not runtime.loader.ready:
                await runtime.loader.first_pass()
            answer = await infer(runtime, model, None, question)
        except ServingError as error:
            raise PredictionError(error) from None
        document: dict[str, Any] = orjson.loads(answer.body)
        return document
