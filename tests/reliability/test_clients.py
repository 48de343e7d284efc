"""Clients that die in the middle and clients that are slow: what they leave behind, and what the others notice."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.bundles import IMAGE, example_of, make_bundle
from tests.e2e.server import Server, is_closed, running
from tests.figures import Figure
from tests.redeploy.offered import slow_cars
from tests.reliability.payloads import GOOD
from tests.reliability.probe import JSON, Worker, connect, head, percentile, reset, somebody_else, until, whole

SLOW, QUICK = "/predict/cars", "/predict/clothes"
PICTURE = json.dumps({"instances": [example_of(IMAGE)]}).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``cars`` takes some 100 ms a batch, and a batch is one row; ``clothes`` is quick.

    So long that clients on a busy machine have left before most of what they asked for is computed.
    """
    folder = tmp_path_factory.mktemp("clients")
    make_bundle(folder / "pre", "clothes", IMAGE)
    slow_cars(folder, side=2000)
    told = {"SERVING_BATCH_ROWS": "1", "SERVING_MAX_QUEUE_S": "600"}
    with running(folder / "home", pretrained=folder / "pre", **told) as found:
        yield found


def idle(server: Server) -> bool:
    return not server.metric("serving_inflight") and not server.metric("serving_queue_depth", model="cars")


@pytest.mark.reliability(
    12, "clients that reset in the middle leave no slot and no descriptor, and their queued rows are skipped"
)
@pytest.mark.parametrize("clients", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_clients_that_reset_leave_nothing_behind(server: Server, figure: Figure, clients: int) -> None:
    worker = Worker.of(server)
    request = whole(SLOW, GOOD)
    chunks = head(SLOW, JSON, "Transfer-Encoding: chunked") + b"%x\r\n%b\r\n" % (len(GOOD), GOOD)
    # How far they get: half a head, half a body, a chunked body without its end, and, most of them, a whole request.
    sent = (request[:30], request[:-10], chunks, chunks + b"0\r\n\r\n", request, request, request, request)
    queued = sum(part in {request, chunks + b"0\r\n\r\n"} for part in sent) * clients // len(sent)
    until(lambda: idle(server))
    descriptors, resident = worker.descriptors(), worker.resident_mib()
    computed = server.metric("serving_batch_size_count", model="cars")
    opened = [connect(server) for _ in range(clients)]
    for number, client in enumerate(opened):
        client.sendall(sent[number % len(sent)])
    until(lambda: server.metric("serving_inflight") > queued / 2)
    for client in opened:
        reset(client)
    freed = until(lambda: idle(server) and worker.descriptors() <= descriptors, seconds=30)
    computed = server.metric("serving_batch_size_count", model="cars") - computed
    figure(
        f"{clients} clients: {computed:.0f} of their {queued} whole requests computed, all gone {freed:.1f} s after "
        f"the resets; descriptors {descriptors} -> {worker.descriptors()}, "
        f"{worker.resident_mib() - resident:+.1f} MiB"
    )
    assert computed < 0.8 * queued
    assert worker.resident_mib() - resident < 30
    with somebody_else(server, QUICK, PICTURE) as seconds:
        until(lambda: len(seconds) > 5)


@contextmanager
def slow_senders(server: Server, count: int) -> Iterator[list[int]]:
    """So many clients, each of which sends a byte a second of its head or of its body; how many bytes so far."""
    ended, sent = threading.Event(), [0]
    began = head(QUICK, JSON, "Content-Length: 100000")
    clients = [connect(server) for _ in range(count)]
    for number, client in enumerate(clients):
        client.sendall(began[: -40 if number % 2 else None])

    def drip() -> None:
        while not ended.is_set():
            for client in clients:
                # A client's turn comes once a second, so that the bytes are spread evenly.
                if ended.wait(1 / count):
                    return
                with suppress(OSError):
                    sent[0] += client.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield sent
        assert not [client for client in clients if is_closed(client)], "none was cut off before its time"
    finally:
        ended.set()
        thread.join()
        for client in clients:
            client.close()


@pytest.mark.reliability(13, "clients that send a byte a second leave the others' p99 as it is")
@pytest.mark.parametrize(
    ("requests", "rounds", "most", "share", "worse"),
    [(300, 2, 10, 0.5, 5.0), pytest.param(1000, 3, 3, 0.99, 2.0, marks=pytest.mark.slow)],
    ids=["median", "p99"],
)
def test_slow_senders_leave_the_p99_of_the_others_as_it_is(
    server: Server, figure: Figure, requests: int, rounds: int, most: int, share: float, worse: float
) -> None:
    """A short run, on any machine, judges the median, in more rounds where the machine has worse moments."""

    def late() -> float:
        with somebody_else(server, QUICK, PICTURE) as seconds:
            until(lambda: len(seconds) >= requests, 120)
        return percentile(seconds, share)

    count, bytes_sent = 200, 0
    without, beside = [late()], []
    while len(beside) < rounds or (min(beside) >= worse * min(without) and len(beside) < most):
        with slow_senders(server, count) as sent:
            beside.append(late())
        bytes_sent += sent[0]
        without.append(late())
    assert bytes_sent
    # The machine has better and worse moments; the best of each is what the service does by itself.
    figure(
        f"{count} slow senders, {bytes_sent} bytes: others' p{100 * share:g} {1000 * min(beside):.2f} ms, "
        f"{1000 * min(without):.2f} ms without (best of {len(beside)}; accepted: {worse:g} times as much)"
    )
    assert min(beside) < worse * min(without)
