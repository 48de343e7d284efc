"""What each method of the Open Inference Protocol's gRPC service answers."""

import asyncio
from collections.abc import Awaitable, Callable
from importlib.metadata import version
from time import perf_counter
from typing import Any

from google.protobuf.message import DecodeError as MessageError
from tritonclient.grpc import model_config_pb2 as config_pb
from tritonclient.grpc import service_pb2 as pb

from models.errors import DecodeError, ServingError, UnknownModelError
from service.access import api_keys
from service.errors import DeadlineError, detail_of
from service.inference import admit, infer
from service.protocols import grpc as protocol
from service.protocols.base import Answer, Pin, Question
from service.protocols.signature import inputs_of, outputs_of
from service.protocols.tensors import BYTES, Spec
from service.refusals import count_refusal
from service.request_id import RequestIds
from service.runtime import Runtime
from service.served import Served

SERVICE = "inference.GRPCInferenceService"
EXTENSIONS = ("classification", "model_configuration", "model_repository", "schedule_policy", "statistics")
"""Of the Open Inference Protocol, as far as they are about reading."""

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

    def question(self, context: Any) -> Question:
        """The beginning of a prediction's call, before its message is read."""
        started = perf_counter()
        remaining = context.time_remaining()
        return Question(
            protocol,
            self._ids.next(),
            b"",
            b"",
            headers=[
                (key.encode(), value if isinstance(value, bytes) else value.encode())
                for key, value in context.invocation_metadata() or ()
            ],
            started=started,
            deadline=None if remaining is None else started + remaining,
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
            question.body = message = read(pb.ModelInferRequest, data)
            name = message.model_name
            if message.id:
                question.request_id = self._ids.choose(message.id)
            pin = _pin(message.model_version)
            served = await admit(runtime, name, pin)
            return await infer(runtime, name, pin, question)
        except asyncio.CancelledError:
            if question.deadline is not None and perf_counter() >= question.deadline:
                count_refusal(runtime, DeadlineError(), question, name, served)
            else:
                runtime.metrics.disconnects.inc()
            raise
        except Exception as error:
            count_refusal(runtime, error, question, name, served)
            raise
        finally:
            runtime.inflight -= 1

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
        return pb.ServerMetadataResponse(name="keras-serving", version=version("keras-serving"), extensions=EXTENSIONS)

    async def _model_ready(self, request: Any) -> Any:
        try:
            self._find(request)
        except ServingError:
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=not self._runtime.draining)

    async def _model_metadata(self, request: Any) -> Any:
        served = self._find(request)
        manifest = served.manifest
        metadata = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=manifest.name,
            versions=[one.manifest.version for one in self._all(manifest.name)],
            platform=served.engine.name,
            inputs=[metadata(name=s.name, datatype=s.datatype, shape=s.shape) for s in inputs_of(manifest.task)],
            outputs=[metadata(name=s.name, datatype=s.datatype, shape=s.shape) for s in outputs_of(manifest.task)],
        )

    async def _model_config(self, request: Any) -> Any:
        served = self._find(request)
        task = served.manifest.task
        return pb.ModelConfigResponse(
            config=config_pb.ModelConfig(
                name=served.manifest.name,
                platform=served.engine.name,
                max_batch_size=self._runtime.settings.max_request_rows,
                input=[config_pb.ModelInput(**_config(spec)) for spec in inputs_of(task)],
                output=[config_pb.ModelOutput(**_config(spec)) for spec in outputs_of(task)],
            )
        )

    async def _model_statistics(self, request: Any) -> Any:
        if request.name:
            chosen = [self._find(request)] if request.version else self._all(request.name)
        else:
            chosen = [served for name in sorted(self._runtime.loader.served) for served in self._all(name)]
        documents = [s.statistics.document(s.manifest.name, s.manifest.version) for s in chosen]
        return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(**document) for document in documents])

    async def _repository_index(self, request: Any) -> Any:
        if request.repository_name:
            raise UnknownModelError(
                f"No repository {request.repository_name[:80]!r}. Leave the name out: there is one."
            )
        loader = self._runtime.loader
        response = pb.RepositoryIndexResponse()
        for name in sorted(loader.served):
            for served in self._all(name):
                response.models.add(name=name, version=served.manifest.version, state="READY")
        if not request.ready:
            for name, failure in sorted(loader.failures.items()):
                version_ = failure.target.version
                response.models.add(name=name, version=version_, state="UNAVAILABLE", reason=failure.reason)
        return response

    def _find(self, request: Any) -> Served:
        return self._runtime.loader.find(request.name, _pin(request.version))

    def _all(self, name: str) -> list[Served]:
        """Every loaded version of a model, oldest first."""
        self._runtime.loader.find(name)
        named = {served.manifest.version: served for served in self._runtime.loader.named(name).values()}
        return [named[version_] for version_ in sorted(named)]


def read(message: type[Any], data: bytes) -> Any:
    """The message that ``data`` holds.

    Raises:
        DecodeError: It is none.
    """
    try:
        return message.FromString(data)
    except MessageError:
        rule = f"The body must be a message {message.DESCRIPTOR.full_name}."
        raise DecodeError(f"{rule} Received: {len(data)} bytes that are none. Use the service's definition.") from None


def _pin(wanted: str) -> Pin | None:
    """The version that a request names; None for the one that answers now."""
    return Pin(version=wanted) if wanted else None


def _config(spec: Spec) -> dict[str, Any]:
    """A tensor as a model configuration has it: without the batch axis."""
    kind = "STRING" if spec.datatype == BYTES else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape[1:]}
