"""Load that does not wait for answers, and what becomes of each request: admitted, refused, or neither."""

import asyncio
from collections import Counter, deque
from dataclasses import dataclass, field
from time import perf_counter

import httpx
import uvloop

from benchmarks.open_load import schedule
from benchmarks.wire import Wire
from tests.e2e.server import Server

_LAST_ANSWERS_S = 60.0


@dataclass
class Load:
    """What became of the requests of one run.

    Attributes:
        statuses: How many answers had which.
        admitted_s: From when a request with answer 200 was due to that answer. Seconds.
        no_retry_after: Refusals without that header.
        broken: Connections that ended without an answer.
        never_sent: Requests that found all connections busy until the end.
        seconds: How long requests were due.
        goodput: Answers with 200 a second, of those seconds.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    admitted_s: list[float] = field(default_factory=list)
    no_retry_after: int = 0
    broken: int = 0
    never_sent: int = 0
    seconds: float = 0.0
    goodput: float = 0.0


class _Wire(Wire):
    """Keeps an answer's head."""

    head = b""
    due = 0.0

    def _measure(self, buffer: bytes) -> bool:
        end = buffer.find(b"\r\n\r\n")
        if end >= 0:
            self.head = buffer[:end].lower()
        return super()._measure(buffer)


class _Run:
    """Connections, and requests that wait for one."""

    def __init__(self, request: bytes, *, again: bool) -> None:
        self.load = Load()
        self._request = request
        self._again = again
        self._free: list[Wire] = []
        self._waiting: deque[float] = deque()
        self.busy = 0

    def opened(self, wire: Wire) -> None:
        self._free.append(wire)

    def due(self, at: float) -> None:
        """One more request, which takes a connection if there is one."""
        if self._free:
            self._send(self._free.pop(), at)
        else:
            self._waiting.append(at)

    def _send(self, wire: Wire, at: float) -> None:
        assert isinstance(wire, _Wire)
        wire.due = at
        self.busy += 1
        wire.send(self._request)

    def answered(self, wire: Wire, status: bytes, _: bytes) -> None:
        assert isinstance(wire, _Wire)
        now, code = perf_counter(), int(status)
        self.busy -= 1
        self.load.statuses[code] += 1
        if code == 200:
            self.load.admitted_s.append(now - wire.due)
        else:
            self.load.no_retry_after += b"\r\nretry-after: " not in wire.head
        if self._waiting:
            self._send(wire, self._waiting.popleft())
        elif self._again:
            self._send(wire, now)
        else:
            self._free.append(wire)

    def lost(self, wire: Wire, problem: str) -> None:
        self.load.broken += bool(problem)
        self.busy -= bool(problem)
        if wire in self._free:
            self._free.remove(wire)

    async def end(self, began: float) -> Load:
        """No more requests; wait for the answers to those that were sent."""
        self.load.seconds = perf_counter() - began
        self.load.goodput = self.load.statuses[200] / self.load.seconds
        self.load.never_sent, self._again = len(self._waiting), False
        self._waiting.clear()
        until = perf_counter() + _LAST_ANSWERS_S
        while self.busy and perf_counter() < until:  # noqa: ASYNC110 - once a run
            await asyncio.sleep(0.01)
        self.load.broken += self.busy
        for wire in self._free:
            wire.close()
        return self.load


async def _connect(server: Server, run: _Run, connections: int) -> None:
    port = httpx.URL(server.url).port
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: _Wire(run), "127.0.0.1", port)


def offer(server: Server, request: bytes, rate: float, seconds: float, connections: int, seed: int = 0) -> Load:
    """Requests at random times, ``rate`` a second on average, whether or not earlier ones are answered."""

    async def run() -> Load:
        load = _Run(request, again=False)
        await _connect(server, load, connections)
        began = perf_counter()
        times = deque(began + schedule(rate, seconds, seed))
        while times:
            while times and times[0] <= perf_counter():
                load.due(times.popleft())
            # At least one turn of the loop, in which answers are read.
            await asyncio.sleep(max(0.0, times[0] - perf_counter()) if times else 0)
        return await load.end(began)

    return uvloop.run(run())


def saturate(server: Server, request: bytes, connections: int, seconds: float) -> Load:
    """Each connection sends its next request when it has the answer to the last: as many as the server can."""

    async def run() -> Load:
        load = _Run(request, again=True)
        await _connect(server, load, connections)
        began = perf_counter()
        for _ in range(connections):
            load.due(began)
        await asyncio.sleep(seconds)
        return await load.end(began)

    return uvloop.run(run())
