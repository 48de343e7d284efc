"""A canary ends when it is worse than production beyond a factor and beyond chance, and not otherwise."""

import numpy as np
import pytest
from scipy import stats

from models.store import Canary
from service.judge import Judge, binomial

CANARY = Canary(percent=10, requests=200)


def judged(
    judge: Judge, rng: np.random.Generator, *, errors: tuple[float, float], ms: tuple[float, float], requests: int
) -> str | None:
    """The verdict on ``requests`` of the candidate beside nine times as many of production, each with rate and mean."""
    for _ in range(requests):
        for _ in range(9):
            judge.production(rng.exponential(ms[0]) / 1000, failed=rng.random() < errors[0])
        verdict = judge.candidate(rng.exponential(ms[1]) / 1000, failed=rng.random() < errors[1])
        if verdict is not None:
            return verdict
    return None


@pytest.mark.parametrize("share", [0.01, 0.4, 0.95, 1.0])
@pytest.mark.parametrize(("hits", "trials"), [(0, 50), (1, 50), (6, 50), (14, 500), (500, 500)])
def test_the_binomial_test_agrees_with_scipy(hits: int, trials: int, share: float) -> None:
    expected = stats.binomtest(hits, trials, share, alternative="greater").pvalue
    assert binomial(hits, trials, share) == pytest.approx(expected, rel=1e-9, abs=1e-300)


@pytest.mark.parametrize(("percent", "requests"), [(1, 5), (10, 6), (50, 23)])
def test_a_candidate_that_always_fails_is_gone_after_a_few_requests(percent: int, requests: int) -> None:
    judge = Judge(CANARY)
    verdicts = []
    while not any(verdicts):
        for _ in range(100 // percent - 1):
            judge.production(0.001)
        verdicts.append(judge.candidate(0.001, failed=True))
    assert len(verdicts) == requests
    assert verdicts[-1] is not None
    assert verdicts[-1].startswith(f"error rate: {requests} of {requests} requests failed, with production 0 of ")


def test_a_candidate_may_have_as_many_errors_as_the_factor_says() -> None:
    found = []
    for seed in range(8):
        errors = np.random.default_rng(seed).random((2000, 10)) < [0.2] + [0.1] * 9
        judge = Judge(Canary(percent=10, requests=2000, error_factor=2))
        for first, *others in errors:
            for failed in others:
                judge.production(0.001, failed=failed)
            found.append(judge.candidate(0.001, failed=first))
    assert not any(found)


@pytest.mark.parametrize("seed", range(5))
def test_a_candidate_that_fails_one_in_ten_is_found_out(seed: int) -> None:
    verdict = judged(Judge(CANARY), np.random.default_rng(seed), errors=(0, 0.1), ms=(1, 1), requests=200)
    assert verdict is not None
    assert verdict.startswith("error rate")


@pytest.mark.parametrize("seed", range(5))
def test_a_candidate_five_times_as_slow_is_found_out_with_its_figures(seed: int) -> None:
    verdict = judged(Judge(CANARY), np.random.default_rng(seed), errors=(0, 0), ms=(1, 5), requests=200)
    assert verdict is not None
    assert verdict.startswith("p99: ")
    assert "over 200 requests" in verdict


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.2])
def test_a_candidate_like_production_goes_on_for_twenty_judgements(rate: float) -> None:
    rng = np.random.default_rng(1)
    assert judged(Judge(CANARY), rng, errors=(rate, rate), ms=(1, 1), requests=20 * 200) is None


def test_a_candidate_within_the_factors_goes_on() -> None:
    generous = Canary(percent=10, requests=200, error_factor=4, p99_factor=4)
    rng = np.random.default_rng(2)
    assert judged(Judge(generous), rng, errors=(0.05, 0.1), ms=(1, 2.5), requests=10 * 200) is None


def test_one_slow_request_is_chance() -> None:
    judge = Judge(Canary(percent=50, requests=50))
    for _ in range(500):
        judge.production(0.001)
    assert [judge.candidate(1.0 if n == 7 else 0.001) for n in range(50)] == [None] * 50


def test_latency_is_not_judged_against_a_handful_of_productions_requests() -> None:
    judge = Judge(Canary(percent=50, requests=50))
    for _ in range(49):
        judge.production(0.001)
    assert [judge.candidate(1.0) for _ in range(70)] == [None] * 70
    judge.production(0.001)
    assert judge.candidate(1.0) is not None, "it is judged as soon as there are enough"


def test_each_judgement_has_its_own_requests() -> None:
    judge = Judge(Canary(percent=50, requests=50))
    for _ in range(1000):
        judge.production(0.1)
    for _ in range(50):
        assert judge.candidate(0.1) is None
    for _ in range(100):
        judge.production(0.001)
    verdicts = [judge.candidate(0.1) for _ in range(50)]
    assert verdicts[-1] is not None, "production's slow time before the first judgement excuses nothing"


def test_of_few_requests_production_s_slowest_counts_too() -> None:
    judge = Judge(Canary(percent=50, requests=50))
    for n in range(50):
        judge.production(0.010 if n == 7 else 0.001)
    assert not any(judge.candidate(0.005 if n % 10 == 0 else 0.001) for n in range(50))
