"""What strangers choose reaches neither the number of metrics nor the lines of the log."""

import re
from collections.abc import Iterator
from random import Random

import httpx
import pytest

from tests.bundles import CARS, make_bundle
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.reliability.payloads import GOOD
from tests.reliability.probe import connect, exchange, receive, until, whole

FORGED = "2026-11-21T00:00:00.000Z [ERROR] [1:service.app] forged"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Says all that it can say in its log, as text, where a line break would show."""
    folder = tmp_path_factory.mktemp("cardinality")
    make_bundle(folder / "pre", "cars", CARS)
    told = {"SERVING_LOG_REQUESTS": "true", "SERVING_LOG_LEVEL": "DEBUG", "SERVING_LOG_FORMAT": "text"}
    with running(folder / "home", pretrained=folder / "pre", **told) as found:
        yield found


def series(server: Server) -> set[str]:
    """Names and labels of everything in /metrics."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


def random_request(random: Random) -> bytes:
    """A route that is not there, or a model, version, label, method or protocol that is not."""
    word = f"{random.getrandbits(64):x}"
    path = random.choice(
        (
            f"/{word}",
            f"/predict/{word}",
            f"/predict/cars?version={word}",
            f"/v1/models/{word}:predict",
            f"/v2/models/{word}/infer",
            f"/v2/models/cars/versions/{word}/infer",
            f"/models/{word}",
            f"/models/{word}/drift",
            f"/web/{word}",
            f"/admin/models/{word}/promote",
        )
    )
    return whole(path, GOOD).replace(b"Host: test", b"Host: %b\r\nX-Request-ID: %b" % (2 * (word.encode(),)))


@pytest.mark.reliability(25, "random paths add no series to /metrics")
@pytest.mark.parametrize("paths", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_paths_add_no_series(server: Server, figure: Figure, paths: int) -> None:
    random, refused = Random(paths), 0.0

    def counted() -> float:
        return sum(server.metric("serving_requests_total", code=code) for code in ("404", "405"))

    def send(count: int) -> None:
        nonlocal refused
        refused = counted()
        with connect(server) as client:
            for _ in range(count):
                client.sendall(random_request(random))
                assert receive(client).status in {404, 405}
        until(lambda: counted() >= refused + count)

    send(100)
    # The gauges of a worker that had no time for them are left out meanwhile, of any one answer.
    before = set[str]()

    def has_them() -> bool:
        nonlocal before
        before = series(server)
        return 'serving_event_loop_lag_seconds{worker="1"}' in before

    until(has_them)
    send(paths)
    until(lambda: series(server) <= before)
    figure(f"{len(before)} series before and after {paths:,} random paths")


@pytest.mark.reliability(25, "no header or path adds a line to the log, or a control character")
def test_headers_and_paths_forge_no_lines(server: Server, figure: Figure) -> None:
    hostile = (
        f"X-Request-ID: a\r{FORGED}",
        f"X-Request-ID: a\x0b{FORGED}",
        f"X-Request-ID: a\x85{FORGED}",
        f"X-Request-ID: a\n{FORGED}",
        f"traceparent: 00-\r{FORGED}",
        f"Content-Type: application/json\r{FORGED}",
        f"X-Canary-Key: \x1b[2K\r{FORGED}",
        f"Host: \x1b[31m\n{FORGED}",
    )
    for line in hostile:
        request = whole("/predict/cars", GOOD).replace(b"Host: test", line.encode("latin-1"))
        assert exchange(server, request).status in {200, 400, 415}
    paths = [f"/predict/cars{end}{FORGED}".replace(" ", "%20") for end in ("%0a", "%0d%0a")]
    for path in paths:
        assert exchange(server, whole(path, GOOD)).status == 404
    last = whole("/predict/cars", GOOD).replace(b"Host: test", b"Host: test\r\nX-Request-ID: the-last-one")
    assert exchange(server, last).status == 200
    until(lambda: "the-last-one" in server.text)
    log = server.text
    assert not [line for line in log.splitlines() if line.startswith(FORGED)]
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f]", log)
    figure(f"{len(hostile) + len(paths)} forged headers and paths: none begins one of {len(log.splitlines())} lines")
