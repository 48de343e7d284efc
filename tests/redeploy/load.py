"""Constant load from a process of its own, which records every answer: ``python -m tests.redeploy.load``.

An open loop: requests leave on schedule whether or not earlier ones are answered, and latency counts from the
scheduled time, so that a stall shows in all requests that it delays. A `Plan` as JSON is the first line of standard
input; the load ends when standard input does, and the record is then written to the plan's file.
"""

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import numpy as np

_ATTEMPTS = 3
_ANSWER_SECONDS = 20
_MAX_SECONDS = 3600


@dataclass(frozen=True)
class Route:
    """One kind of request.

    Attributes:
        path: With query.
        content_type: Of the bodies.
        bodies: In base64, sent in turn.
        headers: Further ones.
        keys: How many values ``X-Canary-Key`` takes in turn; 0 sends none.
    """

    path: str
    content_type: str
    bodies: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    keys: int = 0


@dataclass(frozen=True)
class Plan:
    """What is sent, how often, and where the record goes.

    Attributes:
        port: Of the server, which is at ``host``, a loopback address.
        rate: Requests a second, over all routes in turn.
        connections: Kept-alive connections; a request that finds none free waits, and its latency with it.
        record: The npz file that `Record.read` takes.
    """

    port: int
    rate: float
    routes: tuple[Route, ...]
    record: str
    connections: int = 16
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if not ip_address(self.host).is_loopback:
            raise ValueError(f"host must be a loopback address. Received: {self.host}. Load your own machine only.")
        if not 0 < self.rate <= 5000 or not 1 <= self.connections <= 256:
            raise ValueError("rate must be above 0 and at most 5000 a second, connections from 1 to 256")


@dataclass
class Sent:
    """What became of the requests.

    Attributes:
        answers: (route, body, answer without its request id) -> how often. Few differ, so all are kept.
        rows: One a request: due (seconds since 1970), latency (seconds), route, status, index in ``versions``.
        versions: That answered, in order of appearance.
        retried: Requests sent again because their connection broke before an answer came.
        problems: The first few that got no answer.
    """

    answers: Counter[tuple[int, int, bytes]] = field(default_factory=Counter)
    rows: list[tuple[float, float, int, int, int]] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    problems: list[str] = field(default_factory=list)


class Connection:
    """One kept-alive connection, opened anew when the server closed it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body.

        Raises:
            OSError: The connection broke.
            EOFError: The server closed it early.
        """
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._plan.host, self._plan.port)
        assert self._reader is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None


def _requests(plan: Plan) -> list[tuple[int, int, bytes]]:
    """Route, body and bytes of every request, in the order in which they are sent again and again."""
    by_route = []
    for number, route in enumerate(plan.routes):
        requests = []
        for turn in range(max(route.keys, len(route.bodies))):
            index = turn % len(route.bodies)
            body = base64.b64decode(route.bodies[index])
            headers = [*route.headers, *([("x-canary-key", f"client-{turn % route.keys}")] if route.keys else [])]
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
            head = (
                f"POST {route.path} HTTP/1.1\r\nHost: {plan.host}\r\nContent-Type: {route.content_type}\r\n"
                f"{lines}Content-Length: {len(body)}\r\n\r\n"
            )
            requests.append((number, index, head.encode() + body))
        by_route.append(requests)
    longest = max(map(len, by_route))
    return [requests[turn % len(requests)] for turn in range(longest) for requests in by_route]


async def _send(due: float, request: tuple[int, int, bytes], free: asyncio.Queue[Connection], sent: Sent) -> None:
    route, body_index, data = request
    connection = await free.get()
    status, version = 0, ""
    try:
        for attempt in range(_ATTEMPTS):
            try:
                status, body = await asyncio.wait_for(connection.ask(data), _ANSWER_SECONDS)
            except (OSError, EOFError, TimeoutError) as error:
                # A prediction changes nothing, so a client or load balancer may send it again.
                connection.close()
                sent.retried += 1
                if attempt == _ATTEMPTS - 1:
                    sent.problems.append(f"route {route}: {error!r}")
                continue
            break
        if status == 200:
            answer: dict[str, Any] = json.loads(body)
            version = answer["version"]
            del answer["request_id"]
            sent.answers[route, body_index, json.dumps(answer, sort_keys=True).encode()] += 1
        elif status:
            sent.problems.append(f"route {route}: {status} {body[:300]!r}")
    finally:
        free.put_nowait(connection)
        index = sent.versions.setdefault(version, len(sent.versions))
        sent.rows.append((due, time.time() - due, route, status, index))


async def generate(plan: Plan, stop: asyncio.Event) -> Sent:
    """Send until ``stop`` is set, then wait for the answers that are due."""
    sent = Sent()
    requests = _requests(plan)
    free: asyncio.Queue[Connection] = asyncio.Queue()
    connections = [Connection(plan) for _ in range(plan.connections)]
    for connection in connections:
        free.put_nowait(connection)
    running: set[asyncio.Task[None]] = set()
    started = time.time()
    number = 0
    while not stop.is_set() and time.time() - started < _MAX_SECONDS:
        due = started + number / plan.rate
        if (wait := due - time.time()) > 0:
            await asyncio.sleep(wait)
        task = asyncio.create_task(_send(due, requests[number % len(requests)], free, sent))
        running.add(task)
        task.add_done_callback(running.discard)
        number += 1
    await asyncio.gather(*running)
    for connection in connections:
        connection.close()
    return sent


def write(sent: Sent, path: Path) -> None:
    """Keep the record in one file."""
    rows = np.array(sent.rows, dtype=np.float64).reshape(-1, 5)
    document = {
        "versions": list(sent.versions),
        "answers": [[route, body, text.decode(), count] for (route, body, text), count in sent.answers.items()],
        "retried": sent.retried,
        "problems": sent.problems[:20],
    }
    np.savez_compressed(path, rows=rows[np.argsort(rows[:, 0])], document=json.dumps(document))


async def _main() -> None:
    document = json.loads(sys.stdin.readline())
    routes = tuple(Route(**{**route, "bodies": tuple(route["bodies"])}) for route in document.pop("routes"))
    plan = Plan(**document, routes=routes)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Standard input ends when the parent says so, or dies.
    waiting = loop.run_in_executor(None, sys.stdin.read)
    waiting.add_done_callback(lambda _: stop.set())
    write(await generate(plan, stop), Path(plan.record))


if __name__ == "__main__":
    asyncio.run(_main())
