"""A model slower than what is asked of it: who leaves, who is late, who is refused, and who is not held up."""

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import httpx
import pytest

from tests.bundles import CREATED, IMAGE, example_of, make_bundle
from tests.e2e.server import Server, running, wait_for
from tests.redeploy.offered import SLOW, moody, resealed, slow_cars


def car(weight: float) -> bytes:
    return json.dumps({"instances": [{"weight": weight, "horsepower": 100, "origin": "usa"}]}).encode()


CAR, HEAVY = car(2000), car(SLOW)
HEAD = b"POST /predict/cars HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
# A small body of known length goes past uvicorn's general path; a chunked one does not.
LENGTH = b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(CAR), CAR)
HEAVY_LENGTH = b"%bContent-Length: %d\r\n\r\n%b" % (HEAD, len(HEAVY), HEAVY)
CHUNKED = b"%bTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (HEAD, len(CAR), CAR)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``cars`` takes some 10 ms a batch, with a heavy car 1.5 s, and a batch is one row; ``clothes`` is quick."""
    folder = tmp_path_factory.mktemp("admission")
    make_bundle(folder / "pre", "clothes", IMAGE)
    cars = slow_cars(folder / "steady")
    resealed(cars, folder / "pre" / "cars", CREATED + timedelta(days=2), moody(cars, rounds=150))
    options = {"SERVING_BATCH_ROWS": "1", "SERVING_MAX_QUEUE_S": "600"}
    options |= {"SERVING_MAX_REQUEST_ROWS": "40", "SERVING_MAX_QUEUE_ROWS": "40"}
    with running(folder / "home", pretrained=folder / "pre", **options) as found:
        yield found


def port_of(server: Server) -> tuple[str, int]:
    url = httpx.URL(server.url)
    return url.host, url.port or 0


def idle(server: Server) -> float:
    """Wait until nothing is queued or computed; batches of ``cars`` so far."""

    def is_idle() -> bool:
        return not server.metric("serving_inflight") and not server.metric("serving_queue_depth", model="cars")

    wait_for(is_idle, "an end of all requests")
    return server.metric("serving_batch_size_count", model="cars")


def post(server: Server, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{server.url}/predict/cars", content=CAR, headers={"content-type": "application/json", **headers}, timeout=60
    )


def queue_up(server: Server, count: int, request_bytes: bytes = LENGTH) -> list[socket.socket]:
    """Send a heavy car to ``cars``, then that many others, and wait until most of them are queued behind it.

    Without it the queue would be worked off before a busy machine lets anybody look.
    """
    heavy, *clients = (socket.create_connection(port_of(server), timeout=60) for _ in range(1 + count))
    heavy.sendall(HEAVY_LENGTH)
    wait_for(lambda: server.metric("serving_inflight"), "the heavy car")
    for client in clients:
        client.sendall(request_bytes)
    wait_for(lambda: server.metric("serving_queue_depth", model="cars") >= count / 2, "a queue")
    return [heavy, *clients]


@pytest.mark.parametrize("request_bytes", [LENGTH, CHUNKED], ids=["length", "chunked"])
def test_what_clients_that_leave_had_in_the_queue_is_not_computed(server: Server, request_bytes: bytes) -> None:
    before, left = idle(server), server.metric("serving_client_disconnects_total")
    for client in queue_up(server, 36, request_bytes):
        client.close()
    computed = idle(server) - before
    assert computed < 27, "at least half of those in the queue were not"
    assert server.metric("serving_client_disconnects_total") - left >= 36 - computed


def test_a_deadline_in_a_long_queue_is_504_before_the_queue_is_worked_off(server: Server) -> None:
    before = idle(server)
    clients = queue_up(server, 36)
    late = post(server, **{"x-request-timeout-ms": "20"})
    computed = server.metric("serving_batch_size_count", model="cars") - before
    for client in clients:
        client.close()
    assert late.status_code == 504, late.text
    assert late.json()["title"] == "Too late"
    assert computed < 36


@pytest.mark.parametrize("length", [2_000, 200_000])
def test_a_deadline_ends_the_wait_for_a_body_that_does_not_come(server: Server, length: int) -> None:
    with socket.create_connection(port_of(server), timeout=60) as client:
        client.sendall(b"%bX-Request-Timeout-Ms: 100\r\nContent-Length: %d\r\n\r\n%b" % (HEAD, length, CAR))
        assert client.recv(4096).startswith(b"HTTP/1.1 504 ")


def test_what_does_not_fit_into_the_queue_is_429_with_the_time_to_wait_and_all_else_is_answered(server: Server) -> None:
    idle(server)
    clients = queue_up(server, 60)
    answers = [client.recv(4096) for client in clients]
    for client in clients:
        client.close()
    assert {answer.split()[1] for answer in answers} == {b"200", b"429"}
    assert all(b"\r\nretry-after: " in answer for answer in answers if answer.split()[1] == b"429")


def test_a_flooded_model_does_not_hold_up_another(server: Server) -> None:
    before = idle(server)
    picture = json.dumps({"instances": [example_of(IMAGE)]}).encode()
    over = Event()

    def ask(connection: http.client.HTTPConnection, model: str, body: bytes) -> int:
        connection.request("POST", f"/predict/{model}", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status

    def flood() -> None:
        connection = http.client.HTTPConnection(*port_of(server), timeout=60)
        while not over.is_set():
            assert ask(connection, "cars", CAR) in {200, 429}
        connection.close()

    with ThreadPoolExecutor(48) as pool:
        flooding = [pool.submit(flood) for _ in range(48)]
        while server.metric("serving_queue_depth", model="cars") < 20:
            assert not any(future.done() for future in flooding)
        quick = http.client.HTTPConnection(*port_of(server), timeout=60)
        assert [ask(quick, "clothes", picture) for _ in range(100)] == [200] * 100
        quick.close()
        flooded = server.metric("serving_batch_size_count", model="cars") - before
        over.set()
        for future in flooding:
            future.result()
    # Behind the other's queue it would have been twenty and more for each request.
    assert flooded < 5 * 100
