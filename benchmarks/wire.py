"""One kept-alive connection of a load generator: a bare asyncio protocol, light enough not to be what is measured."""

import asyncio
import base64
from typing import Protocol, cast

from benchmarks.plan import Plan


class Owner(Protocol):
    """Who is told what happens on a connection."""

    def opened(self, wire: "Wire") -> None:
        """It may be used."""

    def answered(self, wire: "Wire", status: bytes, body: bytes) -> None:
        """The answer to what was sent last is complete."""

    def lost(self, wire: "Wire", problem: str) -> None:
        """It is closed; ``problem`` says why where an answer was still due."""


class Wire(asyncio.Protocol):
    """One request under way at a time.

    Attributes:
        index: Free for the owner: which request is under way.
        since: Free for the owner: when it began.
    """

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._buffer = b""
        self._needed = 0
        self._body_at = 0
        self._waiting = False
        self._problem = ""
        self._transport: asyncio.WriteTransport
        self.index = 0
        self.since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._owner.opened(self)

    def send(self, request: bytes) -> None:
        """Send a whole request; the one before it has been answered."""
        self._waiting = True
        self._transport.write(request)

    def close(self) -> None:
        """Done with it: what is still due is not missed."""
        self._waiting = False
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whether an answer was due."""
        due = f"connection lost while waiting for an answer: {exc or 'closed by the server'}" if self._waiting else ""
        self._waiting = False
        self._owner.lost(self, self._problem or due)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; uvloop hands over all of a small one at once."""
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if not self._needed and not self._measure(buffer):
            return
        if len(buffer) >= self._needed:
            body = buffer[self._body_at : self._needed]
            self._buffer, self._needed, self._waiting = b"", 0, False
            self._owner.answered(self, buffer[9:12], body)

    def _measure(self, buffer: bytes) -> bool:
        """Find out how long the answer is; false while its head is incomplete."""
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = buffer[:end].lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._problem = f"an answer without Content-Length: {head[:200]!r}"
            self.close()
            return False
        line_end = head.find(b"\r\n", at + 2)
        length = int(head[at + 17 : line_end if line_end > 0 else None])
        self._body_at = end + 4
        self._needed = self._body_at + length
        return True


def serialised(plan: Plan) -> list[bytes]:
    """Every request of ``plan``, ready to be sent."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in plan.headers)
    start = f"POST {plan.path} HTTP/1.1\r\nHost: {plan.host}:{plan.port}\r\n{headers}Content-Length: "
    bodies = [base64.b64decode(body) for body in plan.bodies]
    return [f"{start}{len(body)}\r\n\r\n".encode() + body for body in bodies]
