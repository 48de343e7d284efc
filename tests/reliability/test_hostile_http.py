"""A real server process under raw bytes. For longer: FUZZ_SECONDS=600, with another FUZZ_SEED."""

import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import pytest

from service.settings import PRETRAINED
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.reliability.fuzz import hostile_bytes

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
KEY, TOKEN = "fuzz-key-of-sixteen", "fuzz-token-of-sixteen"
PATIENCE_S = 1.0
# What uvicorn and Starlette say of any request.
VAGUE = re.compile(rb"Invalid HTTP request received|\r\n\r\n(?:Bad Request|Not Found|Method Not Allowed)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    secrets = {"SERVING_API_KEYS": KEY, "SERVING_ADMIN_TOKEN": TOKEN}
    told = {"SERVING_LOG_LEVEL": "DEBUG", "SERVING_LOG_REQUESTS": "true", "SERVING_LOG_FORMAT": "json"}
    home = tmp_path_factory.mktemp("hostile") / "home"
    with running(home, pretrained=PRETRAINED, **secrets, **told, SERVING_RECEIVE_S=str(PATIENCE_S)) as found:
        yield found


def state(server: Server) -> tuple[int, float]:
    """Open file descriptors and resident MiB of the worker."""
    (worker,) = server.workers()
    pages = int(Path(f"/proc/{worker}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{worker}/fd").iterdir())), pages * os.sysconf("SC_PAGESIZE") / 2**20


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1])), timeout=60)


def attack(server: Server, random: Random) -> bytes:
    """One connection: hostile bytes in pieces, half-closed, reset, or waited for; what came back."""
    sent = hostile_bytes(random, KEY.encode())
    received = b""
    with connect(server) as client, suppress(OSError):
        cut = random.randint(0, len(sent))
        client.sendall(sent[:cut])
        client.sendall(sent[cut:])
        end = random.random()
        if end < 0.2:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            return b""
        if end < 0.6:
            client.shutdown(socket.SHUT_WR)
        client.settimeout(0.02)
        with suppress(TimeoutError):
            while piece := client.recv(65536):
                received += piece
    return received


@pytest.mark.reliability(21, "raw bytes of every kind give no 5xx, no hang, no growth and no secret in the log")
def test_raw_bytes_give_no_5xx_no_hang_no_growth_and_no_secret_in_the_log(server: Server, figure: Figure) -> None:
    random = Random(SEED)
    example = httpx.get(f"{server.url}/models/regressor").json()["example"]
    headers = {"x-api-key": KEY}
    httpx.post(f"{server.url}/admin/models/regressor/rollback", headers={"authorization": f"Bearer {TOKEN}"})
    expected = httpx.post(f"{server.url}/predict/regressor", json=example, headers=headers).json()["predictions"]
    ended, wrong, answered = threading.Event(), [], [0]

    def others() -> None:
        """A client beside, on connections of its own."""
        while not ended.is_set():
            answer = httpx.post(f"{server.url}/predict/regressor", json=example, headers=headers, timeout=60)
            answered[0] += 1
            if answer.status_code != 200 or answer.json()["predictions"] != expected:
                wrong.append(answer.text)
            ended.wait(0.05)

    beside = threading.Thread(target=others)
    beside.start()
    counts: dict[bytes, int] = {}
    vague: list[bytes] = []
    try:
        for _ in range(60):
            attack(server, random)
        before = state(server)
        end, attacks = time.monotonic() + SECONDS, 0
        while time.monotonic() < end:
            received = attack(server, random)
            vague += VAGUE.findall(received)
            for status in re.findall(rb"HTTP/1\.[01] (\d{3}) ", received):
                counts[status] = counts.get(status, 0) + 1
            attacks += 1
    finally:
        ended.set()
        beside.join()
    # Every connection ends: the slow ones by the bound on an incomplete request.
    deadline = time.monotonic() + 60 + PATIENCE_S
    while state(server)[0] > before[0] and time.monotonic() < deadline:
        time.sleep(0.1)
    after = state(server)
    statuses = ", ".join(f"{counts[status]} {status.decode()}" for status in sorted(counts))
    figure(
        f"seed {SEED}: {attacks} attacks ({statuses}), {answered[0]} right answers to somebody else; descriptors "
        f"{before[0]} -> {after[0]}, {after[1] - before[1]:+.1f} MiB"
    )
    assert not [status for status in counts if status >= b"500" and status not in {b"501", b"505"}], counts
    assert not vague, "each 4xx names the problem"
    assert not wrong
    assert answered[0] > 0
    assert after[0] <= before[0]
    assert after[1] - before[1] < 30
    assert server.metric("serving_inflight") == 0
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    assert "Traceback" not in server.text
    for secret in (KEY, TOKEN):
        assert secret not in server.text


def test_what_cannot_be_parsed_behind_requests_ends_them_after_their_answers_and_without_a_traceback(
    server: Server,
) -> None:
    for path, status in ((b"/livez", b"200"), (b"/nowhere", b"404")) * 10:
        with connect(server) as client, client.makefile("rb") as answers:
            client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path * 2 + b"rubbish\r\n\r\n")
            received = answers.read()
        assert received.count(b"HTTP/1.1 %b " % status) == received.count(b"HTTP/1.1 ") == 2
    assert "Traceback" not in server.text


def test_slow_senders_are_cut_off_and_nobody_else_notices(server: Server) -> None:
    before = state(server)[0]
    head = b"POST /predict/regressor HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n"
    slow = []
    try:
        for number in range(100):
            slow.append(connect(server))
            # At once: a connection that brings nothing is ended too.
            slow[-1].sendall((head[:20], head, head + b"\r\n{", b"")[number % 4])
        assert httpx.get(f"{server.url}/livez").status_code == 200
        answers = [client.recv(1000)[:13] for client in slow]
    finally:
        for client in slow:
            client.close()
    assert [answers.count(start) for start in (b"HTTP/1.1 408 ", b"")] == [75, 25]
    deadline = time.monotonic() + 60
    while state(server)[0] > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state(server)[0] <= before


@pytest.mark.parametrize("endless", [b"GET / HTTP/1.1\r\nX: ", b"POST /feedback HTTP/1.1\r\n"], ids=["one", "many"])
def test_headers_without_end_are_refused_and_kept_nowhere(server: Server, endless: bytes) -> None:
    before = state(server)[1]
    piece = (b"a: b\r\n" if endless.startswith(b"POST") else b"a") * 10_000
    with connect(server) as client, suppress(OSError):
        client.sendall(endless)
        for _ in range(2000):
            client.sendall(piece)
        raise AssertionError("it took everything")
    assert state(server)[1] - before < 20
