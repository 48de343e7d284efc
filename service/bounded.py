"""HTTP connections that end when a client takes too long, or too much, for what is no body.

uvicorn waits without end for the rest of a request, for a first one, and for a client to read its answer, and keeps
headers, trailers and chunk extensions of any length. Bodies are counted where they are read (`Gateway`,
`service.bodies`).
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import uvicorn.config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

# Bytes of chunk sizes and line ends that a byte of body may come with: one-byte chunks have five.
_FRAMING_A_BYTE = 8
# Pipelined requests that may wait on one connection: a client sends 18 bytes for each, and we keep kilobytes.
_MAX_PIPELINE = 64


@dataclass(frozen=True)
class Limits:
    """What a client may take.

    Attributes:
        receive_s: Longest time from a request's first byte to its last, of a connection without any, and in which a
            client reads nothing of its answer. Seconds.
        head_bytes: Most bytes of a request that are no body. One read of the socket may come on top.
        last_s: What is left of that time, at most, once the server stops, however much a client still reads: nobody is
            to hold that up. Seconds.
    """

    receive_s: float = 60.0
    head_bytes: int = 64 * 1024
    last_s: float = 5.0


DEFAULT = Limits()


class HeadError(ValueError):
    """A rule that a request's headers break, though the parser takes them."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection.

    Args:
        limits: When it ends.
        arguments: As `HttpToolsProtocol` takes them.
    """

    def __init__(self, limits: Limits, /, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._limits = limits
        # Since when the rest of a request has been missing; 0 where none is. By the loop's clock.
        self._missing_since = 0.0
        self._missing_task: asyncio.TimerHandle | None = None
        # How much of what was written had not gone out at the last look. Bytes.
        self._unread = 0
        self._unread_task: asyncio.TimerHandle | None = None
        self._stopping = self._complete = self._head_complete = False
        # Whether the parser is at the end of a request, and not within one.
        self.between = True
        self._overhead = 0
        self._running: RequestResponseCycle | None = None
        # Whether its client is to come again on another connection, which another worker takes.
        self.leaves = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there, and a request is missing."""
        super().connection_made(transport)
        self._begin_missing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        if self._missing_task is not None:
            self._missing_task.cancel()
        self._stop_watching()
        self._give_up_answering()

    def shutdown(self) -> None:
        """The server stops: what is under way is answered, and what is not complete or not read soon is given up."""
        super().shutdown()
        self._stopping = True
        self._limits = replace(self._limits, receive_s=min(self._limits.receive_s, self._limits.last_s))
        if self.transport.is_closing() or self.flow.write_paused:
            self._stop_watching()
            self._watch_reading()
        if self._missing_since and not self.transport.is_closing():
            if self._missing_task is not None:
                self._missing_task.cancel()
                self._missing_task = None
            self._begin_missing()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is answered, or not at all."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """It has read nearly everything; where the connection is closing, the rest is waited for too."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_watching()

    def _close(self) -> None:
        """Close when everything is read, which may be never."""
        self.transport.close()
        self._watch_reading()

    def _watch_reading(self) -> None:
        if self._unread_task is None:
            self._unread = self.transport.get_write_buffer_size()
            self._unread_task = self.loop.call_later(self._limits.receive_s, self._look_for_reading)

    def _stop_watching(self) -> None:
        if self._unread_task is not None:
            self._unread_task.cancel()
            self._unread_task = None

    def _look_for_reading(self) -> None:
        """Drop a client that has read nothing for as long as it may; a slow one may go on."""
        self._unread_task = None
        if self.transport.get_write_buffer_size() < self._unread and not self._stopping:
            self._watch_reading()
        else:
            self.transport.abort()

    def _should_upgrade(self) -> bool:
        # Nothing here speaks WebSocket, but a library for it may be installed: uvicorn would hand the connection over,
        # and forget the answers to earlier requests on it, which it then writes to a closed one.
        return False

    def _unsupported_upgrade_warning(self) -> None:
        """A server may ignore such a wish (RFC 9110, section 7.8): no lines in the log for it."""

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def data_received(self, data: bytes) -> None:
        """What came in; afterwards a request may be incomplete."""
        self._complete = False
        self._overhead += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            self._give_up_answering()
        elif self._complete:
            return
        elif self._overhead > self._limits.head_bytes:
            self._refuse(431, "The request's headers, or the framing of its body, are too large.")
        else:
            if not self._missing_since:
                self._begin_missing()
            self.rest_is_missing()

    def rest_is_missing(self) -> None:
        """What has come in is at its end, and a request that has begun is not."""

    def begun(self) -> None:
        """The parser is at a request's first byte."""
        self._complete = self._head_complete = self.between = False

    def head_completed(self) -> None:
        """The parser is behind a request's headers.

        Raises:
            HeadError: There is not one Host.
            ValueError: Too many requests wait on this connection, which is closed; ends the parsing.
        """
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            raise HeadError(f"Host must come once, received {hosts} times")
        self._head_complete = True
        if len(self.pipeline) > _MAX_PIPELINE:
            self._close()
            raise ValueError("too many requests wait")

    def body_came(self, size: int) -> None:
        """So many bytes were of a body, each of which may come with some that are not."""
        self._overhead -= size * (1 + _FRAMING_A_BYTE)

    def completed(self) -> None:
        """The parser is behind a request's last byte."""
        self._complete = self.between = True
        self._head_complete = False
        self._missing_since = self._overhead = 0

    def _begin_missing(self) -> None:
        self._missing_since = self.loop.time()
        if self._missing_task is None:
            self._missing_task = self.loop.call_later(self._limits.receive_s, self._look_for_missing)

    def _look_for_missing(self) -> None:
        """Close a connection whose request has been incomplete for as long as it may be."""
        self._missing_task = None
        if not self._missing_since or self.transport.is_closing():
            return  # The next incomplete request begins anew.
        if self.flow.read_paused or self._answers_an_earlier_one():
            # It is us for whom the client waits.
            self._begin_missing()
            return
        left = self._missing_since + self._limits.receive_s - self.loop.time()
        if left > 0:
            self._missing_task = self.loop.call_later(left, self._look_for_missing)
        elif self._overhead or self.cycle is not None:
            self._refuse(408, f"The request was not complete within {self._limits.receive_s:g} s.")
        else:
            # Nothing came: a browser's connection in reserve, which expects no answer.
            self.transport.close()

    @property
    def busy(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    def _answers_an_earlier_one(self) -> bool:
        return bool(self.pipeline) or (self.busy and not self._head_complete)

    def _refuse(self, status: int, reason: str) -> None:
        """Say why where no answer was begun, and close."""
        begun = self._head_complete and (self.cycle.response_complete or getattr(self.cycle, "response_started", False))
        if not begun and not self._answers_an_earlier_one():
            self._say(status, reason)
        self._close()
        self._give_up_answering()

    def _say(self, status: int, reason: str) -> None:
        body = reason.encode()
        self.transport.write(
            b"%bcontent-type: text/plain; charset=utf-8\r\nx-content-type-options: nosniff\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%b" % (STATUS_LINE[status], len(body), body)
        )

    def _give_up_answering(self) -> None:
        """Write no answer to a closed socket: uvicorn tells only the newest request, and a turn of the loop late."""
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed and say why, unless the connection is closing already."""
        if self._answers_an_earlier_one() and not self._head_complete:
            # That is answered, and the connection closed: its client would take ours for that answer, or a part of it.
            self.cycle.keep_alive = False
        elif not self.transport.is_closing():
            remedy = "Check the request line, the headers and the framing of the body."
            self._refuse(400, f"Not an HTTP/1.1 request (RFC 9112): {_reason() or msg}. {remedy}")


def _reason() -> str:
    """What the parser, or we, found wrong: uvicorn catches it, and says the same of all."""
    error = sys.exception()
    # The parser's own are a table of texts. Of others that a callback raises only ours are for the client.
    own = error.__context__ if error is not None else None
    return str(error or "") if own is None else str(own) if isinstance(own, HeadError) else ""


def make_connections(make: Callable[..., asyncio.Protocol]) -> None:
    """Let the uvicorn server that is made next in this process get the protocol of each connection from ``make``.

    uvicorn looks them up here: the only way into BentoML's server (tests/service/test_bentoml_contract.py pins it).
    """
    uvicorn.config.HTTP_PROTOCOLS["auto"] = make  # type: ignore[assignment]
