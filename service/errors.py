"""The one place that maps errors to status codes, as RFC 9457 problem details."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import orjson

from models.errors import (
    BundleError,
    ConflictError,
    DecodeError,
    EngineError,
    InputError,
    ServingError,
    StoreError,
    UnknownModelError,
    shorten,
)

PROBLEM_MEDIA_TYPE = b"application/problem+json"
NOSNIFF = (b"x-content-type-options", b"nosniff")
"""Header of every response: what it holds is what its content type says."""


class TooLargeError(ServingError):
    """A body, or a number of rows, above its limit."""


class MediaTypeError(ServingError):
    """A content type or encoding that this model does not take."""


class EncodingError(MediaTypeError):
    """A body that is compressed in a way that is not read.

    Args:
        encoding: Value of ``Content-Encoding``.
    """

    ACCEPTED = "gzip, deflate"

    def __init__(self, encoding: bytes) -> None:
        received = shorten(encoding.decode("latin-1"))
        super().__init__(f"Content-Encoding must be gzip or deflate, one of them. Received: {received}.")


class MethodError(ServingError):
    """A method that the route does not have.

    Args:
        method: What was received.
        allowed: What the route has, for the ``Allow`` header.
    """

    def __init__(self, method: str, allowed: str) -> None:
        self.allowed = allowed
        super().__init__(f"The method must be {allowed}. Received: {method[:20]}.")


class NoRouteError(ServingError):
    """A path that leads nowhere."""

    def __init__(self, path: str) -> None:
        super().__init__(f"No route {path[:80]!r}. /docs lists the routes; predictions are at /predict/{{model}}.")


class NoAnswerError(ServingError):
    """Feedback about an answer that no worker remembers.

    Args:
        request_id: Of the answer, as it came.
        rows: That each worker remembers.
    """

    def __init__(self, request_id: str, rows: int) -> None:
        super().__init__(
            f"No answer {request_id[:64]!r} is remembered. Each worker remembers its last {rows:,} rows at least: tell "
            "what is true sooner, or raise SERVING_FEEDBACK_ROWS."
        )


class QueueFullError(ServingError):
    """The model's queue holds as many rows as it may.

    Args:
        model: Name.
        retry_after: Seconds until the present queue will have been worked off.
    """

    def __init__(self, model: str, retry_after: float) -> None:
        self.retry_after = retry_after
        super().__init__(f"The queue of {model} is full. Send fewer requests at once, or try again later.")


class DeadlineError(ServingError):
    """The deadline that came with the request has passed; nobody waits for the answer any more."""

    def __init__(self) -> None:
        super().__init__("The request's deadline passed before there was an answer. Allow more time, or send less.")


class NotReadyError(ServingError):
    """The model is known but cannot answer now.

    Args:
        message: Why.
        retry_after: Seconds after which trying again is worth while.
    """

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class UnauthorizedError(ServingError):
    """No key or token, or a wrong one; which of the two is nobody's business."""


class ClientDisconnectError(ServingError):
    """The client went away before its request was complete; nobody is there to read an answer."""


# First match wins. InputError carries members of its own; the others are their message.
STATUS: tuple[tuple[type[Exception], int, str], ...] = (
    (InputError, 422, "A value breaks the model's schema"),
    (DecodeError, 400, "The body cannot be read"),
    (UnauthorizedError, 401, "Not authorised"),
    (UnknownModelError, 404, "No such model"),
    (NoAnswerError, 404, "No such answer"),
    (NoRouteError, 404, "No such route"),
    (MethodError, 405, "Method not allowed"),
    (ConflictError, 409, "Conflict"),
    (TooLargeError, 413, "Too large"),
    (MediaTypeError, 415, "Media type not supported"),
    (QueueFullError, 429, "Queue full"),
    (BundleError, 422, "The version cannot be served"),
    (NotReadyError, 503, "Not ready"),
    (StoreError, 503, "The store cannot be changed"),
    (DeadlineError, 504, "Too late"),
    (EngineError, 500, "The model failed"),
)


def status_of(error: Exception) -> int:
    """Status code of ``error``; 500 for what nobody raised on purpose."""
    return next((status for kind, status, _ in STATUS if isinstance(error, kind)), 500)


# What a client may conclude from a status -> the code from which it may conclude the same over gRPC.
GRPC_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "INVALID_ARGUMENT",
        401: "UNAUTHENTICATED",
        404: "NOT_FOUND",
        409: "ABORTED",
        # Not RESOURCE_EXHAUSTED, as for a message too large: what is too large stays so, however often it is sent.
        413: "INVALID_ARGUMENT",
        415: "INVALID_ARGUMENT",
        422: "INVALID_ARGUMENT",
        429: "RESOURCE_EXHAUSTED",
        500: "INTERNAL",
        503: "UNAVAILABLE",
        504: "DEADLINE_EXCEEDED",
    }
)


def detail_of(error: Exception, request_id: str) -> str:
    """What a client is told: the message, but nothing of the inside of a 500; the log has that under the request id."""
    if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        return f"The server's log has the reason under request id {request_id}."
    return str(error)


def grpc_problem(error: Exception, request_id: str) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """``error`` as the name of a gRPC status code, details and trailing metadata."""
    metadata = [("x-request-id", request_id)]
    if isinstance(error, QueueFullError | NotReadyError):
        # For people, and for clients whose retry policy obeys it.
        metadata.append(("retry-after", str(max(1, math.ceil(error.retry_after)))))
        metadata.append(("grpc-retry-pushback-ms", str(max(1, math.ceil(error.retry_after * 1000)))))
    return GRPC_CODES[status_of(error)], detail_of(error, request_id), tuple(metadata)


def problem(error: Exception, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """``error`` as status, headers and body of a response."""
    status, title = next(
        ((status, title) for kind, status, title in STATUS if isinstance(error, kind)), (500, "Internal error")
    )
    detail = detail_of(error, request_id)
    document: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if isinstance(error, InputError):
        document["errors"] = [
            {"field": error.field, "rule": error.rule, "received": error.received, "remedy": error.remedy}
        ]
    document["request_id"] = request_id
    return _response(error, status, request_id, orjson.dumps(document), PROBLEM_MEDIA_TYPE)


def plain(error: Exception, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """``error`` as TensorFlow Serving and the Open Inference Protocol have it: a message, and 400 for bad input."""
    status = 400 if status_of(error) == HTTPStatus.UNPROCESSABLE_ENTITY else status_of(error)
    body = orjson.dumps({"error": detail_of(error, request_id)})
    return _response(error, status, request_id, body, b"application/json")


def form_of(path: str) -> Callable[[Exception, str], tuple[int, list[tuple[bytes, bytes]], bytes]]:
    """In which form the clients of ``path`` expect an error."""
    return plain if path.startswith(("/v1/", "/v2")) else problem


def _response(
    error: Exception, status: int, request_id: str, body: bytes, media_type: bytes
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers = [
        (b"content-type", media_type),
        (b"content-length", str(len(body)).encode()),
        (b"x-request-id", request_id.encode()),
        NOSNIFF,
    ]
    if isinstance(error, QueueFullError | NotReadyError):
        headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, UnauthorizedError):
        headers.append((b"www-authenticate", b'Bearer realm="keras-serving"'))
    if isinstance(error, MethodError):
        headers.append((b"allow", error.allowed.encode()))
    if isinstance(error, EncodingError):
        headers.append((b"accept-encoding", error.ACCEPTED.encode()))
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        # The rest of the body stays unread, so the connection cannot be used again.
        headers.append((b"connection", b"close"))
    return status, headers, body
