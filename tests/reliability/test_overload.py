"""Twice what the server can do is offered, by clients that do not wait for one another."""

import json
import math
import time
from collections.abc import Iterator
from statistics import median

import pytest

from tests.bundles import IMAGE, example_of, make_bundle
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.redeploy.offered import slow_cars
from tests.reliability.open_loop import Load, offer, saturate
from tests.reliability.payloads import GOOD
from tests.reliability.probe import Worker, exchange, percentile, whole

SLOW = whole("/predict/cars", GOOD).replace(b"Host: test", b"Host: test\r\nX-Serving-Details: 1")
QUICK = whole("/predict/clothes", json.dumps({"instances": [example_of(IMAGE)]}).encode())
OBJECTIVE_S, QUEUE_S = 0.25, 0.15
LONG_S = 10.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``cars`` takes some 5 ms a row, and a request may wait for no longer than its objective allows."""
    folder = tmp_path_factory.mktemp("overload")
    make_bundle(folder / "pre", "clothes", IMAGE)
    # Some 5 ms split over two cores, as this engine does.
    slow_cars(folder, side=770)
    told = {"SERVING_BATCH_ROWS": "1", "SERVING_MAX_QUEUE_S": str(QUEUE_S)}
    told["SERVING_OBJECTIVES"] = f"cars={1000 * OBJECTIVE_S:g}:0.99"
    with running(folder / "home", pretrained=folder / "pre", **told) as found:
        yield found


def usual_of(server: Server, request: bytes, seconds: float) -> float:
    """What an answer takes without load, in a long run; a short one, on any machine, says nothing of times."""
    usual = median(exchange(server, request).seconds for _ in range(10))
    return usual if seconds >= LONG_S else math.inf


def recovered_after(server: Server, request: bytes, usual_s: float) -> float:
    """Seconds until ten requests in a row are answered, none much later than usual.

    Raises:
        AssertionError: That takes more than 5 s; where any time is usual, a minute.
    """
    began, right = time.monotonic(), 0
    while right < 10:
        assert time.monotonic() - began < (60 if math.isinf(usual_s) else 5)
        reply = exchange(server, request)
        right = right + 1 if reply.status == 200 and reply.seconds < 5 * usual_s + 0.01 else 0
    return time.monotonic() - began


def in_words(load: Load, capacity: float) -> str:
    """The figures of a run."""
    refused = f"{len(load.refused_s)} refused"
    if load.refused_s:
        refused += f", in {1000 * median(load.refused_s):.2f} ms at the median"
    return (
        f"offered {(len(load.admitted_s) + len(load.refused_s) + load.never_sent) / load.seconds:.0f}/s; "
        f"goodput {load.goodput:.0f}/s of a capacity of {capacity:.0f}/s ({100 * load.goodput / capacity:.0f} %), "
        f"admitted p99 {1000 * percentile(load.admitted_s, 0.99):.0f} ms, {refused}"
    )


@pytest.mark.reliability(
    22, "twice the capacity of a model of 5 ms a row: goodput stays, refusals are quick, it recovers in 5 s"
)
@pytest.mark.parametrize("seconds", [2.0, pytest.param(20.0, marks=pytest.mark.slow)])
def test_twice_the_capacity_of_a_slow_model_is_refused_quickly_and_the_rest_is_answered_in_time(
    server: Server, figure: Figure, seconds: float
) -> None:
    usual = usual_of(server, SLOW, seconds)
    usually = saturate(server, SLOW, 8, seconds / 4).goodput
    with Worker.of(server).peak() as peak:
        # In a short run the machine may become twice as fast meanwhile: there it is four times.
        load = offer(server, SLOW, (2 if seconds >= LONG_S else 4) * usually, seconds, connections=300)
        recovered, most = recovered_after(server, SLOW, usual), peak()
    # What the engine could have done in the time, at the pace that it had then: the machine may be slower than before.
    capacity = load.goodput * load.seconds / load.engine_s
    figure(
        f"{in_words(load, capacity)}; objective {1000 * OBJECTIVE_S:.0f} ms; {most:.1f} MiB more at most, as before "
        f"after {recovered:.1f} s"
    )
    assert set(load.statuses) == {200, 429}
    assert (load.no_retry_after, load.broken, load.never_sent) == (0, 0, 0)
    assert most < 30
    if seconds >= LONG_S:
        assert load.goodput > 0.9 * capacity
        assert percentile(load.admitted_s, 0.99) < OBJECTIVE_S
        assert median(load.refused_s) < 0.005


@pytest.mark.reliability(22, "twice the capacity of a fast model: no hang, bounded memory, it recovers in 5 s")
@pytest.mark.parametrize("seconds", [1.0, pytest.param(LONG_S, marks=pytest.mark.slow)])
def test_twice_the_capacity_of_a_fast_model_hangs_nothing_and_it_recovers(
    server: Server, figure: Figure, seconds: float
) -> None:
    usual = usual_of(server, QUICK, seconds)
    capacity = saturate(server, QUICK, 32, seconds).goodput
    with Worker.of(server).peak() as peak:
        load = offer(server, QUICK, 2 * capacity, seconds, connections=500)
        recovered, most = recovered_after(server, QUICK, usual), peak()
    figure(
        f"{in_words(load, capacity)}, {load.never_sent} found none of 500 connections free; {most:.1f} MiB more at "
        f"most, as before after {recovered:.1f} s"
    )
    assert set(load.statuses) <= {200, 429}
    assert (load.no_retry_after, load.broken) == (0, 0)
    assert load.goodput > (0.5 * capacity if seconds >= LONG_S else 0)
    assert most < 50
