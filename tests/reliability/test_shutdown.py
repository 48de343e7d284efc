"""SIGTERM, whatever is under way: what was asked is answered, nothing new comes in, and nothing hangs."""

import fcntl
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from service.settings import PRETRAINED
from tests.e2e.server import running
from tests.figures import Figure
from tests.redeploy.offered import slow_cars
from tests.reliability.payloads import GOOD
from tests.reliability.probe import connect, receive, until, whole

QUEUE_S, DRAIN_S = 5.0, 3.0
"""How long the queue at the time of SIGTERM takes: longer than the draining, in which a busy client must have come."""
REQUEST = whole("/predict/cars", GOOD)
GRACE_S = 30
"""What the supervisor gives its worker, drain included."""


@pytest.mark.reliability(
    8,
    "SIGTERM with requests in flight: all answered, new connections refused, exit 0 within the grace period",
    alike=False,
)
@pytest.mark.parametrize("held", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["", "held up"])
def test_sigterm_answers_all_that_is_queued_and_refuses_new_connections(
    tmp_path: Path, figure: Figure, held: bool
) -> None:
    slow_cars(tmp_path, side=1350)
    told = {"SERVING_BATCH_ROWS": "1", "SERVING_MAX_QUEUE_S": "600", "SERVING_DRAIN_S": f"{DRAIN_S}"}
    with running(tmp_path / "home", pretrained=tmp_path / "pre", **told) as server:
        idle, half, never, kept = (connect(server) for _ in range(4))
        half.sendall(REQUEST[:-10])
        if held:
            # Its rest never comes.
            never.sendall(REQUEST[:-10])
        began = time.monotonic()
        for _ in range(5):
            kept.sendall(REQUEST)
            assert receive(kept).status == 200
        count = min(300, int(QUEUE_S / (time.monotonic() - began) * 5))
        queued = [connect(server) for _ in range(count)]
        for client in queued:
            client.sendall(REQUEST)
        until(lambda: server.metric("serving_inflight") > count / 4)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{server.url}/readyz").json()["status"] == "draining")
        late = connect(server)
        late.sendall(REQUEST)
        half.sendall(REQUEST[-10:])
        statuses: list[int] = []
        reading = threading.Thread(target=lambda: statuses.extend(receive(client).status for client in queued))
        reading.start()
        closed = until(lambda: is_refused(server.url), GRACE_S)
        waiting = count - len(statuses)
        reading.join()
        drained, halved = receive(late), receive(half)
        assert server.process.wait(GRACE_S) == 0
        seconds = time.monotonic() - began
        for client in (idle, half, never, kept, late, *queued):
            client.close()
        assert "Traceback" not in server.text
    figure(
        f"{count} in flight: {statuses.count(200)} answered, {waiting} of them after new connections were refused "
        f"({closed:.1f} s); exit 0 after {seconds:.1f} s of {GRACE_S}"
    )
    assert statuses == [200] * count
    assert halved.status == 200, "its body came later"
    assert drained.status == 200, "until the time of draining is over"
    assert drained.headers["connection"] == "close"


def is_refused(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.reliability(
    9, "SIGTERM with an idle kept-alive connection while models load or wait for the store: no hang", alike=False
)
@pytest.mark.parametrize("waiting", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["store", "load"])
def test_sigterm_while_models_load_hangs_nothing(tmp_path: Path, figure: Figure, waiting: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with (home / ".lock").open("w") as lock:
        if waiting:
            # Another process changes the store, and takes its time.
            fcntl.flock(lock, fcntl.LOCK_EX)
        with running(home, pretrained=PRETRAINED, ready=False) as server, httpx.Client() as client:
            server.wait_until("loading")
            assert client.get(f"{server.url}/livez").status_code == 200
            began = time.monotonic()
            assert server.terminate() == 0
            seconds = time.monotonic() - began
            assert "Traceback" not in server.text
    figure(
        f"{'while it waits for the store' if waiting else 'during a load'}: exit 0 after {seconds:.1f} s of {GRACE_S}"
    )
