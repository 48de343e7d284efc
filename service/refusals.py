"""What is counted and logged of a request that gets an error, whatever its protocol."""

import logging
from time import perf_counter

from models.errors import InputError, ServingError
from service.errors import DeadlineError, NotReadyError, QueueFullError, TooLargeError, UnauthorizedError, status_of
from service.logs import FIELDS
from service.metrics import UNMATCHED
from service.protocols.base import Question
from service.refused_values import count_refused_value
from service.runtime import Runtime
from service.served import Served

logger = logging.getLogger(__name__)

REASONS: dict[type[Exception], str] = {
    QueueFullError: "queue_full",
    TooLargeError: "too_large",
    NotReadyError: "not_ready",
    InputError: "invalid",
    UnauthorizedError: "unauthorized",
    DeadlineError: "deadline",
}
"""Values of the label ``reason``."""


def count_refusal(
    runtime: Runtime,
    error: Exception,
    question: Question,
    name: str,
    served: Served | None,
    *,
    status: int | None = None,
) -> None:
    """Count and log a prediction that got ``error``.

    Args:
        runtime: Of this worker.
        error: What it got.
        question: The request.
        name: Of the model, as it came from outside.
        served: The version that would have answered, where the request came so far.
        status: What the client got, where the protocol has a status of its own for the error.
    """
    started = question.started or perf_counter()
    status = status or status_of(error)
    traced = {FIELDS: {"trace_id": question.trace.trace_id}} if question.trace is not None else None
    if not isinstance(error, ServingError):
        logger.error("request %s to %s failed", question.request_id, name[:80], exc_info=error, extra=traced)
    elif status == 500:
        logger.error("request %s to %s failed: %s", question.request_id, name[:80], error, extra=traced)
    if runtime.observer is not None:
        runtime.observer.ended(question, name, status)
    served = served or runtime.loader.served.get(name)
    if served is not None:
        if isinstance(error, InputError):
            count_refused_value(runtime.metrics, served.manifest.name, served.manifest.task, error)
        served.metrics.refused(question.protocol.ROUTE, status, perf_counter() - started)
    else:
        # The name comes from outside: as a label it would make a series a name.
        runtime.metrics.other(UNMATCHED, status, perf_counter() - started)
    reason = REASONS.get(type(error))
    if reason is not None:
        runtime.metrics.rejected.labels(reason).inc()
