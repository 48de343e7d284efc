"""HTTP for predictions, for a fifth less CPU time a request than by uvicorn's general path.

uvicorn makes an ASGI scope, a request cycle, an event and a timer for each request, and checks and writes its answer in
two parts (``python -m benchmarks.profile_path`` measures both ways). A small POST to a prediction's path needs none of
that: it is answered by `Predictions.answer` from the body as it came, and a head that came before is not parsed again.
Everything else (larger bodies, other paths and methods, pipelining, upgrades, ``Expect``, chunked bodies, HTTP/1.0, a
deadline and a body that did not come along) goes uvicorn's way, on the same connection. The parser is the same
(llhttp), so both understand every request alike.
"""

import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.bounded import DEFAULT, BoundedProtocol, Limits
from service.deadlines import TIMEOUT_HEADER
from service.head import Head
from service.predictions import Predictions, Request
from service.protocols import native
from service.protocols.base import HttpProtocol, Response

logger = logging.getLogger(__name__)

# Larger bodies are counted as they come in, and may be refused before they are complete. Bytes.
_MAX_BODY: Final = 64 * 1024
_UNUSUAL: Final = frozenset({b"expect", b"transfer-encoding", b"upgrade"})
_CLOSE: Final = (b"connection", b"close")


class _Exchange:
    """One request on the fast path, with the members that `HttpToolsProtocol` looks at in its own request cycles."""

    __slots__ = ("chunks", "disconnected", "keep_alive", "on_leave", "response_complete")

    def __init__(self, on_leave: Callable[[], object] | None = None) -> None:
        self.chunks: list[bytes] = []
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = True
        self.on_leave = on_leave

    @property
    def message_event(self) -> "_Exchange":
        """What uvicorn sets when the connection is lost."""
        return self

    def set(self) -> None:
        """The connection is lost."""
        if self.disconnected and self.on_leave is not None:
            self.on_leave()


class FastPath(BoundedProtocol):
    """One connection.

    Args:
        predictions: Answers.
        limits: What a client may take.
        arguments: As `HttpToolsProtocol` takes them.
    """

    def __init__(self, predictions: Predictions, /, limits: Limits = DEFAULT, **arguments: Any) -> None:
        super().__init__(limits, **arguments)
        self._predictions = predictions
        # The request that the parser is in, where it is on the fast path, and how it is to be answered.
        self._exchange: _Exchange | None = None
        self._protocol: HttpProtocol = native
        self._length = 0
        self._unusual = False
        self._idle_since = 0.0
        self._started = 0.0
        # Of the last request on the fast path in what is being parsed.
        self._head: Head | None = None

    def data_received(self, data: bytes) -> None:
        """What came in; the parser sees it, unless it is a whole request with a head that it has seen before."""
        if not self.between or self.busy or self.pipeline or self.transport.is_closing():
            super().data_received(data)
            return
        known = self._predictions.heads.find(data)
        if known is not None:
            head, body = known
            self._unset_keepalive_if_required()
            # Line ends may have come before it.
            self._missing_since = self._overhead = 0
            exchange = self.cycle = _Exchange()  # type: ignore[assignment]
            self._answer(exchange, Request(head, body, started=perf_counter()))
            return
        self._head = None
        super().data_received(data)
        if self._head is not None:
            self._predictions.heads.keep(data, self._head)

    # The parser's callbacks, in their order.

    def on_message_begin(self) -> None:
        """A request begins; its scope is made where uvicorn's way turns out to be its own."""
        self.begun()
        self._started = perf_counter()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._exchange = None
        self._length, self._unusual = 0, False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; notes what keeps a request from the fast path."""
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)
        elif name in _UNUSUAL:
            self._unusual = True
            self.expect_100_continue |= name == b"expect" and value.lower() == b"100-continue"
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Choose the path."""
        self.head_completed()
        protocol = self._fast()
        if protocol is not None:
            self._protocol = protocol
            self._exchange = self.cycle = _Exchange(self._predictions.client_left)  # type: ignore[assignment]
            return
        self._go_uvicorns_way()

    def _go_uvicorns_way(self) -> None:
        headers, url, expect = self.headers, self.url, self.expect_100_continue
        super().on_message_begin()
        self.headers.extend(headers)
        self.url, self.expect_100_continue = url, expect
        super().on_headers_complete()
        self.cycle.keep_alive &= not self.leaves

    def _fast(self) -> HttpProtocol | None:
        """How the request that begins is to be answered, if it may take the fast path."""
        parser = self.parser
        if (
            self._unusual
            or not 0 < self._length <= _MAX_BODY
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or not parser.should_keep_alive()
            # An earlier one on this connection is not answered yet: uvicorn keeps the order.
            or (self.cycle is not None and not self.cycle.response_complete)
        ):
            return None
        path = self.url.partition(b"?")[0]
        return None if b"%" in path else self._predictions.protocol_of(path.decode("ascii"))

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self.body_came(len(body))
        if self._exchange is None:
            super().on_body(body)
        else:
            self._exchange.chunks.append(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self.completed()
        exchange = self._exchange
        if exchange is None:
            super().on_message_complete()
            if self.cycle.response_complete:
                # It was answered before its body had come.
                self._begin_idle()
            return
        self._exchange = None
        chunks = exchange.chunks
        path, _, query = self.url.partition(b"?")
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._head = Head(self._protocol, "POST", path.decode("ascii"), query, self.headers)
        self._answer(exchange, Request(self._head, body, started=self._started))

    def rest_is_missing(self) -> None:
        """A body that did not come along is waited for until the request's deadline, and not as long as it takes."""
        exchange = self._exchange
        if exchange is not None and TIMEOUT_HEADER in [name for name, _ in self.headers]:
            self._exchange = self.cycle = None  # type: ignore[assignment]
            self._go_uvicorns_way()
            for chunk in exchange.chunks:
                super().on_body(chunk)

    def _answer(self, exchange: _Exchange, request: Request) -> None:
        # When nobody is there to read an answer any more, what is still queued is not computed.
        exchange.on_leave = None
        on_leave = self._predictions.answer(request, partial(self._give, exchange))
        # Its answer may be there already, and be waiting for a client that reads nothing.
        if exchange.on_leave is None:
            exchange.on_leave = on_leave

    def _give(self, exchange: _Exchange, response: Response | None) -> None:
        """Write an answer, or end a connection that gets none."""
        if self.flow.write_paused and not self.transport.is_closing():
            # A client that sends and does not read: no more of its requests until it does.
            exchange.on_leave = self.loop.create_task(self._give_later(exchange, response)).cancel
            return
        exchange.response_complete = True
        # It leads back here: what goes in circles waits for the garbage collector, which stops everything to look.
        exchange.on_leave = None
        if self.transport.is_closing():
            return
        try:
            if response is None:
                exchange.keep_alive = False
            else:
                self.transport.write(self._message(exchange, response))
        except Exception:
            logger.exception("an answer cannot be written")
            exchange.keep_alive = False
        if exchange.keep_alive:
            self.on_response_complete()
        else:
            self._close()

    async def _give_later(self, exchange: _Exchange, response: Response | None) -> None:
        await self.flow.drain()
        self._give(exchange, response)

    def _message(self, exchange: _Exchange, response: Response) -> bytes:
        """The response as it goes out; ends the connection's life where a header says so."""
        status, headers, body = response
        content = [STATUS_LINE[status]]
        if (self.leaves or not exchange.keep_alive) and _CLOSE not in headers:
            headers = [*headers, _CLOSE]
        for name, value in (*self.server_state.default_headers, *headers):
            content += (name, b": ", value, b"\r\n")
            if name == b"connection":
                exchange.keep_alive = False
        head = b"".join(content)
        if head.count(b"\n") != (len(content) + 3) // 4:
            raise RuntimeError("a header has a line break in it")
        return b"%b\r\n%b" % (head, body)

    # One timer a connection, which looks how long it has been idle, and not one a request, cancelled by the next.

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = 0.0

    def on_response_complete(self) -> None:
        """An answer is out: the next request of the pipeline, or idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._watch_reading()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            return
        self._begin_idle()

    def _begin_idle(self) -> None:
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again_in(self.timeout_keep_alive)

    def _look_again_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for as long as it may."""
        self.timeout_keep_alive_task = None
        if not self._idle_since:
            return  # The end of what is under way begins anew.
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._look_again_in(left)
        else:
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
