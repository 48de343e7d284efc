"""Workers that are killed and servers that are stopped under load: who loses a request, and for how long."""

import contextlib
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import orjson
import psutil
import pytest

from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.reliability.faults import BODY, ROUTE, two_versions
from tests.reliability.probe import until

_BODY = orjson.dumps(BODY)


@dataclass
class Seen:
    """What all clients saw.

    Attributes:
        answered: Requests that got 200.
        failed: What came instead.
        longest_s: Of a request that got 200.
    """

    answered: int = 0
    failed: list[str] = field(default_factory=list)
    longest_s: float = 0.0


@contextlib.contextmanager
def clients(number: int, address: Callable[[], str]) -> Iterator[Seen]:
    """So many clients, each with one connection that it keeps, unless told to close it, or ``address`` says another."""
    seen, ended, lock = Seen(), threading.Event(), threading.Lock()

    def ask() -> None:
        at, connection = "", http.client.HTTPConnection("127.0.0.1")
        while not ended.is_set():
            if at != (at := address()):
                connection.close()
                connection = http.client.HTTPConnection(at, timeout=30)
            began = time.perf_counter()
            try:
                connection.request("POST", ROUTE, _BODY, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
                failure = "" if response.status == 200 else str(response.status)
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
                connection.close()
            with lock:
                if failure:
                    seen.failed.append(failure)
                else:
                    seen.answered += 1
                    seen.longest_s = max(seen.longest_s, time.perf_counter() - began)
            time.sleep(0.002)
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def place(server: Server) -> str:
    return server.url.removeprefix("http://")


def connections_of(server: Server, worker: int) -> int:
    port = httpx.URL(server.url).port
    found = psutil.Process(worker).net_connections()
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == port for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.reliability(32, "a worker killed under load: only what it was answering is lost, the rest at most waits")
def test_a_killed_worker_loses_at_most_one_request_a_connection(tmp_path: Path, figure: Figure, workers: int) -> None:
    two_versions(tmp_path, tmp_path / "home")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            running(tmp_path / "home", "--workers", str(workers), pretrained=tmp_path / "none")
        )
        until(lambda: len(server.workers()) == workers and _all_serve(server), 60)
        seen = stack.enter_context(clients(8, lambda: place(server)))
        until(lambda: seen.answered > 200)
        victim = server.workers()[0]
        held = connections_of(server, victim)
        os.kill(victim, signal.SIGKILL)
        seconds = until(lambda: victim not in server.workers() and len(server.workers()) == workers, 60)
        before = seen.answered
        until(lambda: seen.answered > before + 200, 60)
        seconds += until(lambda: len(server.workers()) == workers and _all_serve(server), 60)
        assert 0 < held <= 8 // workers + 2
        assert len(seen.failed) <= held, seen.failed
        until(lambda: server.metric("serving_worker_start_time_seconds", worker=str(workers)) > 0)
    figure(
        f"{workers} worker(s), 8 clients: {len(seen.failed)} of {seen.answered + len(seen.failed)} requests lost, "
        f"longest answer {seen.longest_s:.2f} s, all workers serve {seconds:.1f} s after"
    )


@pytest.mark.slow
@pytest.mark.reliability(36, "a supervisor killed: its workers drain and end, and a new server takes their port")
def test_workers_end_with_a_supervisor_that_is_killed_and_leave_its_port(tmp_path: Path, figure: Figure) -> None:
    two_versions(tmp_path, tmp_path / "home")
    with running(tmp_path / "home", "--workers", "2", pretrained=tmp_path / "none", SERVING_DRAIN_S="1") as server:
        until(lambda: len(server.workers()) == 2 and _all_serve(server), 60)
        # One that began later is started by the same thread of the supervisor, whose end is what a worker hears of.
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: len(server.workers()) == 2 and _all_serve(server), 60)
        workers = [psutil.Process(worker) for worker in server.workers()]
        with clients(4, lambda: place(server)) as seen:
            until(lambda: seen.answered > 100)
            server.process.kill()
            server.process.wait()
            killed, before = time.monotonic(), seen.answered
            until(lambda: seen.answered > before + 20, 60)
            _, left = psutil.wait_procs(workers, 30)
            seconds = time.monotonic() - killed
        for worker in left:
            worker.kill()
        assert left == []
        port = ("--port", str(httpx.URL(server.url).port))
        with running(tmp_path / "home", *port, pretrained=tmp_path / "none", ready=False) as again:
            again.url = server.url
            again.wait_until("ready")
    figure(f"2 workers answered on for {seconds:.1f} s (SERVING_DRAIN_S 1) and ended; a new server listens there")


def _all_serve(server: Server) -> bool:
    """Whether each worker takes connections and is ready."""
    opened = [httpx.Client() for _ in range(8)]
    try:
        statuses = {client.get(f"{server.url}/readyz", timeout=30).status_code for client in opened}
        return statuses == {200} and all(connections_of(server, worker) for worker in server.workers())
    finally:
        for client in opened:
            client.close()


@pytest.mark.slow
@pytest.mark.reliability(33, "SIGTERM under load with the documented stop: no request fails, exit status 0")
def test_a_stop_as_documented_fails_no_request_of_clients_that_go_by_readiness(tmp_path: Path, figure: Figure) -> None:
    two_versions(tmp_path, tmp_path / "home")
    drained = {"SERVING_DRAIN_S": "3"}
    with (
        running(tmp_path / "home", "--workers", "2", pretrained=tmp_path / "none", **drained) as first,
        running(tmp_path / "home", pretrained=tmp_path / "none") as second,
    ):
        ready, ended = [place(first), place(second)], threading.Event()
        turn = iter(range(10**9))

        def balance() -> None:
            """What a load balancer does: a server that is not ready gets nothing more."""
            while not ended.wait(0.1):
                if httpx.get(f"{first.url}/readyz", timeout=30).status_code != 200:
                    ready[:] = [place(second)]
                    return

        balancer = threading.Thread(target=balance)
        balancer.start()
        here = threading.local()

        def choose() -> str:
            # Each client keeps to its server while that is ready.
            if getattr(here, "address", None) not in ready:
                here.address = ready[next(turn) % len(ready)]
            return str(here.address)

        with clients(8, choose) as seen:
            until(lambda: seen.answered > 200)
            first.process.send_signal(signal.SIGTERM)
            status = first.process.wait(40)
            before = seen.answered
            until(lambda: seen.answered > before + 200)
        ended.set()
        balancer.join()
    assert (seen.failed, status) == ([], 0)
    figure(f"0 of {seen.answered} requests failed, longest answer {seen.longest_s:.2f} s")
