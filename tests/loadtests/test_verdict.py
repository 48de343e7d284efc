"""From locust's statistics to an exit status."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from loadtests.tally import Tally
from loadtests.verdict import REFUSED, Figures, Limits, broken, figures, judge_refusal

GOOD = Figures(1000, 0, 0, 20.0, 500.0, 0, {"cars": {"1": 600, "2": 400}, "dnn": {"1": 10}})
LIMITS = Limits(0.0, 100.0, 200.0, "steady")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"failed": 1}, "failure ratio 0.0010 is above 0"),
        ({"p99_ms": 120.0}, "p99 120 ms is above 100 ms"),
        ({"requests_per_s": 150.0}, "150 requests/s is below 200"),
        ({"exceptions": 2}, "2 kinds of exception"),
        ({"answered": 0}, "no request was answered"),
    ],
)
def test_each_threshold_that_is_missed_is_named(changes: dict[str, Any], says: str) -> None:
    assert broken(GOOD, LIMITS) == []
    (problem,) = broken(replace(GOOD, **changes), LIMITS)
    assert says in problem


def test_an_overload_that_refused_nothing_was_none() -> None:
    limits = replace(LIMITS, shape="overload")
    assert "more --users" in broken(GOOD, limits)[0]
    assert broken(replace(GOOD, refused=1), limits) == []


def test_a_redeployment_must_be_seen_in_the_answers() -> None:
    limits = replace(LIMITS, shape="redeploy")
    assert broken(GOOD, limits) == []
    assert GOOD.say_versions() == ["cars: 1 answered 600, 2 answered 400"]
    assert "only one version" in broken(replace(GOOD, versions={"cars": {"1": 1000}}), limits)[0]


@dataclass
class Entry:
    name: str
    response_times: dict[int, int]
    num_failures: int = 0

    @property
    def num_requests(self) -> int:
        return sum(self.response_times.values())


@dataclass
class Stats:
    entries: dict[str, Entry]
    start_time: float = 100.0
    last_request_timestamp: float | None = 110.0
    total: Any = field(init=False)

    def __post_init__(self) -> None:
        everything = {i: entry.num_requests for i, entry in enumerate(self.entries.values())}
        self.total = Entry("Aggregated", everything)


def test_refusals_count_neither_as_answers_nor_in_the_latency() -> None:
    answers, others = Entry("cars", {10: 98, 40: 1}, num_failures=1), Entry("dnn", {10: 1})
    found = figures(Stats({"a": answers, "b": others, "c": Entry(REFUSED, {1: 900})}), 0, {})
    assert (found.answered, found.failed, found.refused) == (100, 1, 900)
    assert found.requests_per_s == 10.0
    assert found.p99_ms == 10.0


def test_a_refusal_without_a_time_to_come_again_is_a_failure_even_in_an_overload() -> None:
    assert judge_refusal("cars", "status 503: x", retry_after=True) == (REFUSED, "")
    assert judge_refusal("cars", "UNAVAILABLE", retry_after=False) == ("cars", "no Retry-After: UNAVAILABLE")


def test_a_failure_counts_wherever_it_is_counted() -> None:
    entries = {"a": Entry("cars", {10: 5000}), "c": Entry(REFUSED, {1: 900}, num_failures=900)}
    found = figures(Stats(entries), 0, {})
    assert found.failed == 900
    assert "failure ratio" in broken(found, replace(LIMITS, shape="overload"))[0]


def test_without_any_request_there_is_nothing_to_divide_by() -> None:
    found = figures(Stats({}, last_request_timestamp=None), 0, {})
    assert found.requests_per_s == 0
    assert broken(found, LIMITS) == ["no request was answered"]


def test_the_counts_of_all_processes_come_together_once() -> None:
    master, workers = Tally(), [Tally(), Tally()]
    for worker, version in zip(workers, ("1", "2"), strict=True):
        worker.note("cars", version)
        worker.note("cars", "1")
        master.take(worker.give())
        master.take(worker.give())
    assert master.versions() == {"cars": {"1": 3, "2": 1}}
