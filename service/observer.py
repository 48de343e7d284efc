"""What is said of each request where somebody asked for it: a line in the log, spans to a collector."""

import logging
from time import perf_counter
from typing import TYPE_CHECKING

from service.logs import FIELDS
from service.protocols.base import Answer, Question
from service.settings import Settings

if TYPE_CHECKING:
    from service.spans import Spans

logger = logging.getLogger("service.requests")


class Observer:
    """Sees every request when it is over. Never its body, its answer, or a header but ``traceparent``.

    Args:
        log: Whether each request gets a line in the log.
        spans: Exports spans, if any are wanted.
    """

    def __init__(self, log: bool, spans: "Spans | None") -> None:
        self._log, self._spans = log, spans

    @classmethod
    def of(cls, settings: Settings) -> "Observer | None":
        """The one that is asked for; None, which costs nothing, where nothing is."""
        spans = None
        if settings.tracing:
            from service.spans import Spans

            spans = Spans.open()
        return cls(settings.log_requests, spans) if settings.log_requests or spans else None

    def ended(self, question: Question, model: str, status: int, answer: Answer | None = None) -> None:
        """A prediction was answered or refused just now.

        Args:
            question: It.
            model: Its name, as the request has it.
            status: What the client gets.
            answer: Where there is one.
        """
        if question.started is None:
            return
        seconds = perf_counter() - question.started
        if self._spans is not None:
            self._spans.record(question, model[:80], status, seconds, answer)
        if not self._log:
            return
        fields: dict[str, object] = {
            "request_id": question.request_id,
            "route": question.protocol.ROUTE,
            "model": model[:80],
        }
        fields |= {"status": status, "total_ms": _ms(seconds)}
        if answer is not None:
            fields |= {"version": answer.version, "batch_rows": answer.batch_rows}
            fields |= {
                f"{name}_ms": _ms(getattr(answer, f"{name}_s")) for name in ("decode", "queue", "infer", "encode")
            }
        if question.trace is not None:
            fields |= {"trace_id": question.trace.trace_id, "span_id": question.trace.span_id}
        logger.info("request", extra={FIELDS: fields})

    def other(self, route: str, status: int, seconds: float) -> None:
        """A request that is no prediction was answered."""
        if self._log:
            logger.info("request", extra={FIELDS: {"route": route, "status": status, "total_ms": _ms(seconds)}})

    def close(self) -> None:
        """Send what is left."""
        if self._spans is not None:
            self._spans.close()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
