"""Requests as OpenTelemetry spans, sent over OTLP/HTTP; only where the standard OTEL_* variables ask for it.

Nothing here is imported otherwise. A request's spans are made when it is over, from the durations that are measured
anyway: laid end to end before its end, so that queue, infer and encode are where they were, to a few microseconds.
"""

import logging
import time
from typing import TYPE_CHECKING, Any

from service.trace_context import TraceContext

if TYPE_CHECKING:
    from service.protocols.base import Answer, Question

logger = logging.getLogger(__name__)

_NS = 1_000_000_000
_SERVER_ERROR = 500


class Spans:
    """Makes and exports spans with a provider of its own; BentoML's, which records everything, is not used.

    Args:
        provider: An `opentelemetry.sdk.trace.TracerProvider`.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace

        self._provider, self._trace = provider, trace
        self._ids = provider.id_generator
        # The span that the answer's header names is the one that is exported.
        provider.id_generator = self
        self._next_id: int | None = None
        self._tracer = provider.get_tracer("keras-serving")

    @classmethod
    def open(cls) -> "Spans | None":
        """What the variables ask for, or None where the package that it needs is missing, which is logged."""
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            logger.warning(
                "OTEL_* variables ask for traces, but their exporter is not installed: none are sent. "
                "Install keras-serving[tracing], or unset them."
            )
            return None
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win; address, headers and sampler are the SDK's to read.
        named = Resource.create().attributes.get(SERVICE_NAME, "unknown_service")
        default = {SERVICE_NAME: "keras-serving"} if str(named).startswith("unknown_service") else {}
        provider = TracerProvider(resource=Resource.create().merge(Resource(default)))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    def record(self, question: "Question", model: str, status: int, seconds: float, answer: "Answer | None") -> None:
        """Make the spans of one request that is over now.

        Args:
            question: The request.
            model: Its name, as the request has it.
            status: What the client got.
            seconds: How long it took.
            answer: Its stages, where it was answered.
        """
        end, route = time.time_ns(), question.protocol.ROUTE
        attributes = {"http.route": route, "http.response.status_code": status, "keras_serving.model": model}
        if answer is not None:
            attributes |= {"keras_serving.version": answer.version, "keras_serving.batch_rows": answer.batch_rows}
        self._next_id = int(question.trace.span_id, 16) if question.trace is not None else None
        span = self._tracer.start_span(
            f"POST {route}",
            context=self._parent(question.trace),
            kind=self._trace.SpanKind.SERVER,
            start_time=end - int(seconds * _NS),
            attributes=attributes,
        )
        if status >= _SERVER_ERROR:
            span.set_status(self._trace.StatusCode.ERROR)
        if answer is not None:
            self._record_stages(span, end, answer)
        span.end(end)

    def _record_stages(self, span: Any, end: int, answer: "Answer") -> None:
        inside = self._trace.set_span_in_context(span)
        for name in ("encode", "infer", "queue", "decode"):
            start = end - int(getattr(answer, f"{name}_s") * _NS)
            self._tracer.start_span(name, context=inside, start_time=start).end(end)
            end = start

    def generate_span_id(self) -> int:
        """The id of the span that begins; one of OpenTelemetry's id generators."""
        span_id, self._next_id = self._next_id, None
        return span_id or int(self._ids.generate_span_id())

    def generate_trace_id(self) -> int:
        """The id of the trace that begins."""
        return int(self._ids.generate_trace_id())

    def is_trace_id_random(self) -> bool:
        """Whether `generate_trace_id` gives random ids."""
        return bool(self._ids.is_trace_id_random())

    def _parent(self, context: TraceContext | None) -> Any:
        if context is None:
            return None
        trace = self._trace
        flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if context.sampled else trace.TraceFlags.DEFAULT)
        remote = trace.SpanContext(int(context.trace_id, 16), int(context.parent_id, 16), True, flags)
        return trace.set_span_in_context(trace.NonRecordingSpan(remote))

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()
