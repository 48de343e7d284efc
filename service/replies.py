"""How answers go out."""

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

from service.errors import MethodError, NoRouteError, problem

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
_OF_ROUTERS: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``document``, which may hold numpy values, as JSON."""
    body = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)
    return Response(body, status, headers, media_type="application/json")


async def send_response(response: tuple[int, list[tuple[bytes, bytes]], bytes], send: Send) -> None:
    """A whole response, by ASGI."""
    status, headers, body = response
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def in_our_form(scope: Message, send: Send, next_id: Callable[[], str]) -> Send:
    """What BentoML sends goes to ``send``; its router's errors, two words without a request id, become ours."""
    replaced = False

    async def say(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start" and message["status"] in _OF_ROUTERS:
            headers = dict(message["headers"])
            if headers.get(b"content-type", b"").startswith(b"text/plain"):
                replaced = True
                unknown = message["status"] == HTTPStatus.NOT_FOUND
                allowed = headers.get(b"allow", b"GET").decode()
                error = NoRouteError(scope["path"]) if unknown else MethodError(scope["method"], allowed)
                await send_response(problem(error, next_id()), send)
        if not replaced:
            await send(message)

    return say
