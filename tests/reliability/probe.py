"""A real server asked byte for byte, and what that costs its worker."""

import http.client
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.server import Server

JSON = "application/json"


@dataclass(frozen=True)
class Reply:
    """What came back; status 0 where the connection ended without an answer.

    Attributes:
        headers: Names in lower case.
        seconds: From the first byte sent to the last received.
    """

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    seconds: float = 0.0


def head(path: str, content_type: str, *lines: str) -> bytes:
    """A request's first bytes: everything before its body."""
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: test", f"Content-Type: {content_type}", *lines, "", ""]
    ).encode()


def whole(path: str, body: bytes, content_type: str = JSON) -> bytes:
    """A request whose body has its length."""
    return head(path, content_type, f"Content-Length: {len(body)}") + body


def connect(server: Server, timeout: float = 30) -> socket.socket:
    """A connection of its own."""
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=timeout)


def reset(client: socket.socket) -> None:
    """End a connection as a client that dies does: without a word more."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    client.close()


def receive(client: socket.socket) -> Reply:
    """The next answer."""
    response = http.client.HTTPResponse(client, method="POST")
    try:
        response.begin()
        body = response.read()
    except (ConnectionError, http.client.BadStatusLine):
        return Reply(0)
    finally:
        response.close()
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


def exchange(server: Server, *pieces: bytes) -> Reply:
    """Send on a connection of its own; a server that reads no further is heard all the same."""
    began = time.perf_counter()
    with connect(server) as client:
        with suppress(ConnectionError):
            for piece in pieces:
                client.sendall(piece)
        reply = receive(client)
    return Reply(reply.status, reply.headers, reply.body, time.perf_counter() - began)


@dataclass(frozen=True)
class Worker:
    """The only worker process of a server."""

    pid: int

    @classmethod
    def of(cls, server: Server) -> "Worker":
        (pid,) = server.workers()
        return cls(pid)

    def descriptors(self) -> int:
        """Open files and sockets."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    def resident_mib(self) -> float:
        """Memory that it has now."""
        return self._status("VmRSS")

    @contextmanager
    def peak(self) -> Iterator[Callable[[], float]]:
        """How many MiB more than at the beginning it has had at most."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")  # the high-water mark begins anew
        before = self._status("VmRSS")
        yield lambda: max(0.0, self._status("VmHWM") - before)

    def _status(self, name: str) -> float:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def somebody_else(server: Server, path: str, body: bytes, content_type: str = JSON) -> Iterator[list[float]]:
    """Another client, on one connection of its own, all of whose answers are right; their seconds.

    Raises:
        AssertionError: When left, if one was not 200.
    """
    ended, seconds, wrong = threading.Event(), list[float](), list[object]()

    def ask() -> None:
        url = server.url.removeprefix("http://")
        connection = http.client.HTTPConnection(url, timeout=30)
        while not ended.is_set():
            began = time.perf_counter()
            try:
                connection.request("POST", path, body, {"content-type": content_type})
                response = connection.getresponse()
                if response.status != 200:
                    wrong.append((response.status, response.read()))
                response.read()
            except OSError as error:
                wrong.append(error)
                return
            seconds.append(time.perf_counter() - began)
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seconds
    finally:
        ended.set()
        thread.join()
    assert not wrong, wrong[:3]


def now_and_then(port: int, request: bytes, seconds: float) -> list[tuple[int, float]]:
    """Status and seconds of the answers to a client that asks some 50 times a second, on one connection.

    For a process of its own, whose times do not wait for those of a client that is busy.
    """
    seen, until = list[tuple[int, float]](), time.perf_counter() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        while (began := time.perf_counter()) < until:
            client.sendall(request)
            seen.append((receive(client).status, time.perf_counter() - began))
            time.sleep(0.02)
    return seen


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def until(true: Callable[[], bool], seconds: float = 60) -> float:
    """Wait until something is true; the seconds that took. Long, since only a failure takes them.

    Raises:
        AssertionError: It is not within ``seconds``.
    """
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < seconds
        time.sleep(0.02)
    return time.monotonic() - began
