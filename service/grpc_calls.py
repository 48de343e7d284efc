"""What each method of the Open Inference Protocol's gRPC service answers."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any

from google.protobuf.message import DecodeError as MessageError
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from models.errors import DecodeError, ServingError
from service.access import api_keys
from service.details import DETAILS_HEADER, details
from service.errors import DeadlineError, TooLargeError, detail_of
from service.inference import admit_when_ready, infer
from service.openinference_documents import (
    config_document,
    index_documents,
    model_document,
    server_document,
    statistics_documents,
)
from service.protocols import grpc as protocol
from service.protocols.base import Answer, Pin, Question
from service.protocols.grpc_cost import CHEAP_BYTES, check_cost
from service.refusals import count_refusal
from service.request_id import RequestIds
from service.runtime import Runtime
from service.served import Served
from service.trace_context import HEADER as TRACE_HEADER
from service.trace_context import RESPONSE_HEADER, read_traceparent

SERVICE = "inference.GRPCInferenceService"
# A client whose deadline passes gives up by its own clock, which may be a little before ours says so. Seconds.
_CLOCKS_S = 0.02

Metadata = tuple[tuple[str, str], ...]
Method = Callable[[Any], Awaitable[Any]]


class Calls:
    """The methods for one worker.

    Args:
        runtime: What is served.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._keys = api_keys(runtime.settings)
        self._ids = RequestIds()

    def methods(self) -> dict[str, tuple[type[Any], Method]]:
        """Name of each method that is no prediction -> the class of its request, and what answers it."""
        return {
            "ServerLive": (pb.ServerLiveRequest, self._server_live),
            "ServerReady": (pb.ServerReadyRequest, self._server_ready),
            "ServerMetadata": (pb.ServerMetadataRequest, self._server_metadata),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._repository_index),
        }

    def question(self, context: Any, *, named: bool = True) -> Question:
        """The beginning of a prediction's call, before its message is read.

        Args:
            context: gRPC's.
            named: Whether ``x-request-id`` is the name of this prediction, and not of many in a stream.
        """
        started = perf_counter()
        remaining = context.time_remaining()
        headers = [
            (key.encode(), value if isinstance(value, bytes) else value.encode())
            for key, value in context.invocation_metadata() or ()
        ]
        wanted = next((value for key, value in headers if key == b"x-request-id"), b"") if named else b""
        return Question(
            protocol,
            self._ids.choose(wanted.decode("latin-1")),
            b"",
            b"",
            headers=headers,
            started=started,
            deadline=None if remaining is None else started + remaining,
            trace=read_traceparent(b",".join(value for key, value in headers if key == TRACE_HEADER)),
        )

    async def infer(self, question: Question, data: bytes) -> Answer:
        """The answer to a ``ModelInferRequest``, counted.

        Raises:
            Exception: As the table of errors has them, or something that nobody foresaw.
        """
        runtime = self._runtime
        name, served = "", None
        runtime.inflight += 1
        try:
            if self._keys is not None:
                self._keys.check(question.headers)
            if len(data) > CHEAP_BYTES:
                await asyncio.to_thread(check_cost, data)
            question.body = message = read(pb.ModelInferRequest, data, most=len(data))
            question.size = len(data)
            name = message.model_name
            if message.id:
                question.request_id = self._ids.choose(message.id, question.request_id)
            pin = _pin(message.model_version)
            served = await admit_when_ready(runtime, name, pin)
            return await infer(runtime, name, pin, question)
        except asyncio.CancelledError:
            if question.deadline is not None and perf_counter() >= question.deadline - _CLOCKS_S:
                count_refusal(runtime, DeadlineError(), question, name, served)
            else:
                runtime.metrics.disconnects.inc()
            raise
        except Exception as error:
            count_refusal(runtime, error, question, name, served)
            raise
        finally:
            runtime.inflight -= 1

    def trailing(self, question: Question, answer: Answer) -> Metadata:
        """Metadata after an answer: the request's id, its trace, and for who asks how the answer came about."""
        asked = (DETAILS_HEADER, b"1") in question.headers or self._runtime.settings.response_details
        found = [(b"x-request-id", question.request_id.encode()), *(details(answer) if asked else ())]
        return (*((key.decode(), value.decode()) for key, value in found), *self.traced(question))

    def traced(self, question: Question) -> Metadata:
        """Metadata after any answer: the trace that the call belongs to."""
        return () if question.trace is None else ((RESPONSE_HEADER.decode(), question.trace.response.decode()),)

    async def stream_infer(self, question: Question, data: bytes) -> Any:
        """The same as one message of a stream, in which an error is a message too."""
        try:
            answer = await self.infer(question, data)
        except Exception as error:
            failed = pb.ModelInferResponse(id=question.body.id if question.body else "")
            return pb.ModelStreamInferResponse(
                error_message=detail_of(error, question.request_id), infer_response=failed
            )
        return pb.ModelStreamInferResponse(infer_response=answer.body)

    async def _server_live(self, _: Any) -> Any:
        return pb.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Any) -> Any:
        return pb.ServerReadyResponse(ready=self._runtime.ready)

    async def _server_metadata(self, _: Any) -> Any:
        return pb.ServerMetadataResponse(**server_document())

    async def _model_ready(self, request: Any) -> Any:
        try:
            self._find(request)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._runtime.draining)

    async def _model_metadata(self, request: Any) -> Any:
        return pb.ModelMetadataResponse(**model_document(self._runtime.loader, self._find(request)))

    async def _model_config(self, request: Any) -> Any:
        document = config_document(self._find(request), self._runtime.settings.max_request_rows)
        return pb.ModelConfigResponse(config=config_pb.ModelConfig(**document))

    async def _model_statistics(self, request: Any) -> Any:
        documents = statistics_documents(self._runtime.loader, request.name, _pin(request.version))
        return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(**document) for document in documents])

    async def _repository_index(self, request: Any) -> Any:
        documents = index_documents(self._runtime.loader, only_ready=request.ready)
        return pb.RepositoryIndexResponse(models=[pb.RepositoryIndexResponse.ModelIndex(**one) for one in documents])

    def _find(self, request: Any) -> Served:
        return self._runtime.loader.find(request.name, _pin(request.version))


def read(message: type[Any], data: bytes, *, most: int = CHEAP_BYTES) -> Any:
    """The message that ``data`` holds.

    Raises:
        TooLargeError: More than ``most`` bytes.
        DecodeError: It is none.
    """
    if len(data) > most:
        rule = f"A message {message.DESCRIPTOR.full_name} has at most {most} bytes."
        raise TooLargeError(f"{rule} Received: {len(data)}. Leave out what the service's definition does not have.")
    try:
        return message.FromString(data)
    except MessageError:
        rule = f"The body must be a message {message.DESCRIPTOR.full_name}."
        raise DecodeError(f"{rule} Received: {len(data)} bytes that are none. Use the service's definition.") from None


def _pin(wanted: str) -> Pin | None:
    """The version that a request names; None for the one that answers now."""
    return Pin.named(wanted) if wanted else None
