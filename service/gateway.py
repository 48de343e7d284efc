"""The front door: answers predictions before BentoML's own routes and middleware are reached.

BentoML's router, tracing and middleware cost more than a prediction does, so predictions are found by the look of
their path, our few other routes by an exact lookup, and everything else falls through.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from models.errors import ServingError
from service.access import api_keys
from service.bodies import limit_body, read_body
from service.deadlines import TIMEOUT_HEADER, deadline_of, in_time
from service.decode.inflate import Inflater
from service.decode.json_cost import check_few
from service.details import DETAILS_HEADER, details
from service.errors import (
    NOSNIFF,
    ClientDisconnectError,
    MediaTypeError,
    MethodError,
    NoRouteError,
    form_of,
    problem,
)
from service.inference import admit, infer
from service.metrics import UNMATCHED
from service.protocols import native, openinference, tfserving
from service.protocols.base import Answer, Headers, HttpProtocol, Pin, Question, Response
from service.refusals import REASONS, count_refusal
from service.replies import in_our_form, send_response
from service.request_id import RequestIds
from service.routes import DESCRIPTIONS, REQUEST_ID, bentoml_route, owned
from service.runtime import Runtime
from service.trace_context import HEADER as TRACE_HEADER
from service.trace_context import RESPONSE_HEADER, read_traceparent

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Ours first: each of the others costs it half a microsecond.
_PROTOCOLS: tuple[HttpProtocol, ...] = (native, openinference, tfserving)


async def _nothing_more() -> MutableMapping[str, Any]:
    return {"type": "http.request"}


@dataclass(slots=True)
class Request:
    """An HTTP request for a prediction.

    Attributes:
        method: In capitals.
        path: Decoded, without the query string.
        query: The query string.
        headers: Names in lower case.
        body: Where it has come in already.
        receive: Where it is still to come.
        started: When its first byte came, `time.perf_counter` seconds, where that was noted.
    """

    method: str
    path: str
    query: bytes
    headers: Headers
    body: bytes = b""
    receive: Receive = _nothing_more
    started: float | None = None


class Gateway:
    """ASGI application in front of BentoML's.

    Args:
        runtime: What is served.
        routes: Application for our other routes.
        inner: BentoML's application.
    """

    def __init__(self, runtime: Runtime, routes: App, inner: App) -> None:
        self._runtime = runtime
        self._routes = routes
        self._inner = inner
        self._keys = api_keys(runtime.settings)
        self._ids = RequestIds()
        self._inflater, self._inner_inflater = (Inflater(runtime.settings.max_body_bytes) for _ in range(2))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path: str = scope["path"]
        protocol = self.protocol_of(path)
        if protocol is not None:
            request = Request(scope["method"], path, scope["query_string"], scope["headers"], receive=receive)
            response = await self.reply(protocol, request)
            if response is not None:
                await send_response(response, send)
            return
        started = perf_counter()
        status = 500

        async def watch(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if NOSNIFF not in message["headers"]:
                    message["headers"] = [*message["headers"], NOSNIFF]
            await send(message)

        route = owned(path, admin=self._runtime.settings.admin_token is not None)
        try:
            if route is not None:
                scope[REQUEST_ID] = self._ids.next()
                await self._routes(scope, receive, watch)
            elif (route := bentoml_route(path)) is not None:
                await self._inner_if_allowed(route, scope, receive, watch)
            else:
                await send_response(form_of(path)(NoRouteError(path), self._ids.next()), watch)
        finally:
            seconds = perf_counter() - started
            self._runtime.metrics.other(route or UNMATCHED, status, seconds)
            if self._runtime.observer is not None:
                self._runtime.observer.other(route or UNMATCHED, status, seconds)

    async def _inner_if_allowed(self, route: str, scope: Scope, receive: Receive, send: Send) -> None:
        """BentoML's answer, to no larger body than ours; with API keys, only its descriptions of itself are open."""
        async with contextlib.AsyncExitStack() as until_answered:
            try:
                if self._keys is not None and route not in DESCRIPTIONS:
                    self._keys.check(scope["headers"])
                content_type, length, *_, encoding = _look_at(scope["headers"])
                if route not in DESCRIPTIONS and native.media_type_of(content_type) not in ("", native.JSON):
                    # It would take anything for JSON, and answer 500 to a form without a boundary.
                    raise MediaTypeError(f"Content-Type must be {native.JSON}.")
                # BentoML itself would read on for as long as somebody sends.
                body = await read_body(receive, length, self._runtime.settings.max_body_bytes)
                if encoding:
                    body = await until_answered.enter_async_context(self._inner_inflater.inflated(body, encoding))
                check_few(body)
            except ClientDisconnectError:
                self.client_left()
                return
            except ServingError as error:
                if type(error) in REASONS:
                    self._runtime.metrics.rejected.labels(REASONS[type(error)]).inc()
                await send_response(problem(error, self._ids.next()), send)
                return
            unread = [body]

            async def replay() -> MutableMapping[str, Any]:
                return {"type": "http.request", "body": unread.pop()} if unread else await receive()

            await self._inner(scope, replay, in_our_form(scope, send, self._ids.next))

    def protocol_of(self, path: str) -> HttpProtocol | None:
        """The protocol of the predictions that ``path`` belongs to, if any."""
        for protocol in _PROTOCOLS:
            if protocol.matches(path):
                return protocol
        return None

    def client_left(self) -> None:
        """Count a client that left before its request was complete."""
        self._runtime.metrics.disconnects.inc()

    async def reply(self, protocol: HttpProtocol, request: Request) -> Response | None:
        """The response to a prediction's request; None when the client left before it was complete."""
        runtime = self._runtime
        started = request.started or perf_counter()
        question = Question(protocol, self._ids.next(), b"", b"", headers=request.headers, started=started)
        name, served = "", None
        runtime.inflight += 1
        try:
            question.content_type, length, wanted_id, timeout, detailed, trace, question.encoding = _look_at(
                request.headers
            )
            question.trace = read_traceparent(trace)
            if wanted_id:
                question.request_id = self._ids.choose(wanted_id.decode("latin-1"))
            if timeout:
                question.deadline = deadline_of(timeout, started)
            posted = request.method == "POST"
            # Of another method its query string is no matter.
            name, pin, question.parameters = protocol.address(request.path, request.query if posted else b"")
            if self._keys is not None:
                self._keys.check(request.headers)
            if not posted:
                raise MethodError(request.method, "POST")  # noqa: TRY301
            admitting = admit(runtime, name, pin)
            served = await (admitting if question.deadline is None else in_time(question.deadline, admitting))
            answering = self._read_and_infer(request, length, name, pin, question)
            answer = await (answering if question.deadline is None else in_time(question.deadline, answering))
        except ClientDisconnectError:
            self.client_left()
            return None
        except asyncio.CancelledError:
            # The server cancels what nobody waits for any more.
            self.client_left()
            raise
        except Exception as error:
            response = protocol.problem(error, question.request_id)
            count_refusal(runtime, error, question, name, served, status=response[0])
            response[1].extend(self._last_headers(question))
            return response
        finally:
            runtime.inflight -= 1
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-request-id", question.request_id.encode()),
            NOSNIFF,
            *answer.headers,
        ]
        if detailed == b"1" or runtime.settings.response_details:
            headers += details(answer)
        headers += self._last_headers(question)
        return 200, headers, answer.body

    def _last_headers(self, question: Question) -> list[tuple[bytes, bytes]]:
        """What every response of a prediction ends with."""
        headers = []
        if question.trace is not None:
            headers.append((RESPONSE_HEADER, question.trace.response))
        if self._runtime.draining:
            # So that no client sends its next request on a connection that is about to close.
            headers.append((b"connection", b"close"))
        return headers

    async def _read_and_infer(
        self, request: Request, length: int | None, name: str, pin: Pin | None, question: Question
    ) -> Answer:
        question.body, limit = request.body, self._runtime.settings.max_body_bytes
        if question.body:
            limit_body(len(question.body), limit)
        else:
            question.body = await read_body(request.receive, length, limit)
            question.receive = request.receive
        if question.encoding:
            question.inflater = self._inflater
        return await infer(self._runtime, name, pin, question)


def _look_at(headers: Headers) -> tuple[bytes, int | None, bytes, bytes, bytes, bytes, bytes]:
    """Content type, length as declared, the request id and patience of the client, details or not, trace, encoding."""
    content_type, length, request_id, timeout, detailed, trace, encoding = b"", None, b"", b"", b"", b"", b""
    for key, value in headers:
        if key == b"content-type":
            content_type = value
        elif key == b"content-length":
            # What is no number declares nothing: the body is counted anyway.
            length = int(value) if value.isdigit() else None
        elif key == b"x-request-id":
            request_id = value
        elif key == TIMEOUT_HEADER:
            timeout = value
        elif key == DETAILS_HEADER:
            detailed = value
        elif key == TRACE_HEADER:
            # Twice it is invalid: then there are two values with a comma between.
            trace += b"," + value if trace else value
        elif key == b"content-encoding":
            encoding += b", " + value if encoding else value
    return content_type, length, request_id, timeout, detailed, trace, encoding
