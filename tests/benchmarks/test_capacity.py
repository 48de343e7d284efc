"""The search for the highest rate that holds in open loop."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from benchmarks.peers.capacity import holds, lagged, search
from benchmarks.plan import OpenSummary

GOOD = OpenSummary(100, 1, 50, 50, 0, 0, 0, "", False, 1.0, 5.0, 9.0, 0.1, 0.2, 0, 0.1)


def limited(limit: float) -> Callable[[float, int], OpenSummary]:
    """A server that keeps the bound up to a rate."""
    return lambda rate, _: replace(GOOD, rate=rate, p99_ms=5.0 if rate <= limit else 50.0)


def test_the_search_finds_the_highest_rate_that_holds_with_both_schedules() -> None:
    tried = []

    def attempt(rate: float, seed: int) -> OpenSummary:
        tried.append(rate)
        return replace(GOOD, p99_ms=5.0 if rate <= (640 if seed == 1 else 560) else 50.0)

    found = search(attempt, peak=1000, seeds=(1, 2))
    assert (found.rate, found.step) == (550, 50)
    assert len(tried) <= 10
    assert len(found.probes) == len(tried)


@pytest.mark.parametrize(("limit", "rate"), [(0, 0), (1e9, 1100)])
def test_the_search_ends_where_nothing_or_everything_holds(limit: float, rate: float) -> None:
    assert search(limited(limit), peak=1000, seeds=(1,)).rate == rate


@pytest.mark.parametrize("guess", [0, 1, 9, 10, 22, 40])
@pytest.mark.parametrize("limit", [0, 1, 8, 9, 10, 11, 13, 21, 22])
def test_a_search_finds_the_same_from_wherever_it_begins(limit: int, guess: int) -> None:
    found = search(limited(50 * limit), peak=1000, seeds=(1,), near=50 * guess)
    assert found.rate == 50 * limit
    assert len(found.probes) <= 8
    assert len({probe.rate for probe in found.probes}) == len(found.probes), "no rate is tried twice"


@pytest.mark.parametrize(("limit", "tried"), [(500, [500, 550]), (450, [500, 450]), (600, [500, 550, 650, 600])])
def test_a_search_that_begins_close_by_needs_few_runs(limit: float, tried: list[float]) -> None:
    found = search(limited(limit), peak=1000, seeds=(1,), near=500)
    assert [probe.rate for probe in found.probes] == tried


def test_one_late_run_costs_a_search_from_a_guess_one_step_and_a_late_generator_none() -> None:
    def first_late(lag_ms: float) -> Callable[[float, int], OpenSummary]:
        late = [replace(GOOD, rate=500.0, p99_ms=50.0, lag_p99_ms=lag_ms)]
        return lambda rate, seed: late.pop() if late else limited(500)(rate, seed)

    by_server = search(first_late(0.1), peak=1000, seeds=(1, 2), near=500)
    assert (by_server.rate, by_server.discarded, len(by_server.probes)) == (450, 0, 3)
    by_generator = search(first_late(9.0), peak=1000, seeds=(1, 2), near=500)
    assert (by_generator.rate, by_generator.discarded, len(by_generator.probes)) == (500, 1, 4)


def test_a_failed_run_in_which_the_generator_lagged_is_repeated_twice_at_most() -> None:
    late = replace(GOOD, p99_ms=50.0, lag_p99_ms=9.0)
    answers = [late, GOOD]
    assert search(lambda *_: answers.pop(0) if answers else GOOD, peak=1000, seeds=(1,)).discarded == 1
    always = search(lambda *_: late, peak=1000, seeds=(1,))
    assert always.rate == 0
    assert len(always.probes) == 3 * 5, "five rates, three runs each"
    assert always.discarded == 2 * 5


@pytest.mark.parametrize(
    "changes",
    [{"wrong": 1}, {"refused": 1}, {"broken": 1}, {"given_up": True}, {"p99_ms": 10.0}, {"correct": 49}],
)
def test_one_error_or_a_late_percentile_does_not_hold(changes: dict[str, Any]) -> None:
    assert holds(GOOD)
    assert not holds(replace(GOOD, **changes))


def test_a_run_that_held_needs_no_excuse() -> None:
    assert not lagged(replace(GOOD, lag_p99_ms=9.0))
    assert lagged(replace(GOOD, lag_p99_ms=9.0, given_up=True))
