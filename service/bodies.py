"""Bodies, counted as they come in."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from models.errors import InputError, shorten
from service.errors import ClientDisconnectError, TooLargeError

_MAX_BODY_BYTES = 16 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Form = TypeVar("Form", bound=BaseModel)


async def read_form(request: Request, kind: type[Form]) -> Form:
    """The body as ``kind``.

    Raises:
        TooLargeError: Above 16 KiB.
        InputError: Not JSON, or a member is missing, unknown or wrong.
    """
    body = await read_small(request, _MAX_BODY_BYTES)
    try:
        return kind.model_validate_json(body or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "body"
        members = ", ".join(kind.model_fields)
        raise InputError(where, first["msg"], shorten(first["input"]), f"Members: {members}.") from None


async def read_small(request: Request, limit: int) -> bytes:
    """The whole body, counted as it comes in.

    Raises:
        TooLargeError: Above ``limit`` bytes.
        ClientDisconnectError: The client left.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise TooLargeError(f"A body has at most {limit} bytes. Received: more. Send less.")
    except ClientDisconnect:
        raise ClientDisconnectError from None
    return bytes(body)


async def read_body(receive: Receive, length: int | None, limit: int) -> bytes:
    """The whole body, counted as it comes in, whatever its declared length.

    Raises:
        TooLargeError: Above ``limit`` bytes.
        ClientDisconnectError: The client left.
    """
    limit_body(length or 0, limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnectError
    body: bytes = message.get("body", b"")
    limit_body(len(body), limit)
    if not message.get("more_body", False):
        return body
    chunks = bytearray(body)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnectError
        chunks += message.get("body", b"")
        limit_body(len(chunks), limit)
        if not message.get("more_body", False):
            return bytes(chunks)


def limit_body(size: int, limit: int) -> None:
    """Refuse a body of ``size`` bytes, declared or received so far, that has more than ``limit``."""
    if size > limit:
        raise TooLargeError(f"A body has at most {limit} bytes. Received: {size} or more. Split the request.")
