"""The second door: gRPC in the same process, on the same event loop, to the same queues.

Every worker binds the same port, and the kernel spreads the connections over them.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from models.errors import ServingError, UnknownModelError
from service.errors import grpc_problem, status_of
from service.grpc_calls import SERVICE, Calls, Metadata, Method, read
from service.readiness import Readiness
from service.runtime import Runtime

logger = logging.getLogger(__name__)

HEALTH = "grpc.health.v1.Health"
# Longest wait for what is in flight when the server stops; then for answers that are being sent. Seconds.
_GRACE_S = 20.0
_LAST_WORDS_S = 0.5
# Then a client is asked to connect anew, once its calls are answered, and the kernel chooses a worker again: clients do
# not stay together where a worker ended, or by chance. Give or take a tenth. Milliseconds.
_CONNECTION_MS = 300_000
# In metadata there is room for about 8 kB, and a byte may take three there.
_MAX_DETAIL_BYTES = 2000


class GrpcServer:
    """One worker's gRPC server.

    Args:
        runtime: What is served.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._calls = Calls(runtime)
        self._readiness = Readiness(lambda: runtime.ready)
        self._running = 0
        self._server = grpc.aio.server(options=_options(runtime.settings.max_body_bytes))
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(f"grpc/{name}", message, method))
            for name, (message, method) in self._calls.methods().items()
        }
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        handlers["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(self._stream)
        check = self._unary("grpc/Health", health_pb2.HealthCheckRequest, self._health)
        health = {
            "Check": grpc.unary_unary_rpc_method_handler(check),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch_health),
        }
        self._server.add_generic_rpc_handlers(
            (
                grpc.method_handlers_generic_handler(SERVICE, handlers),
                grpc.method_handlers_generic_handler(HEALTH, health),
            )
        )

    async def start(self) -> int:
        """Listen; the port.

        Raises:
            RuntimeError: Something that does not share it has the port.
        """
        settings = self._runtime.settings
        host = f"[{settings.grpc_host}]" if ":" in settings.grpc_host else settings.grpc_host
        port: int = self._server.add_insecure_port(f"{host}:{settings.grpc_port}")
        await self._server.start()
        return port

    async def stop(self) -> None:
        """Refuse new calls, answer those in flight, end the streams that wait for nothing, and close."""
        stopping = asyncio.ensure_future(self._server.stop(_GRACE_S))
        while self._running and not stopping.done():  # noqa: ASYNC110 - once a worker's life
            await asyncio.sleep(0.01)
        await self._server.stop(_LAST_WORDS_S)
        await stopping

    def _unary(self, route: str, message: type[Any], method: Method) -> Callable[[bytes, Any], Awaitable[bytes]]:
        """A call that is no prediction. It reads its message itself: gRPC would log a traceback of a broken one."""

        async def call(data: bytes, context: Any) -> bytes:
            started, status = perf_counter(), 200
            try:
                response: bytes = (await method(read(message, data))).SerializeToString()
            except Exception as error:
                status = status_of(error)
                if status == 500:
                    logger.exception("%s failed", route)
                _refuse(context, error, "-")
                return b""
            finally:
                seconds = perf_counter() - started
                self._runtime.metrics.other(route, status, seconds)
                if self._runtime.observer is not None:
                    self._runtime.observer.other(route, status, seconds)
            return response

        return call

    async def _infer(self, data: bytes, context: Any) -> bytes:
        """ModelInfer."""
        self._running += 1
        question = self._calls.question(context)
        try:
            answer = await self._calls.infer(question, data)
            response: bytes = answer.body.SerializeToString()
        except Exception as error:
            _refuse(context, error, question.request_id, self._calls.traced(question))
            return b""
        finally:
            self._running -= 1
        context.set_trailing_metadata(self._calls.trailing(question, answer))
        return response

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """ModelStreamInfer: one answer a request, in their order; an error is a message, and the stream goes on."""
        async for data in requests:
            self._running += 1
            try:
                question = self._calls.question(context, named=False)
                yield (await self._calls.stream_infer(question, data)).SerializeToString()
            finally:
                self._running -= 1

    async def _health(self, request: Any) -> Any:
        status = _status(request.service, ready=self._runtime.ready)
        if status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            raise UnknownModelError(f"Unknown service {request.service[:80]!r}. Known: {SERVICE}, {HEALTH}, or none.")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch_health(self, data: bytes, context: Any) -> AsyncIterator[bytes]:
        """The health, and then each change of it."""
        told = None
        try:
            service = read(health_pb2.HealthCheckRequest, data).service
            async for ready in self._readiness.changes():
                status = _status(service, ready=ready)
                if status != told:
                    told = status
                    yield health_pb2.HealthCheckResponse(status=status).SerializeToString()
        except ServingError as error:
            _refuse(context, error, "-")


def _status(service: str, *, ready: bool) -> int:
    """Whether new calls should come here: to this worker, which all services share."""
    status = health_pb2.HealthCheckResponse
    if service not in ("", SERVICE, HEALTH):
        return int(status.SERVICE_UNKNOWN)
    return int(status.SERVING if ready else status.NOT_SERVING)


def _options(max_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1),
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", 1024),
        ("grpc.max_connection_age_ms", _CONNECTION_MS),
        # A client that is gone without a word is noticed after a minute or so.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        # Clients may ping as often as every ten seconds, with or without a call.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _refuse(context: Any, error: Exception, request_id: str, more: Metadata = ()) -> None:
    """Let the call end with ``error``."""
    code, detail, metadata = grpc_problem(error, request_id)
    context.set_code(grpc.StatusCode[code])
    context.set_details(detail.encode()[:_MAX_DETAIL_BYTES].decode(errors="ignore"))
    context.set_trailing_metadata((*metadata, *more))
