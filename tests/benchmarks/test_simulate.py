"""The simulated server, where queueing theory or plain counting says what must come out."""

from functools import partial

import numpy as np
import pytest

from benchmarks.scaling.simulate import (
    Model,
    arrivals,
    highest_rate,
    latencies,
    p50_ms,
    p99_ms,
    shared,
    split,
)

ALONE = Model({1: 0.001}, batch_rows=1, inline_rows=1, request_s=0.0, batch_s=0.0)
"""One request after the other, a millisecond each: a queue of which everything is known."""
BATCHING = Model({1: 0.001, 8: 0.002, 64: 0.008}, batch_rows=64, inline_rows=64, request_s=0.0001, batch_s=0.0001)


def test_a_lone_request_takes_all_of_its_costs_and_no_waiting() -> None:
    assert latencies(BATCHING, np.array([0.5]))[0] == pytest.approx(0.0001 + 0.0001 + 0.001)
    assert latencies(Model({1: 0.001}, 1, 1, 0.0001, 0.0, floor_s=0.002), np.array([0.5]))[0] == pytest.approx(0.0031)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_constant_service_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    due = arrivals(load / 0.001, 60, seed=1)
    expected = 0.001 + load * 0.001 / (2 * (1 - load))
    assert latencies(ALONE, due).mean() == pytest.approx(expected, rel=0.1)
    assert shared(ALONE, due, 1).mean() == pytest.approx(expected, rel=0.1)


def test_what_arrives_during_a_batch_is_the_next_one() -> None:
    found = latencies(BATCHING, np.array([0.0, 0.0002, 0.0003]))
    # The first runs alone; the two others wait for it, and are answered one after the other.
    second = BATCHING.engine_s(2) + 0.0001
    assert found[0] == pytest.approx(0.0012)
    assert found[1] == pytest.approx(0.0012 + 0.0001 + second + 0.00005 - 0.0002)
    assert found[2] == pytest.approx(0.0012 + 0.0001 + second + 0.0001 - 0.0003)


def test_no_batch_is_larger_than_the_limit() -> None:
    capped = Model({1: 0.001, 4: 0.001}, batch_rows=4, inline_rows=4, request_s=0.0, batch_s=0.0)
    found = latencies(capped, np.zeros(9))
    assert sorted(np.round(found, 6)) == [0.001] * 4 + [0.002] * 4 + [0.003]


def test_an_engine_beside_the_loop_lets_arrivals_in_meanwhile() -> None:
    inline = Model({1: 0.01}, 1, 1, request_s=0.004, batch_s=0.0)
    beside = Model({1: 0.01}, 1, 0, request_s=0.004, batch_s=0.0)
    due = np.array([0.0, 0.001])
    assert latencies(beside, due)[1] < latencies(inline, due)[1]
    assert beside.peak() == pytest.approx(100)
    assert inline.peak() == pytest.approx(1 / 0.014)


def test_every_request_is_answered_and_none_before_it_came() -> None:
    due = arrivals(0.9 * BATCHING.peak(), 5, seed=2)
    for found in (latencies(BATCHING, due), split(BATCHING, due, 3, seed=1), shared(BATCHING, due, 3)):
        assert len(found) == len(due)
        assert (found > 0).all()


def test_more_load_waits_longer_and_batching_holds_it() -> None:
    p99 = [p99_ms(latencies(BATCHING, arrivals(share * BATCHING.peak(), 10, seed=3))) for share in (0.2, 0.6, 0.9, 1.2)]
    assert p99 == sorted(p99)
    assert p99[-1] > 10 * p99[0]


def test_one_queue_for_all_waits_no_longer_than_a_queue_each() -> None:
    due = arrivals(0.8 * 4 / 0.001, 4, seed=4)
    assert p99_ms(shared(ALONE, due, 4)) < p99_ms(split(ALONE, due, 4, seed=1))
    assert p50_ms(shared(ALONE, due, 4)) < p50_ms(split(ALONE, due, 4, seed=1))


def test_the_same_seed_gives_the_same_figures() -> None:
    first, again, other = (highest_rate(partial(latencies, BATCHING), BATCHING.peak(), 10.0, 2, s) for s in (1, 1, 2))
    assert first == again
    assert abs(first - other) < 0.1 * first
    assert first < 1.2 * BATCHING.peak()
