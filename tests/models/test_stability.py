"""The population stability index and chance's part in it."""

import numpy as np
import pytest

from models.stability import chance, expected, index


def test_the_index_is_the_sum_over_bins_of_difference_times_log_ratio() -> None:
    # Siddiqi's formula on shares .2, .3, .5 against .3, .3, .4; a thousand rows make the half row small.
    expected = 0.1 * np.log(0.3 / 0.2) + 0.1 * np.log(0.5 / 0.4)
    found = index(np.array([20_000, 30_000, 50_000]), np.array([30_000, 30_000, 40_000]))
    assert found == pytest.approx(expected, rel=1e-3)


def test_an_empty_bin_makes_a_large_index_and_no_infinite_one() -> None:
    assert 1 < index(np.array([50, 50, 0]), np.array([0, 50, 50])) < 20


@pytest.mark.parametrize(("bins", "before", "now"), [(10, 1000, 200), (3, 500, 500), (16, 300, 3000)])
def test_chance_exceeds_its_bound_once_in_a_thousand_times(bins: int, before: int, now: int) -> None:
    rng = np.random.default_rng(0)
    shares = np.full(bins, 1 / bins)
    drawn = [index(rng.multinomial(before, shares), rng.multinomial(now, shares)) for _ in range(20_000)]
    assert 0.0003 < np.mean(np.array(drawn) > chance(bins, before, now)) < 0.003


@pytest.mark.parametrize(("bins", "before", "now"), [(10, 1000, 200), (3, 500, 500), (16, 300, 3000)])
def test_the_expected_index_is_the_mean_without_any_change(bins: int, before: int, now: int) -> None:
    rng = np.random.default_rng(1)
    shares = np.full(bins, 1 / bins)
    drawn = [index(rng.multinomial(before, shares), rng.multinomial(now, shares)) for _ in range(5_000)]
    assert np.mean(drawn) == pytest.approx(expected(bins, before, now), rel=0.06)
