"""The front door: answers predictions before BentoML's own routes and middleware are reached.

BentoML's router, tracing and middleware cost more than a prediction does, so predictions are found by the look of
their path, our few other routes by an exact lookup, and everything else falls through.
"""

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from models.errors import ServingError
from service.access import api_keys
from service.bodies import read_body
from service.decode.inflate import Inflater
from service.decode.json_cost import check_few
from service.errors import NOSNIFF, ClientDisconnectError, MediaTypeError, NoRouteError, form_of, problem
from service.head import Head
from service.metrics import UNMATCHED
from service.predictions import Predictions, Request
from service.protocols import native
from service.refusals import REASONS
from service.replies import in_our_form, send_response
from service.request_id import RequestIds
from service.routes import DESCRIPTIONS, REQUEST_ID, bentoml_route, owned
from service.runtime import Runtime

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gateway:
    """ASGI application in front of BentoML's.

    Args:
        runtime: What is served.
        routes: Application for our other routes.
        inner: BentoML's application.

    Attributes:
        predictions: Answers what is asked of models.
    """

    def __init__(self, runtime: Runtime, routes: App, inner: App) -> None:
        self._runtime = runtime
        self._routes = routes
        self._inner = inner
        self._keys = api_keys(runtime.settings)
        self._ids = RequestIds()
        self._inflater = Inflater(runtime.settings.max_body_bytes)
        self.predictions = Predictions(runtime)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path: str = scope["path"]
        protocol = self.predictions.protocol_of(path)
        if protocol is not None:
            head = Head(protocol, scope["method"], path, scope["query_string"], scope["headers"])
            response = await self.predictions.reply(Request(head, receive=receive))
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
                head = Head(native, scope["method"], scope["path"], b"", scope["headers"])
                if route not in DESCRIPTIONS and native.media_type_of(head.content_type) not in ("", native.JSON):
                    # It would take anything for JSON, and answer 500 to a form without a boundary.
                    raise MediaTypeError(f"Content-Type must be {native.JSON}.")
                # BentoML itself would read on for as long as somebody sends.
                body = await read_body(receive, head.length, self._runtime.settings.max_body_bytes)
                if head.encoding:
                    body = await until_answered.enter_async_context(self._inflater.inflated(body, head.encoding))
                check_few(body)
            except ClientDisconnectError:
                self.predictions.client_left()
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
